"""Records of experiments: one JSON object for each run of a table, kept with the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomadapt.errors import InputError, OutputError
from tomadapt.experiments.grid import Record, commit
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.scales import Setting
from tomadapt.runs.atomic import output_folder, write_text
from tomadapt.runs.json_files import json_object

Row = dict[str, Any]
Planned = tuple[AdaptTask | TrainTask, Row]
"""A task, and what its row says besides what was measured."""


def collect(
    setting: Setting,
    experiment: str,
    groups: Sequence[Sequence[Planned]],
    *,
    whole: Sequence[Planned],
) -> Iterator[list[Row]]:
    """Run tasks, and after each give the rows there are; they are written as they come.

    Parameters
    ----------
    setting
        What the experiment is run with.
    experiment
        Its name, and that of its file of records.
    groups
        What to run, one group after another.
    whole
        All that belongs to the experiment, in the order of its rows. Rows of earlier calls are
        kept.

    Raises
    ------
    OutputError
        When the file holds rows that are not of this experiment: nothing is run.
    """
    path = setting.file(f"{experiment}.jsonl")
    fields = list(whole[0][1])
    planned = {_place(task.key, about, fields): (task, about) for task, about in whole}
    require_own_records(setting, experiment, whole)
    wanted = {task.key for group in groups for task, _ in group}
    finished: dict[str, Record] = {}
    for task, record in setting.run([[task for task, _ in group] for group in groups], experiment):
        finished[task.key] = record
        if task.key in wanted:
            # Read again each time: another command may be adding other cells.
            rows = {_place(row["run"], row, fields): row for row in _present(path)}
            for place, (made, about) in planned.items():
                if place[0] in finished:
                    rows[place] = _row(made, finished[place[0]], about, setting, experiment)
            inside = [rows[place] for place in planned if place in rows]
            write_rows(path, inside)
            yield inside


def require_own_records(setting: Setting, experiment: str, whole: Sequence[Planned]) -> None:
    """Refuse a file of records that hold other runs: they would be lost.

    Raises
    ------
    OutputError
        Naming one of them.
    """
    path, fields = setting.file(f"{experiment}.jsonl"), list(whole[0][1])
    places = {_place(task.key, about, fields) for task, about in whole}
    foreign = [row for row in _present(path) if _place(row.get("run"), row, fields) not in places]
    if foreign:
        raise OutputError(
            f"{path} holds {len(foreign)} records of another configuration",
            expected="records of this very experiment, data and version, or no file",
            got=f"for example {foreign[0].get('run')}",
            remedy="choose another --out, or move that file away",
        )


def _place(run: Any, about: Row, fields: Sequence[str]) -> tuple[Any, ...]:
    return run, *(about.get(field) for field in fields)


def _row(
    task: AdaptTask | TrainTask, record: Record, about: Row, setting: Setting, experiment: str
) -> Row:
    trained = task.source_model if isinstance(task, AdaptTask) else task
    options = task.options if isinstance(task, AdaptTask) else None
    kept = ("accuracy", "held_out_accuracy", "n", "n_held_out", "seconds", "resumed")
    return {
        "experiment": experiment,
        "scale": setting.scale.name,
        **about,
        **{key: record[key] for key in kept},
        "n_classes": len(trained.data.made.simulation.classes) - len(trained.data.without),
        "n_per_class": trained.data.per_class,
        "epochs": trained.training.epochs,
        "adaptation_epochs": getattr(options, "epochs", 0),
        "network": trained.training.network,
        "warning": record.get("warning"),
        "torch_threads": record["torch_threads"],
        "run": task.key,
        "commit": record["commit"],
        "versions": record["versions"],
    }


def _present(path: Path) -> list[Row]:
    return read_rows(path) if path.exists() else []


AGAIN = "move that file away and run the experiment again: finished tasks are kept"


def read_rows(path: Path, experiment: str | None = None) -> list[Row]:
    """Read a file of records, of one experiment if it is named.

    Raises
    ------
    InputError
        When there is no such file, it has no records, or a line is not a JSON object or not of
        that experiment.
    """
    if not path.is_file():
        raise InputError(
            f"no records at {path}",
            expected="JSON lines",
            got="nothing",
            remedy="run the experiment first, or name the folder of its records with --out",
        )
    rows = [
        json_object(
            line,
            what=f"line {number} of {path}",
            remedy=AGAIN,
        )
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ]
    if not rows:
        raise InputError(
            f"no records in {path}",
            expected="JSON lines",
            got="an empty file",
            remedy=AGAIN,
        )
    others = {row.get("experiment") for row in rows} - {experiment}
    if experiment is not None and others:
        raise InputError(
            f"{path} holds records of another experiment",
            expected=experiment,
            got=", ".join(map(str, others)),
            remedy=AGAIN,
        )
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


@dataclass(frozen=True)
class Results:
    """The rows of an experiment, written with their table as they come.

    Attributes
    ----------
    setting, name
        The experiment, whose files are called after it.
    table
        Makes the table's text of all rows.
    about
        What every row begins with.
    rows
        Those that there are; none is lost by an interruption.
    """

    setting: Setting
    name: str
    table: Callable[[Sequence[Row]], str]
    about: Row
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(
        cls, setting: Setting, name: str, table: Callable[[Sequence[Row]], str], *fields: str
    ) -> Results:
        """Begin; rows say the experiment, and of ``scale`` and ``commit`` what is asked for."""
        output_folder(setting.out)
        known = {"scale": setting.scale.name, "commit": commit()}
        return cls(setting, name, table, {"experiment": name, **{f: known[f] for f in fields}})

    @property
    def files(self) -> list[Path]:
        """The records and the table."""
        return [self.setting.file(f"{self.name}.{suffix}") for suffix in ("jsonl", "md")]

    def add(self, *rows: Row) -> None:
        """Take more rows, and write all."""
        self.rows.extend(self.about | row for row in rows)
        records, table = self.files
        write_rows(records, self.rows)
        write_text(table, self.table(self.rows))

    def earlier(self) -> list[Row]:
        """The rows of an earlier call, if any."""
        records = self.files[0]
        return read_rows(records, self.name) if records.is_file() else []
