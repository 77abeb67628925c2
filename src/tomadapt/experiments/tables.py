"""Tables made from records; nothing here runs anything."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from tomadapt.experiments.records import Row
from tomadapt.experiments.scales import SCALES

WARNED = "†"
"""Marks figures of which a method said itself that they are not to be trusted."""


@cache
def paper_values() -> dict[str, Any]:
    """What the paper prints, from ``paper_values.toml``."""
    return tomllib.loads((files("tomadapt.experiments") / "paper_values.toml").read_text())


def mean_sd(values: Sequence[float], digits: int = 3) -> str:
    """``0.912`` for one value, ``0.912 ± 0.004`` (sample standard deviation) for several."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that match."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def cell(rows: Sequence[Row], field: str, *, paper: float | None = None) -> str:
    """Mean and deviation of some rows, marked where one was warned of, and the paper's figure."""
    values = [row[field] for row in rows if row.get(field) is not None]
    text = mean_sd(values) + (WARNED if any(row.get("warning") for row in rows) else "")
    return text if paper is None else f"{text} ({paper:.3f})"


def markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    body = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join(["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading), *body, ""])


def text(value: object, form: str = ".3g") -> str:
    """A cell: numbers with few digits, and a dash for what is not there."""
    if value is None or value == {}:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:{form}}" if abs(value) < 100 else f"{value:.0f}"


def row_table(columns: Sequence[str], rows: Iterable[Row], form: str = ".3g") -> str:
    """A Markdown table of some of the fields of rows."""
    return markdown(columns, [[text(row.get(name), form) for name in columns] for row in rows])


def titled_table(
    title: str, columns: Sequence[str], rows: Iterable[Row], *, form: str = ".3g"
) -> str:
    """The same under a heading."""
    return f"# {title}\n\n{row_table(columns, rows, form)}"


def heading(title: str, rows: Sequence[Row]) -> str:
    """A table's title, and its scale as the records have it."""
    scale = SCALES[rows[0]["scale"]]
    adapted = max(row["adaptation_epochs"] for row in rows)
    classes = sorted({row["n_classes"] for row in rows})
    chance = ", ".join(f"{1 / n:.3f} for {n} classes" for n in classes)
    return (
        f"# {title}\n\nScale {scale.name}: {_range(rows, 'n_per_class')} source particles per "
        f"class; of the target {_range(rows, 'n')} particles of all classes adapted to, "
        f"{_range(rows, 'n_held_out')} held out; {rows[0]['network']} network, "
        f"{_range(rows, 'epochs')} epochs, adaptation {adapted} epochs ({scale.note}). By chance: "
        f"{chance}.\n\n"
    )


def quotes_paper(rows: Sequence[Row]) -> bool:
    """Whether the paper's figures may stand beside these: not beside those of a plumbing test."""
    return not SCALES[rows[0]["scale"]].builtin


def _range(rows: Sequence[Row], field: str) -> str:
    values = sorted({row[field] for row in rows})
    return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"


def footnotes(rows: Sequence[Row]) -> str:
    """Where the figures come from, and what methods said against themselves."""
    seeds = sorted({row["seed"] for row in rows})
    commits = sorted({row["commit"] for row in rows})
    lines = [f"{len(rows)} records, seeds {seeds}, code of {', '.join(commits)}."]
    for method in dict.fromkeys(row["method"] for row in rows):
        warnings = [row["warning"] for row in select(rows, method=method) if row["warning"]]
        if warnings:
            lines.append(f"{WARNED} {method}, {len(warnings)} times, such as: {warnings[0]}.")
    return "\n\n".join(lines) + "\n"
