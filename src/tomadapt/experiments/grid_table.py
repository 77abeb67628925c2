"""Table 1 out of its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tomadapt.experiments.domains import ORACLE, Cell
from tomadapt.experiments.scales import SCALES, Scale
from tomadapt.experiments.tables import Row, markdown, mean_sd, paper_values, select
from tomadapt.experiments.tasks import AdaptTask, Task, TrainTask
from tomadapt.learn.catalogue import METHODS

RIVALS = ("source_only", "ie", "sc")
"""The methods that the paper compares 3D-ADA with."""


def row_of(task: Task, cell: Cell, method: str, record: dict[str, Any], scale: Scale) -> Row:
    """One line of the records; see ``docs/experiments.md`` for its fields."""
    epochs = 0
    if isinstance(task, AdaptTask):
        epochs = getattr(task.options, "epochs", 0)
        training = task.source_model.training
    elif isinstance(task, TrainTask):
        training = task.training
    return {
        "experiment": "table1",
        "scale": scale.name,
        "source_snr": cell.source_snr,
        "target_snr": cell.target_snr,
        "method": method,
        "seed": cell.seed,
        "accuracy": record["accuracy"],
        "held_out_accuracy": record["held_out_accuracy"],
        "n_per_class": scale.per_class,
        "n_held_out_per_class": scale.held_out_per_class,
        "epochs": training.epochs,
        "adaptation_epochs": epochs,
        "warning": record.get("warning"),
        "seconds": record["seconds"],
        "torch_threads": record["torch_threads"],
        "run": task.key,
        "commit": record["commit"],
        "versions": record["versions"],
    }


def wins(rows: Sequence[Row], field: str) -> tuple[list[str], list[str]]:
    """Cells in which 3D-ADA's mean is at or above every rival's, and those where it is not."""
    won: list[str] = []
    lost: list[str] = []
    for source, target in _cells(rows):
        here = {"source_snr": source, "target_snr": target}
        means = {m: select(rows, field, method=m, **here) for m in (*RIVALS, "ada")}
        if all(means.values()):
            mean = {m: sum(v) / len(v) for m, v in means.items()}
            best = max(mean[m] for m in RIVALS)
            (won if mean["ada"] >= best else lost).append(f"{source:g} → {target:g}")
    return won, lost


def grid_table(rows: Sequence[Row]) -> str:
    """Markdown: transductive and held-out accuracy, ours with the paper's in brackets."""
    scale = SCALES[rows[0]["scale"]]
    parts = [f"# Table 1: source batch B, target batch A\n\n{scale.line}\n"]
    for field, title in (
        ("accuracy", "Transductive accuracy (the particles that were adapted to)"),
        ("held_out_accuracy", "Accuracy on target particles never seen in adaptation"),
    ):
        won, lost = wins(rows, field)
        where = f"; elsewhere: {', '.join(lost)}" if lost else ""
        parts.append(
            f"## {title}\n\nMean ± standard deviation over seeds where there are several; in "
            "brackets the paper's. Rows: source SNR and method; columns: target SNR.\n\n"
            f"{_one(rows, field, quoted=field == 'accuracy')}\n3D-ADA is at or above source only, "
            f"IE and SC in {len(won)} of {len(won) + len(lost)} cells{where}.\n"
        )
    parts.append(_sources(rows))
    return "\n".join(parts)


def _one(rows: Sequence[Row], field: str, *, quoted: bool) -> str:
    sources, targets = _axes(rows)
    lines = []
    for source in sources:
        for method in [m for m in (*METHODS, ORACLE) if select(rows, field, method=m)]:
            if method == ORACLE and field == "accuracy":
                continue  # the oracle was trained on these very labels
            line = [f"{source:g}", method]
            for target in targets:
                here = {"method": method, "source_snr": source, "target_snr": target}
                said = _paper(method, source, target) if quoted else None
                text = mean_sd(select(rows, field, **here))
                line.append(text if said is None else f"{text} ({said:.3f})")
            lines.append(line)
    return markdown(["source", "method", *(f"target {t:g}" for t in targets)], lines)


def _paper(method: str, source: float, target: float) -> float | None:
    table = paper_values()["table1"]
    if method not in table or target not in table["snrs"]:
        return None
    value: float = table[method][f"{source:g}"][table["snrs"].index(target)]
    return value


def _axes(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    sources = sorted({row["source_snr"] for row in rows}, reverse=True)
    return sources, sorted({row["target_snr"] for row in rows}, reverse=True)


def _cells(rows: Sequence[Row]) -> list[tuple[float, float]]:
    sources, targets = _axes(rows)
    return [(source, target) for source in sources for target in targets]


def _sources(rows: Sequence[Row]) -> str:
    collapsed = [row for row in rows if row["warning"]]
    seeds = sorted({row["seed"] for row in rows})
    commits = sorted({row["commit"] for row in rows})
    lines = [f"Seeds {seeds}; commits {', '.join(commits)}; {len(rows)} records."]
    lines += [
        f"{row['source_snr']:g} → {row['target_snr']:g}, {row['method']}, seed {row['seed']}: "
        f"{row['warning']}"
        for row in collapsed
    ]
    return "\n".join(lines) + "\n"
