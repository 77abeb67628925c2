"""Table 2: experimental subtomograms before and after 3D-ADA, at five source SNRs (section 3.3).

The real sets are not public in a reachable place: where the user has no ``DATA/S_e1`` … the target
is a simulated *stand-in*, and every line and file says so. The paper's figures are of real sets.
"""

from __future__ import annotations

from pathlib import Path

from tomadapt.experiments.complexes import structure_files
from tomadapt.experiments.domains import method_options
from tomadapt.experiments.experimental import SETS, ExperimentalSet
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.particles import LabelledFolder, Particles
from tomadapt.experiments.records import Planned, collect, read_rows, require_own_records
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import (
    cell,
    footnotes,
    heading,
    markdown,
    paper_values,
    quotes_paper,
    select,
)
from tomadapt.runs.atomic import write_text

COMPARED = ("source_only", "target_statistics", "ada")
REAL, STAND_IN = "table2", "table2_stand_in"


def run(setting: Setting) -> list[Path]:
    """Train on each simulated source, adapt, and write records and table."""
    scale, data = setting.scale, setting.data
    if not scale.builtin:  # all that is missing is named at once
        structure_files([c for expected in SETS for c in expected.complexes.values()], data)
    real: list[Planned] = []
    stand_ins: list[Planned] = []
    wanted: list[Planned] = []
    for expected in SETS:
        volumes = expected.real(
            scale, data, voxel_size_A=setting.voxel_size_A, contrast=setting.contrast
        )
        simulated = plan(setting, expected, expected.stand_in(scale, data), ", stand-in")
        stand_ins += simulated
        if volumes is None:
            wanted += simulated
        else:
            real += plan(setting, expected, volumes, "")
    runs = {REAL: (real, real), STAND_IN: (wanted, stand_ins)}
    runs = {kind: (run, whole) for kind, (run, whole) in runs.items() if run}
    for kind, (_, whole) in runs.items():
        require_own_records(setting, kind, whole)
    written: dict[str, list[Path]] = {}
    for kind, (some, whole) in runs.items():
        for _ in collect(setting, kind, [some], whole=whole):
            written[kind] = table(setting, kind)
    return [path for paths in written.values() for path in paths]


def plan(
    setting: Setting, expected: ExperimentalSet, target: Particles | LabelledFolder, note: str
) -> list[Planned]:
    """The runs of one set: every source SNR, every method."""
    planned: list[Planned] = []
    for snr in setting.scale.snrs:
        source = expected.source(setting.scale, setting.data, snr)
        trained = TrainTask(data=source, training=setting.scale.training)
        for method in COMPARED:
            options = method_options(method, setting.scale, seed=0)
            task = AdaptTask(method=method, source_model=trained, target=target, options=options)
            name = f"{expected.name}{note}"
            row = {"set": name, "source_snr": snr, "method": method, "seed": 0}
            planned.append((task, row))
    return planned


def write_table(setting: Setting) -> list[Path]:
    """Make the tables from the records there are, without running anything."""
    kinds = [kind for kind in (REAL, STAND_IN) if setting.file(f"{kind}.jsonl").exists()]
    return [path for kind in kinds or [STAND_IN] for path in table(setting, kind)]


def table(setting: Setting, kind: str) -> list[Path]:
    """Make the table of the real sets or of the stand-ins."""
    records, out = setting.file(f"{kind}.jsonl"), setting.file(f"{kind}.md")
    rows, paper, lines = read_rows(records, kind), paper_values()["table2"], []
    snrs = sorted({row["source_snr"] for row in rows}, reverse=True)
    for name in dict.fromkeys(row["set"] for row in rows):
        for method in COMPARED:
            line = [name, method]
            for snr in snrs:
                said = paper.get(method, {}).get(name.removesuffix(", stand-in"))
                quotable = said is not None and quotes_paper(rows)
                quoted = said[paper["snrs"].index(snr)] if quotable else None
                here = select(rows, set=name, method=method, source_snr=snr)
                line.append(cell(here, "accuracy", paper=quoted))
            lines.append(line)
    title = "Table 2, stand-in" if kind == STAND_IN else "Table 2"
    caveat = ", which a stand-in is not" if kind == STAND_IN else ""
    text = heading(title, rows)
    text += "Transductive accuracy"
    text += f"; in brackets the paper's, of the real sets{caveat}" if quotes_paper(rows) else ""
    text += ".\n\n"
    text += markdown(["set", "method", *(f"source SNR {snr:g}" for snr in snrs)], lines)
    write_text(out, f"{text}\n{footnotes(rows)}")
    return [records, out]
