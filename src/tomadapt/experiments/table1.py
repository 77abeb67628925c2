"""Table 1: accuracy on batch A of models trained on batch B, 5 × 5 SNRs (section 3.1.1).

The paper: 3D-ADA is best in 24 of the 25 cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import ORACLE, Batches, Cell, require_methods
from tomadapt.experiments.grid_table import grid_table
from tomadapt.experiments.records import Planned, collect, read_rows
from tomadapt.experiments.scales import Scale, Setting
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
    batches = Batches(setting.scale, setting.scale.classes(setting.data))
    planned: list[Planned] = []
    for seed in range(setting.scale.seeds_marked):
        for method in (*METHODS, ORACLE):
            for cell in (cell for cell in cells(setting.scale) if cell.seed == seed):
                oracle = method == ORACLE
                task = batches.oracle(cell) if oracle else batches.adapted(cell, method)
                planned.append((task, cell.fields | {"method": method, "seed": seed}))
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
            cell = Cell(float(source), float(target))
        except ValueError:
            cell = Cell(math.nan, math.nan)
        if not {cell.source_snr, cell.target_snr} <= set(scale.snrs):
            raise ConfigError(
                f"no cell {text!r} at scale {scale.name}",
                expected=f"SOURCE:TARGET of SNRs {', '.join(f'{s:g}' for s in scale.snrs)}",
                remedy="mend --cell",
            )
        found.append(cell)
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
