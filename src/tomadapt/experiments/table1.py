"""Table 1: accuracy on batch A of models trained on batch B, 5 × 5 SNRs (section 3.1.1).

The paper: 3D-ADA is best in 24 of the 25 cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import ORACLE, Batches, Cell, require_methods
from tomadapt.experiments.grid_table import grid_table
from tomadapt.experiments.records import Planned, collect, read_rows
from tomadapt.experiments.scales import Scale, Setting
from tomadapt.io.atomic import write_text
from tomadapt.learn.catalogue import METHODS


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
    known = {f"{s:g}:{t:g}": Cell(s, t) for s in scale.snrs for t in scale.snrs}
    for text in texts:
        if text not in known:
            raise ConfigError(
                f"no cell {text!r} at scale {scale.name}",
                expected=f"SOURCE:TARGET of SNRs {', '.join(f'{s:g}' for s in scale.snrs)}",
                remedy="mend --cell",
            )
    return tuple(known[text] for text in texts)


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
    for _ in collect(setting, "table1", groups, whole=whole):
        written = write_table(setting)
    return written


def write_table(setting: Setting) -> list[Path]:
    """Make the table from the records, without running anything."""
    records, table = setting.file("table1.jsonl"), setting.file("table1.md")
    write_text(table, grid_table(read_rows(records)))
    return [records, table]
