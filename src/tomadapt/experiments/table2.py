"""Table 2: experimental subtomograms before and after 3D-ADA, at five source SNRs (section 3.3).

The real sets are not public in a reachable place: where the user has no ``DATA/S_e1`` … the target
is a simulated *stand-in*, and every line says so. The paper's figures are of the real sets.
"""

from __future__ import annotations

from typing import Any

from tomadapt.experiments.domains import method_options
from tomadapt.experiments.experimental import SETS, SOURCE_PER_CLASS
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import Row, markdown, mean_sd, paper_values, select, write_rows
from tomadapt.experiments.tasks import AdaptTask, TrainTask
from tomadapt.io.atomic import write_text

TITLE = "Table 2"
FILES = ("table2.jsonl", "table2.md")
METHODS = ("source_only", "target_statistics", "ada")


def run(setting: Setting) -> None:
    """Train on each simulated source, adapt, and write records and table."""
    scale = setting.scale
    planned: dict[str, tuple[AdaptTask, dict[str, Any]]] = {}
    for expected in SETS:
        target, is_stand_in = expected.target(scale, setting.data, seed=0)
        name = f"{expected.name}, stand-in" if is_stand_in else expected.name
        for snr in scale.snrs:
            source = expected.source(scale, setting.data, snr, seed=0)
            trained = TrainTask(data=source, training=scale.training)
            for method in METHODS:
                options = method_options(method, scale, seed=0)
                task = AdaptTask(
                    method=method, source_model=trained, target=target, options=options
                )
                about = {"set": name, "source_snr": snr, "method": method}
                planned[task.key] = task, about
    rows: list[Row] = []
    for done, record in setting.run([task for task, _ in planned.values()], TITLE):
        if done.key in planned:
            about = {"experiment": "table2", "scale": scale.name, **planned[done.key][1]}
            kept = {key: record[key] for key in ("accuracy", "n", "warning", "seconds", "commit")}
            rows.append(about | kept)
            write_rows(setting.file(FILES[0]), rows)
    paper, lines = paper_values()["table2"], []
    for name in dict.fromkeys(row["set"] for row in rows):
        for method in METHODS:
            line = [name, method]
            for snr in scale.snrs:
                ours = mean_sd(select(rows, "accuracy", set=name, method=method, source_snr=snr))
                said = paper.get(method, {}).get(name[:4])
                column = paper["snrs"].index(snr)
                line.append(ours if said is None else f"{ours} ({said[column]:.3f})")
            lines.append(line)
    stand_ins = any("stand-in" in row["set"] for row in rows)
    title = f"{TITLE}, stand-in" if stand_ins else TITLE
    intro = (
        f"# {title}\n\n{scale.line}; source {SOURCE_PER_CLASS[scale.name]} per class.\n\n"
        "Transductive accuracy before and after; in brackets the paper's, on the real sets"
        f"{', which a stand-in is not' if stand_ins else ''}. Columns: SNR of the source.\n\n"
    )
    heading = ["set", "method", *(f"SNR {s:g}" for s in scale.snrs)]
    write_text(setting.file(FILES[1]), intro + markdown(heading, lines))
