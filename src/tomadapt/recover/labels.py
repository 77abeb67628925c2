"""The class of each particle, read from a file of labels or a classified STAR file."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tomadapt.data.cube_keys import DIGEST_KEY, key_of
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import InputError, MismatchError
from tomadapt.io.extracted import BLOCK, CLASS_NAME, CUBES_DIGEST, IMAGES, KIND, SUBTOMOGRAM
from tomadapt.io.star import StarDocument, StarTable, read_star, read_text
from tomadapt.runs.json_files import json_object
from tomadapt.simulate.simulator import NULL_CLASS

LABELS = "labels.csv"

UNLISTED = ("other", "unknown")
"""Kinds of unlabelled particles that are treated as classes here: proteins that the user did not
name (``other``), and particles that a named structure explains only in part (``unknown``)."""


def read_labels(path: Path, data: Subtomograms) -> list[str]:
    """The class of each of some particles.

    A label is matched to its cube by a key, not by its order alone: the ``index`` and ``file`` of a
    ``.csv``, the number of the cube in a ``.star``. When the file also holds a digest of the cubes'
    voxels, it must be that of these cubes. When it holds neither file names nor a digest, a warning
    is given.

    Parameters
    ----------
    path
        A ``.csv`` with columns ``index`` and ``label`` and a row a cube, or an ``.npz``, both as
        ``tomadapt predict`` and ``classify`` write them; or a ``.star`` with ``tomadaptClassName``
        and ``tomadaptSubtomogram``. Particles of class ``null`` whose kind (``kind``,
        ``tomadaptKind``) is one of :data:`UNLISTED` get this kind as their class.
    data
        The particles; ``data.rows`` are the numbers of their cubes, from 0.

    Raises
    ------
    InputError
        When the file cannot be read or has no such column.
    MismatchError
        When it has no label for a particle, or belongs to other cubes.
    """
    if path.suffix == ".star":
        return _by_subtomogram(path, data)
    total = len(data.source)
    names, files, digests = _of_npz(path) if path.suffix == ".npz" else _of_csv(path)
    if len(names) != total:
        raise _of_others(path, f"{total} labels", f"{len(names)}")
    own = data.source.names
    if files and own:
        wrong = next((i for i in range(total) if files[i] != own[i]), None)
        if wrong is not None:
            raise _of_others(path, f"{own[wrong]} at index {wrong}", files[wrong])
    beside = path.parent / "summary.json"
    if path.name == LABELS and beside.is_file():
        record = json_object(
            read_text(beside, kind="file summary.json"),
            what=str(beside),
            remedy="classify again",
        )
        digests = [*digests, str(record.get(DIGEST_KEY, ""))]
    for digest in dict.fromkeys(digests):
        _require_cubes(path, digest, data)
    if not any(digests) and not (files and own):
        _tell_order_alone(path, data)
    return [names[row] for row in data.rows.tolist()]


def _of_others(path: Path, expected: str, got: str) -> MismatchError:
    return MismatchError(
        f"{path} does not belong to these particles",
        expected=expected,
        got=got,
        remedy="give the labels that were predicted for them",
    )


def _require_cubes(path: Path, stated: object, data: Subtomograms) -> None:
    """Raise when labels state another digest than that of the cubes."""
    found = key_of(data.source)
    if isinstance(stated, str) and stated and found and stated != found:
        raise _of_others(path, f"labels of the cubes {found}", f"labels of the cubes {stated}")


def _tell_order_alone(path: Path, data: Subtomograms) -> None:
    if key_of(data.source):
        warnings.warn(
            f"{path} does not say of which cubes its labels are: their numbers are taken for those "
            "of these cubes; labels that this version of tomadapt writes say it",
            stacklevel=3,
        )


def _of_npz(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Labels, files, and digests of the cubes."""
    try:
        with np.load(path) as content:
            names = [str(content["class_names"][label]) for label in content["labels"]]
            files = [str(name) for name in content["files"]] if "files" in content else []
            digests = [str(content[DIGEST_KEY])] if DIGEST_KEY in content else []
    except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise _unusable(path, "class_names and labels", str(error)) from error
    return names, files, digests


def _with_kinds(labels: list[str], kinds: list[str] | None) -> list[str]:
    """The labels, with ``null`` replaced by the kind where it is one of :data:`UNLISTED`."""
    if kinds is None:
        return labels
    return [
        kind if label == NULL_CLASS and kind in UNLISTED else label
        for label, kind in zip(labels, kinds, strict=True)
    ]


