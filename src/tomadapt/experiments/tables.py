"""Records as JSON lines, and tables made from them; nothing here runs anything."""

from __future__ import annotations

import json
import statistics
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tomadapt.errors import InputError
from tomadapt.io.atomic import write_text

Row = dict[str, Any]


@cache
def paper_values() -> dict[str, Any]:
    """What the paper prints, from ``paper_values.toml``."""
    return tomllib.loads((files("tomadapt.experiments") / "paper_values.toml").read_text())


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Read what :func:`write_rows` wrote.

    Raises
    ------
    InputError
        When there is no such file, or a line is not a JSON object.
    """
    if not path.is_file():
        raise InputError(
            f"no records at {path}",
            expected="JSON lines",
            got="nothing",
            remedy="run the experiment first, or name the folder of its records with --out",
        )
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"line {number} of {path} is damaged",
                expected="a JSON object",
                got=str(error),
                remedy="run the experiment again: finished tasks are kept",
            ) from error
        rows.append(dict(row))
    return rows


def mean_sd(values: Sequence[float]) -> str:
    """``0.912`` for one value, ``0.912 ± 0.004`` (sample standard deviation) for several."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}"


def select(rows: Iterable[Row], field: str, **wanted: Any) -> list[float]:
    """The values of ``field`` in all rows that match, where there is one."""
    return [
        row[field]
        for row in rows
        if all(row.get(key) == value for key, value in wanted.items())
        and row.get(field) is not None
    ]


def markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    body = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join(["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading), *body, ""])
