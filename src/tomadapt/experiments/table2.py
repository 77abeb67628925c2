"""Table 2: experimental subtomograms before and after 3D-ADA, at five source SNRs (section 3.3).

The real sets are not public in a reachable place: where the user has no ``DATA/S_e1`` … the target
is a simulated *stand-in*, and every line and file says so. The paper's figures are of real sets.
"""

from __future__ import annotations

from pathlib import Path

from tomadapt.experiments.domains import method_options
from tomadapt.experiments.experimental import SETS
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.records import Planned, collect, read_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import cell, footnotes, heading, markdown, paper_values, select
from tomadapt.io.atomic import write_text

COMPARED = ("source_only", "target_statistics", "ada")
REAL, STAND_IN = "table2", "table2_stand_in"


def run(setting: Setting) -> list[Path]:
    """Train on each simulated source, adapt, and write records and table."""
    planned: dict[str, list[Planned]] = {REAL: [], STAND_IN: []}
    for expected in SETS:
        target, is_stand_in = expected.target(setting.scale, setting.data)
        name = f"{expected.name}, stand-in" if is_stand_in else expected.name
        for snr in setting.scale.snrs:
            source = expected.source(setting.scale, setting.data, snr)
            trained = TrainTask(data=source, training=setting.scale.training)
            for method in COMPARED:
                options = method_options(method, setting.scale, seed=0)
                task = AdaptTask(
                    method=method, source_model=trained, target=target, options=options
                )
                row = {"set": name, "source_snr": snr, "method": method, "seed": 0}
                planned[STAND_IN if is_stand_in else REAL].append((task, row))
    written: dict[str, list[Path]] = {}
    for kind, runs in planned.items():
        for _ in collect(setting, kind, [runs], whole=runs) if runs else ():
            written[kind] = write_table(setting, kind)
    return [path for paths in written.values() for path in paths]


def write_table(setting: Setting, kind: str = STAND_IN) -> list[Path]:
    """Make the table from the records, without running anything."""
    records, table = setting.file(f"{kind}.jsonl"), setting.file(f"{kind}.md")
    rows, paper, lines = read_rows(records), paper_values()["table2"], []
    snrs = sorted({row["source_snr"] for row in rows}, reverse=True)
    for name in dict.fromkeys(row["set"] for row in rows):
        for method in COMPARED:
            line = [name, method]
            for snr in snrs:
                said = paper.get(method, {}).get(name.removesuffix(", stand-in"))
                quoted = None if said is None else said[paper["snrs"].index(snr)]
                here = select(rows, set=name, method=method, source_snr=snr)
                line.append(cell(here, "accuracy", paper=quoted))
            lines.append(line)
    title = "Table 2, stand-in" if kind == STAND_IN else "Table 2"
    caveat = ", which a stand-in is not" if kind == STAND_IN else ""
    text = heading(title, rows)
    text += f"Transductive accuracy; in brackets the paper's, of the real sets{caveat}.\n\n"
    text += markdown(["set", "method", *(f"source SNR {snr:g}" for snr in snrs)], lines)
    write_text(table, f"{text}\n{footnotes(rows)}")
    return [records, table]