def _of_csv(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Labels, files and digests of rows whose ``index`` counts the cubes in order."""
    # Spreadsheets put a byte-order mark before the first name.
    text = read_text(path, kind="file of labels").removeprefix("\ufeff")
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or "label" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise _unusable(path, "a column label", found)
    if "index" not in rows[0]:
        raise _unusable(path, "a column index, which says whose label a row is", "none")
    if [row["index"] for row in rows] != [str(i) for i in range(len(rows))]:
        raise _unusable(path, "rows in the order of the particles, index 0, 1, …", "another order")
    files = [str(row["file"]) for row in rows] if "file" in rows[0] else []
    digests = [str(row[DIGEST_KEY]) for row in rows] if DIGEST_KEY in rows[0] else []
    kinds = [str(row["kind"]) for row in rows] if "kind" in rows[0] else None
    return _with_kinds([str(row["label"]) for row in rows], kinds), files, digests


def _by_subtomogram(path: Path, data: Subtomograms) -> list[str]:
    """The classes in a STAR file, by the number of each particle's cube."""
    document = read_star(path)
    table = _star_table(document, path, CLASS_NAME)
    if SUBTOMOGRAM not in table:
        raise _unusable(path, f"{SUBTOMOGRAM}, which says whose label a row is", "no such column")
    digest = _stated_digest(document)
    _require_cubes(path, digest, data)
    if digest is None and not (data.source.names and IMAGES in table):
        _tell_order_alone(path, data)
    numbers = _numbers(path, table)
    cubes = [number for number in numbers if number >= 0]
    if len(set(cubes)) != len(cubes):
        raise _unusable(path, f"{SUBTOMOGRAM} of every cube once, from 1", "a number twice")
    own = data.source.names
    if own and IMAGES in table:
        for number, image in zip(numbers, table.column(IMAGES), strict=True):
            if 0 <= number < len(own) and own[number] != image:
                raise _of_others(path, f"{own[number]} as cube {number + 1}", image)
    named = dict(zip(numbers, _names(table), strict=True))
    missing = [row for row in data.rows.tolist() if row not in named]
    if missing or max(cubes, default=0) >= len(data.source):
        raise _of_others(
            path,
            f"{len(data)} labels, of every cube once, from 1",
            f"{len(cubes)}; none for cube {missing[0] + 1}" if missing else f"{max(cubes) + 1}",
        )
    return [named[row] for row in data.rows.tolist()]


def _stated_digest(document: StarDocument) -> str | None:
    table = document.table(BLOCK)
    return table.column(CUBES_DIGEST)[0] if table is not None and CUBES_DIGEST in table else None


def require_same_cubes(star: Path, data: Subtomograms) -> None:
    """Raise when a STAR file belongs to other cubes than those beside it.

    Raises
    ------
    MismatchError
        When the digest in the file is not that of the cubes.
    """
    _require_cubes(star, _stated_digest(read_star(star)), data)


def classified_particles(star: Path) -> tuple[Path, list[int], list[str]]:
    """The folder, cubes and classes that a STAR file of ``tomadapt classify`` refers to.

    Returns
    -------
    folder
        The folder of subtomograms beside it.
    rows
        The number of the cube of each row that has one.
    names
        The class of each, see :data:`UNLISTED`.

    Raises
    ------
    InputError
        When the file has no such columns, or there is no such folder.
    """
    folder = star.parent / "subtomograms"
    document = read_star(star)
    names = _names(_star_table(document, star, CLASS_NAME))
    rows = _numbers(star, _star_table(document, star, SUBTOMOGRAM))
    if not folder.is_dir():
        raise InputError(
            f"the subtomograms of {star} are not beside it",
            expected=f"the folder {folder}",
            remedy="give the set of subtomograms, and this file as --labels",
        )
    with_cube = [place for place, row in enumerate(rows) if row >= 0]
    return folder, [rows[place] for place in with_cube], [names[place] for place in with_cube]


def _names(table: StarTable) -> list[str]:
    """The class of each row, see :data:`UNLISTED`."""
    return _with_kinds(
        list(table.column(CLASS_NAME)), list(table.column(KIND)) if KIND in table else None
    )


def _numbers(path: Path, table: StarTable) -> list[int]:
    """The number of each row's cube, from 0; −1 for rows without a cube."""
    try:
        return [int(number) - 1 for number in table.column(SUBTOMOGRAM)]
    except ValueError as error:
        raise _unusable(path, f"whole numbers in {SUBTOMOGRAM}", str(error)) from error


def _star_table(document: StarDocument, path: Path, label: str) -> StarTable:
    for table in document.tables:
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
