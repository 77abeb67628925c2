"""What all readers need: numbers of text files, files that others name, headers of volumes."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError, TomadaptError
from tomadapt.io.mrc import read_header
from tomadapt.io.ome_zarr import open_ome_zarr
from tomadapt.io.particle_lists.model import numbers
from tomadapt.io.star import StarTable, read_text
from tomadapt.io.voxel_sizes import cubic_voxel_size_A
from tomadapt.project.claims import Claims
from tomadapt.runs.json_files import json_object

Doubles = NDArray[np.float64]

VOLUME_SUFFIXES = (".mrc", ".rec", ".map", ".mrc.gz")
MOST_FOLDERS = 5_000
"""More folders below a project are not looked through."""
_DEEPEST = 4


def text_of(path: Path, *, kind: str) -> str:
    """The text of a file, without the byte-order mark that editors put before it.

    Raises
    ------
    InputError
        As for :func:`~tomadapt.io.star.read_text`.
    """
    return read_text(path, kind=kind).removeprefix("\ufeff")


def rows_of_numbers(path: Path, *, kind: str, columns: int, comment: str = "#") -> list[Doubles]:
    """The rows of a text file of numbers, without comments; each has so many columns or more.

    Raises
    ------
    InputError
        When it is missing, empty, too large or binary, a word is no number or not finite, or a row
        is short: its line is named.
    """
    rows = []
    for number, line in enumerate(text_of(path, kind=kind).splitlines(), start=1):
        words = line.partition(comment)[0].split()
        if not words:
            continue

        def place(_: int, number: int = number) -> str:
            return f"line {number}"

        if len(words) < columns:
            raise InputError(
                f"{path}, {place(0)}: too few columns for {kind}",
                expected=f"{columns} numbers",
                got=f"{len(words)}: {line.strip()[:80]}",
                remedy="mend that line, or export the file again",
            )
        row = numbers(words, what=kind, path=path, place=place)
        require_finite(row, path, place(0))
        rows.append(row)
    if not rows:
        raise InputError(f"{path} has no rows", expected=kind, remedy="export the file again")
    return rows


def require_finite(values: Doubles, path: Path, where: str) -> None:
    """Refuse NaN and infinities.

    Raises
    ------
    InputError
        Naming the file and the place.
    """
    if not np.isfinite(values).all():
        raise InputError(
            f"{path}, {where}: a number is not finite",
            expected="finite numbers",
            got=str(values[~np.isfinite(values)][0]),
            remedy="mend it, or export the file again",
        )


def column(table: StarTable, label: str, path: Path) -> Doubles | None:
    """(n,) finite numbers of a column of a STAR file, or None where there is no such column.

    Raises
    ------
    InputError
        When one is no finite number: its row is named.
    """
    if label not in table:
        return None
    values = numbers(table.column(label), what=label, path=path, place=table.place)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        require_finite(values, path, f"{table.place(int(bad[0]))}, {label}")
    return values


def one_number(text: str | None, *, what: str, path: Path) -> float | None:
    """A number that a file has as text; None where it has none.

    Raises
    ------
    InputError
        When it is no finite number.
    """
    if text is None or not text.strip():
        return None
    value = numbers([text.strip()], what=what, path=path, place=lambda _: what)
    require_finite(value, path, what)
    return float(value[0])


def json_of(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    InputError
        When it cannot be read or is none; the remedy is that.
    """
    return json_object(text_of(path, kind="JSON file"), what=str(path), remedy=remedy)


