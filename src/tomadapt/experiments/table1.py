"""Table 1: accuracy on batch A of models trained on batch B, 5 × 5 SNRs (section 3.1.1).

The paper: 3D-ADA is best in 24 of the 25 cells.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import ORACLE, Cell, PaperDomains, require_methods
from tomadapt.experiments.records import Planned, Row, collect, read_rows
from tomadapt.experiments.scales import Scale, Setting
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
from tomadapt.runs.atomic import write_text


def cells(scale: Scale) -> Iterator[Cell]:
    """One seed everywhere, then further seeds on the diagonal and in the corners."""
    ends = (scale.snrs[0], scale.snrs[-1])
    for seed in range(scale.seeds_marked):
        for source in scale.snrs:
            for target in scale.snrs:
                marked = source == target or (source in ends and target in ends)
                if seed < scale.seeds or marked:
                    yield Cell(source, target, seed)


def plan(setting: Setting) -> list[Planned]:
    """Every run of the grid with its row, in the order in which they are worth having."""
    batches = PaperDomains(setting.scale, setting.scale.classes(setting.data))
    planned: list[Planned] = []
    for seed in range(setting.scale.seeds_marked):
        for method in (*METHODS, ORACLE):
            for at in (at for at in cells(setting.scale) if at.seed == seed):
                oracle = method == ORACLE
                task = batches.oracle(at) if oracle else batches.adapted(at, method)
                planned.append((task, at.fields | {"method": method, "seed": seed}))
    return planned


def parse_cells(scale: Scale, texts: Sequence[str]) -> tuple[Cell, ...]:
    """Cells from ``SOURCE:TARGET``.

    Raises
    ------
    ConfigError
        When the grid has no such cell.
    """
    found = []
    for text in texts:
        source, _, target = text.partition(":")
        try:
            at = Cell(float(source), float(target))
        except ValueError:
            at = Cell(math.nan, math.nan)
        if not {at.source_snr, at.target_snr} <= set(scale.snrs):
            raise ConfigError(
                f"no cell {text!r} at scale {scale.name}",
                expected=f"SOURCE:TARGET of SNRs {', '.join(f'{s:g}' for s in scale.snrs)}",
                remedy="mend --cell",
            )
        found.append(at)
    return tuple(found)


def run(
    setting: Setting,
    *,
    only: tuple[Cell, ...] = (),
    methods: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
) -> list[Path]:
    """Run the grid or some of it; records and table are written anew as each run is finished."""
    require_methods(methods)
    whole = plan(setting)
    groups: list[list[Planned]] = [[] for _ in range(setting.scale.seeds_marked)]
    for task, row in whole:
        in_cell = not only or Cell(row["source_snr"], row["target_snr"]) in only
        in_methods = not methods or row["method"] in methods
        if in_cell and in_methods and (not seeds or row["seed"] in seeds):
            groups[row["seed"]].append((task, row))
    if not any(groups):
        raise ConfigError(
            "none of these cells has such a seed",
            expected=f"seeds below {setting.scale.seeds}; further ones on the diagonal and corners",
            got=f"{', '.join(map(str, seeds))}",
            remedy="mend --cell or --seed",
        )
    for _ in collect(setting, "table1", groups, whole=whole):
        written = write_table(setting)
    return written


def write_table(setting: Setting) -> list[Path]:
    """Make the table from the records, without running anything."""
    records, table = setting.file("table1.jsonl"), setting.file("table1.md")
    write_text(table, grid_table(read_rows(records, "table1")))
    return [records, table]


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
    for source, target in itertools.product(*_axes(rows)):
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
    fell_back = {
        f"{row['source_snr']:g} → {row['target_snr']:g}"
        for row in select(rows, method="ada")
        if row["warning"]
    }
    by_falling_back = len(fell_back & set(won))
    note = f", {by_falling_back} of them where it fell back" if by_falling_back else ""
    return (
        f"`ada` is at or above {', '.join(f'`{r}`' for r in rivals)} in {len(won)} of "
        f"{len(won) + len(lost)} cells{note}{where}.\n\n"
    )


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
