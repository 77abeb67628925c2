"""Table 1's targets labelled by likelihood, and by a network that learns from it.

Neither uses a source: structures and the target's acquisition take its place, so that every row of
the source in Table 1 has the same figure. The paper has no such rows; its 3D-ADA is beside them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition
from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.judge_tasks import JudgeTask, StudentTask
from tomadapt.experiments.records import Results, Row, read_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown
from tomadapt.experiments.task import Task
from tomadapt.learn.student import StudentTraining, snr_range_about

SEED = 1000
"""Of the simulated particles that students learn from: no target has it."""
FIELDS = ("accuracy", "held_out_accuracy")


def run(setting: Setting) -> list[Path]:
    """Label each target by each method; records and table are written as they come."""
    results = Results.of(setting, "student", lambda rows: _table(rows, setting))
    methods = {task.key: about for task, about in _plan(setting)}
    for task, record in setting.run([[task] for task, _ in _plan(setting)], "student"):
        # The judge comes again as what its student requires.
        if task.key in methods and task.key not in {row["run"] for row in results.rows}:
            kept = {k: record.get(k) for k in (*FIELDS, "n", "n_held_out", "agreement", "snr")}
            kept |= {k: record.get(k) for k in ("defocus_um", "seconds", "commit")}
            results.add({**methods[task.key], **kept, "run": task.key})
    return results.files


def _plan(setting: Setting) -> Iterator[tuple[Task, Row]]:
    """Every task with its row: all judges, then their students; SNRs of the middle first."""
    scale = setting.scale
    batches = PaperDomains(scale, scale.classes(setting.data))
    middle_first = sorted(scale.snrs, key=lambda s: abs(s - 0.05))
    targets = {snr: batches.target(Cell(snr, snr)) for snr in middle_first}
    judges = {snr: JudgeTask(target=target, stated=BATCH_A) for snr, target in targets.items()}
    for snr, known in judges.items():
        yield known, {"target_snr": snr, "scale": scale.name, "method": "likelihood"}
    for snr, known in judges.items():
        about: Row = {"target_snr": snr, "scale": scale.name, "method": "student"}
        yield _student(batches, known, BATCH_A, snr), about
    for snr, target in targets.items():
        about = {"target_snr": snr, "scale": scale.name}
        estimated = JudgeTask(target=target, stated=BATCH_B, estimated=True)
        yield estimated, {**about, "method": "likelihood_estimated_acquisition"}


def _student(batches: PaperDomains, judge: JudgeTask, like: Acquisition, snr: float) -> StudentTask:
    source = batches.particles(like, snr, seed=SEED)
    return StudentTask(
        judge=judge,
        source=source.model_copy(update={"per_class": source.made.simulation.per_class}),
        training=StudentTraining(
            epochs=batches.scale.training.epochs,
            batch_size=batches.scale.training.batch_size,
            snr_range=snr_range_about(snr),
        ),
    )


def _table(rows: Sequence[Row], setting: Setting) -> str:
    """Ours by target, beside Table 1's 3D-ADA over all sources and its oracle."""
    targets = sorted({row["target_snr"] for row in rows}, reverse=True)
    path = setting.file("table1.jsonl")
    others = read_rows(path, "table1") if path.is_file() else []
    parts = ["# Table 1's targets, labelled by likelihood and by its student\n"]
    for field in FIELDS:
        lines = []
        for method in dict.fromkeys(row["method"] for row in rows):
            of = {r["target_snr"]: r.get(field) for r in rows if r["method"] == method}
            figures = [of.get(t) for t in targets]
            lines.append([method, *("" if v is None else f"{v:.3f}" for v in figures)])
        for method in ("ada", "oracle"):
            line = [method]
            for t in targets:
                cells: dict[float, list[float]] = {}
                for r in others:
                    if r["method"] == method and r["target_snr"] == t:
                        cells.setdefault(r["source_snr"], []).append(r[field])
                means = [statistics.fmean(v) for v in cells.values()]
                line.append(f"{min(means):.3f} to {max(means):.3f}" if means else "")
            lines.append(line)
        parts.append(f"\n## {field}\n\n" + markdown(["method", *map(str, targets)], lines))
    return "".join(parts)