def volume_facts(path: Path) -> tuple[tuple[int, int, int], float | None]:
    """Size of a volume along x, y, z, and its voxel size in Å, or None where it says none.

    Raises
    ------
    InputError
        When its header cannot be read.
    ConfigError
        When it is a Zarr store and zarr is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are told when a tomogram is opened
        if path.is_dir():
            image = open_ome_zarr(path)
            nz, ny, nx = image.shape
            return (nx, ny, nz), image.voxel_size_A
        header = read_header(path)
        along = dict(zip(header.axes, header.stored_shape[::-1], strict=True))
        return (along[1], along[2], along[3]), header.cubic_voxel_size_A()


def take_volume(claims: Claims, found: Sequence[Path]) -> None:
    """State the first of the volumes found, with what its header says; the others are listed."""
    present = [path for path in found if path.exists()]
    for path in found:
        if path not in present:
            claims.unreadable.append(f"the volume {path} does not exist")
    if not present:
        return
    first = present[0]
    claims.state("volume", first, first)
    claims.other_volumes += present[1:]
    facts = claims.read(volume_facts, first)
    if facts is not None:
        size, voxel = facts
        claims.state("size_xyz", size, first, "header")
        claims.state("voxel_size_A", voxel, first, "header")


def pixel_size_of(path: Path) -> float | None:
    """Å a pixel of a stack of tilt images, along x; None where the header says none.

    Raises
    ------
    InputError
        When the header cannot be read.
    """
    x, y, _ = read_header(path).voxel_sizes_A
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cubic_voxel_size_A(path, (x, y, x))


def by_voxel_size(found: Sequence[Path]) -> list[Path]:
    """Volumes by voxel size, the largest first: the one that particles are found in.

    The size is that of the name (``TS_01_10.00Apx.mrc``), or of the header; unknown ones are last.
    """

    def size(path: Path) -> float:
        named = re.search(r"_(\d+(?:\.\d+)?)Apx", path.name)
        if named:
            return float(named[1])
        try:
            return volume_facts(path)[1] or 0.0
        except TomadaptError:
            return 0.0

    return sorted(found, key=lambda path: (-size(path), path.name))


def files_below(folder: Path, suffixes: Sequence[str], *, deepest: int = 3) -> list[Path]:
    """Files below a folder whose names end so, in order of their paths, without hidden ones."""
    return sorted(
        path
        for inner in folders_below(folder, deepest=deepest)
        for path in _inside(inner)
        if path.name.lower().endswith(tuple(suffixes)) and path.is_file()
    )


def folders_below(folder: Path, *, deepest: int = _DEEPEST) -> Iterator[Path]:
    """A folder and those below it, each once whatever links lead there, and no Zarr stores."""
    waiting, seen = [(folder, 0)], {folder.resolve()}
    while waiting:
        inner, depth = waiting.pop(0)
        yield inner
        if depth == deepest:
            continue
        if len(seen) > MOST_FOLDERS:
            warnings.warn(
                f"{folder} has more than {MOST_FOLDERS} folders: not all of them were looked "
                "through; give the folder of the tomograms themselves",
                stacklevel=2,
            )
            return
        # Links last: RELION's aliases of jobs lead to folders that have the job's number.
        for path in sorted(_inside(inner), key=lambda path: (path.is_symlink(), path)):
            if path.suffix != ".zarr" and path.is_dir() and path.resolve() not in seen:
                seen.add(path.resolve())
                waiting.append((path, depth + 1))


def _inside(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def names_of_folders(
    series: Sequence[tuple[Path, str]], folder: Path
) -> dict[tuple[Path, str], str]:
    """Folder and name of each series → a name of its own, which a folder may have.

    Series of the same name are told apart by the folders that they lie in: ``a/ts`` and ``b/ts``
    are ``a_ts`` and ``b_ts``, and so are ``a/ts/ts`` and ``b/ts/ts``.
    """
    names = [name for _, name in series]
    found: dict[tuple[Path, str], str] = {}
    taken = {name for name in names if names.count(name) == 1}
    for inner, name in series:
        called = name
        if names.count(name) > 1:
            parts = inner.relative_to(folder).parts
            parts = parts[:-1] if parts and parts[-1] == name else parts
            whole = called = "_".join((*parts, name))
            number = 1
            while called in taken:
                number += 1
                called = f"{whole}_{number}"
            taken.add(called)
        found[inner, name] = called
    return found


def tell_name(claims: Claims, inner: Path, name: str) -> None:
    """Note what a series is called in its folder, where it has another name in the project."""
    if claims.name != name:
        where = claims.told_source(inner / name)
        claims.note(f"it is {where}: several folders have a series {name}")


def plausible(value: float | None) -> float | None:
    """A size that a program left at 0 or −1 is none."""
    return value if value is not None and math.isfinite(value) and value > 0 else None
