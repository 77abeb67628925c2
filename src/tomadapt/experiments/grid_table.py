"""Table 1 out of its records."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tomadapt.experiments.domains import ORACLE
from tomadapt.experiments.records import Row
from tomadapt.experiments.tables import (
    cell,
    footnotes,
    heading,
    markdown,
    paper_values,
    quotes_paper,
    select,
)
from tomadapt.learn.catalogue import METHODS

PAPERS_RIVALS = ("source_only", "ie", "sc")
"""The methods that the paper compares 3D-ADA with; all keep the source's statistics."""

FURTHER_RIVALS = ("target_statistics", "ie_target_statistics", "sc_target_statistics")
"""The same, with normalisation statistics re-estimated on the target, as 3D-ADA has them."""

BRACKETS = (
    "In brackets the paper's, of its own 22 complexes; most of ours are stand-ins "
    "(docs/experiments.md). "
)
WITHIN = 1e-9
"""Accuracies that differ by less are equal: means are rounded."""


def wins(rows: Sequence[Row], field: str, rivals: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cells in which 3D-ADA is at or above every rival, and those where it is not.

    Means are taken over the seeds that all of them have; a cell that lacks a method is in neither.
    """
    won: list[str] = []
    lost: list[str] = []
    for source, target in _cells(rows):
        here = select(rows, source_snr=source, target_snr=target)
        values = {
            method: {row["seed"]: row[field] for row in select(here, method=method)}
            for method in (*rivals, "ada")
        }
        seeds = set.intersection(*(set(of) for of in values.values()))
        if not seeds:
            continue
        mean = {m: statistics.fmean(of[seed] for seed in sorted(seeds)) for m, of in values.items()}
        best = max(mean[method] for method in rivals)
        (won if mean["ada"] >= best - WITHIN else lost).append(f"{source:g} → {target:g}")
    return won, lost


def grid_table(rows: Sequence[Row]) -> str:
    """Markdown: transductive and held-out accuracy, ours with the paper's in brackets."""
    parts = [
        heading("Table 1: source batch B, target batch A", rows),
        "Mean ± standard deviation over seeds where there are several. "
        + (BRACKETS if quotes_paper(rows) else "")
        + "`ie` and `sc` keep the source's normalisation statistics, as `source_only` does; the "
        "paper's network has no such layers. † marks what its method warned of.\n",
    ]
    for field, title in (
        ("accuracy", "Transductive accuracy (the particles that were adapted to)"),
        ("held_out_accuracy", "Accuracy on target particles never seen in adaptation"),
    ):
        parts.append(f"\n## {title}\n\n{_one(rows, field, transductive=field == 'accuracy')}\n")
        parts += [_count(rows, field, rivals) for rivals in (PAPERS_RIVALS, FURTHER_RIVALS)]
    return "".join([*parts, footnotes(rows)])


def _count(rows: Sequence[Row], field: str, rivals: Sequence[str]) -> str:
    """How often 3D-ADA is at or above these, as a sentence; nothing where that is not known."""
    won, lost = wins(rows, field, rivals)
    if not won + lost:
        return ""
    where = f"; elsewhere: {', '.join(lost)}" if lost else ""
    fell_back = {_name(row) for row in select(rows, method="ada") if row["warning"]}
    by_falling_back = len(fell_back & set(won))
    note = f", {by_falling_back} of them where it fell back" if by_falling_back else ""
    return (
        f"`ada` is at or above {', '.join(f'`{r}`' for r in rivals)} in {len(won)} of "
        f"{len(won) + len(lost)} cells{note}{where}.\n\n"
    )


def _name(row: Row) -> str:
    return f"{row['source_snr']:g} → {row['target_snr']:g}"


def _one(rows: Sequence[Row], field: str, *, transductive: bool) -> str:
    sources, targets = _axes(rows)
    # The oracle was trained on the very particles that are adapted to.
    methods = METHODS if transductive else (*METHODS, ORACLE)
    quoted = transductive and quotes_paper(rows)
    lines = []
    for source in sources:
        for method in [m for m in methods if select(rows, method=m)]:
            of_method = select(rows, method=method, source_snr=source)
            line = [f"{source:g}", method]
            for target in targets:
                said = _paper(method, source, target) if quoted else None
                line.append(cell(select(of_method, target_snr=target), field, paper=said))
            lines.append(line)
    return markdown(["source SNR", "method", *(f"target {t:g}" for t in targets)], lines)


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
