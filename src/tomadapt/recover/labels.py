"""Which particles belong to which class: a file of labels, or a classified STAR file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tomadapt.errors import InputError, MismatchError
from tomadapt.io.extracted import CLASS_NAME, SUBTOMOGRAM
from tomadapt.io.star import StarTable, read_star, read_text


def read_labels(path: Path, n: int) -> list[str]:
    """The class of each of ``n`` particles.

    Parameters
    ----------
    path
        A ``.csv`` with a column ``label`` and a row a particle, or an ``.npz``, both as
        ``tomadapt predict`` writes them; or a ``.star`` with ``tomadaptClassName``, whose
        ``tomadaptSubtomogram``, if it has that, says which cube a row is.
    n
        How many particles there are.

    Raises
    ------
    InputError
        When the file cannot be read or has no such column.
    MismatchError
        When it has another number of rows.
    """
    names = _names(path)
    if len(names) != n:
        raise MismatchError(
            f"{path} does not belong to these particles",
            expected=f"{n} labels",
            got=f"{len(names)}",
            remedy="give the labels that were predicted for them",
        )
    return list(names)


def _names(path: Path) -> Sequence[str]:
    if path.suffix == ".star":
        return _by_subtomogram(path)
    if path.suffix == ".npz":
        try:
            with np.load(path) as content:
                return [str(content["class_names"][label]) for label in content["labels"]]
        except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
            raise _unusable(path, "class_names and labels", str(error)) from error
    # Spreadsheets put a byte-order mark before the first name.
    text = read_text(path, kind="file of labels").removeprefix("\ufeff")
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or "label" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise _unusable(path, "a column label", found)
    indices = [row.get("index") for row in rows]
    if None not in indices and indices != [str(i) for i in range(len(rows))]:
        raise _unusable(path, "rows in the order of the particles, index 0, 1, …", "another order")
    return [str(row["label"]) for row in rows]


def _by_subtomogram(path: Path) -> Sequence[str]:
    """The classes in a STAR file, in the order of the cubes where the file says which is whose."""
    table = _star_table(path, CLASS_NAME)
    names = table.column(CLASS_NAME)
    if SUBTOMOGRAM not in table:
        return names
    numbers = table.column(SUBTOMOGRAM)
    if sorted(numbers) != sorted(str(i + 1) for i in range(len(numbers))):
        raise _unusable(path, f"{SUBTOMOGRAM} of every cube once, from 1", "other numbers")
    order = np.argsort([int(number) for number in numbers])
    return [names[row] for row in order]


def classified_particles(star: Path) -> tuple[Path, list[int], list[str]]:
    """What a STAR file of ``tomadapt classify`` refers to.

    Returns
    -------
    folder
        The folder of subtomograms beside it.
    rows
        Which of its cubes the file's rows are.
    names
        The class of each.

    Raises
    ------
    InputError
        When the file has no such columns, or there is no such folder.
    """
    folder = star.parent / "subtomograms"
    names, numbers = _star_column(star, CLASS_NAME), _star_column(star, SUBTOMOGRAM)
    if not folder.is_dir():
        raise InputError(
            f"the subtomograms of {star} are not beside it",
            expected=f"the folder {folder}",
            remedy="give the set of subtomograms, and this file as --labels",
        )
    try:
        rows = [int(number) - 1 for number in numbers]
    except ValueError as error:
        raise _unusable(star, f"whole numbers in {SUBTOMOGRAM}", str(error)) from error
    return folder, rows, list(names)


def _star_column(path: Path, label: str) -> Sequence[str]:
    return _star_table(path, label).column(label)


def _star_table(path: Path, label: str) -> StarTable:
    for table in read_star(path).tables:
        if label in table:
            return table
    raise InputError(
        f"{path} says no {label}",
        expected=f"a STAR file of `tomadapt classify`, with a column {label}",
        remedy="give the set of subtomograms, and --labels FILE of `tomadapt predict`",
    )


def _unusable(path: Path, expected: str, got: str) -> InputError:
    return InputError(
        f"the labels in {path} cannot be used",
        expected=expected,
        got=got,
        remedy="give the output of `tomadapt predict`",
    )
