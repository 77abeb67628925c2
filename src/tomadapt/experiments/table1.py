"""Table 1: accuracy on batch A of models trained on batch B, 5 × 5 SNRs (section 3.1.1).

The paper: 3D-ADA is best in 24 of the 25 cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from tomadapt.errors import ConfigError
from tomadapt.experiments.domains import ORACLE, Batches, Cell, require_methods
from tomadapt.experiments.grid_table import grid_table, row_of
from tomadapt.experiments.scales import Scale, Setting
from tomadapt.experiments.tables import read_rows, write_rows
from tomadapt.experiments.tasks import Task
from tomadapt.io.atomic import write_text
from tomadapt.learn.catalogue import METHODS

Planned = tuple[Task, Cell, str]
TITLE = "Table 1: source batch B, target batch A"
FILES = ("table1.jsonl", "table1.md")


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
    """Every task with its cell and method, in the order in which they are worth having."""
    batches = Batches(setting.scale, setting.scale.classes(setting.data))
    return [
        (batches.oracle(cell) if method == ORACLE else batches.adapted(cell, method), cell, method)
        for seed in range(setting.scale.seeds_marked)
        for method in (*METHODS, ORACLE)
        for cell in cells(setting.scale)
        if cell.seed == seed
    ]


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


def run(setting: Setting, only: tuple[Cell, ...] = (), methods: tuple[str, ...] = ()) -> None:
    """Run the grid or some of it; records and table are written anew as each cell is finished."""
    require_methods(methods)
    whole = plan(setting)
    wanted = [
        (task, cell.seed)
        for task, cell, method in whole
        if (not methods or method in methods) and (not only or replace(cell, seed=0) in only)
    ]
    path, keys = setting.file(FILES[0]), {task.key for task, _ in wanted}
    # Seed by seed: a cluster would otherwise begin further seeds before the first is complete.
    waves = [
        [task for task, of in wanted if of == seed] for seed in range(setting.scale.seeds_marked)
    ]
    # What other calls have finished stays, as long as it belongs to this very grid.
    rows = {(r["run"], r["source_snr"]): r for r in (read_rows(path) if path.exists() else [])}
    for finished, record in chain.from_iterable(setting.run(wave, TITLE) for wave in waves):
        if finished.key in keys:
            for task, cell, method in whole:
                if task.key == finished.key:
                    row = row_of(task, cell, method, record, setting.scale)
                    rows[task.key, cell.source_snr] = row
            order = [(task.key, cell.source_snr) for task, cell, _ in whole]
            write_rows(path, [rows[key] for key in order if key in rows])
            write_table(setting)


def write_table(setting: Setting) -> None:
    """Make the table from the records, without running anything."""
    write_text(setting.file(FILES[1]), grid_table(read_rows(setting.file(FILES[0]))))
