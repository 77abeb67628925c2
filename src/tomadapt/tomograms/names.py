"""Which names in a list mean a tomogram: names are keys, and what fits two of them is refused.

RELION 5 calls the volume of ``TS_01`` ``rec_TS_01.mrc`` (its tutorial, section "Reconstruct
tomograms"), WarpTools calls it ``TS_01_10.00Apx.mrc`` (its ``ts_reconstruct``), and IMOD
``TS_01_rec.mrc`` (its ``etomo``; before trimming ``TS_01_full_rec.mrc``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tomadapt.errors import InputError
from tomadapt.inputs.tomogram import bare_name

_OF_PROGRAMS = re.compile(r"^rec_|_\d+(\.\d+)?Apx$|_half[12]$|(_full)?_rec$")


@dataclass(frozen=True)
class NamedRows:
    """The rows of a list that are of one tomogram.

    Attributes
    ----------
    of
        For each row the name it has, None where that is this tomogram's.
    text
        In one sentence, what decided.
    doubt
        Whether the user should be told of it.
    """

    of: tuple[str | None, ...]
    text: str
    doubt: bool = False

    @property
    def rows(self) -> list[int]:
        """Which rows are this tomogram's."""
        return [row for row, other in enumerate(self.of) if other is None]


def rows_of_tomogram(
    names: Sequence[str],
    tomogram: str,
    *,
    path: str = "",
    columns: Mapping[str, Sequence[str]] | None = None,
    where: Path | str = "the list",
) -> NamedRows | None:
    """Find the rows of a tomogram.

    Of a list with one name all rows are taken, whatever it is. Where that is not the tomogram's and
    another column has the tomogram's own name among others, that column decides. Of a list with
    several names those of the tomogram's: folders and endings such as ``.mrc`` do not count, nor
    what programs put around a name, as long as they leave one name that fits.

    Parameters
    ----------
    names
        (n,) the tomogram of each row, as the list has it; empty where it has none.
    tomogram
        Its name: the file's, without folders and ending.
    path
        The tomogram's file, by whose folders names are told apart that are else the same.
    columns
        Label → (n,) texts of the list's further columns.
    where
        The list, for messages.

    Returns
    -------
    NamedRows or None
        None where no name fits.

    Raises
    ------
    InputError
        When names of different tomograms become this one's by being shortened.
    """
    distinct, wanted = list(dict.fromkeys(names)), bare_name(tomogram)
    chosen = _fitting(distinct, tomogram, path, where) if len(distinct) > 1 else None
    if chosen is not None:
        return _taken(names, chosen, tomogram)
    everything = NamedRows((None,) * len(names), f"all rows are of {tomogram!r}")
    if len(distinct) == 1 and bare_name(distinct[0]) == wanted:
        return everything
    for label, texts in (columns or {}).items():
        if not _may_name(label, tomogram):
            continue
        values = list(dict.fromkeys(texts))
        # Most columns hold numbers: names are taken apart where they can be this one only.
        found = [v for v in values if wanted in v and bare_name(v) == wanted]
        if len(values) < 2:
            continue
        if found:
            chosen = _fitting(values, tomogram, path, where) or []
            text = f"{where} names tomograms in its column {label}: rows of {tomogram!r} are taken"
            return NamedRows(_others(texts, chosen), text, doubt=True)
    if len(distinct) > 1:
        return None
    if not distinct or distinct[0] == "":
        return everything
    text = f"the list calls its one tomogram {distinct[0]!r}, the file is {tomogram!r}"
    same = plain_name(distinct[0]) == plain_name(tomogram)
    return NamedRows((None,) * len(names), text, doubt=not same)


def _taken(names: Sequence[str], chosen: Sequence[str], tomogram: str) -> NamedRows:
    exact = bare_name(chosen[0]) == bare_name(tomogram)
    shown = " and ".join(repr(name) for name in chosen)
    text = f"rows of {shown} are taken" + ("" if exact else f" for those of {tomogram!r}")
    return NamedRows(_others(names, chosen), text)


def _others(names: Sequence[str], chosen: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(None if name in chosen else name for name in names)


def _fitting(names: Sequence[str], tomogram: str, path: str, where: Path | str) -> list[str] | None:
    """The names that mean a tomogram, or None."""
    found = [name for name in names if bare_name(name) == bare_name(tomogram)]
    if not found:
        found = [name for name in names if plain_name(name) == plain_name(tomogram)]
        if len({bare_name(name) for name in found}) > 1:
            raise _ambiguous(found, tomogram, where)
    if not found:
        return None
    full = {_parts(name) for name in found}
    # A name without its folder may be any of those with one.
    full = {one for one in full if not any(one != other and _ends(other, one) for other in full)}
    if len(full) > 1:
        # Of the file's folders alone: its name may have what programs put around one.
        own = _parts(path)[:-1]
        full = {one for one in full if _ends(own, one[:-1])}
        found = [name for name in found if _parts(name) in full]
        if len(full) != 1:
            raise _ambiguous(list(names), tomogram, where)
    return found


def _ambiguous(found: Sequence[str], tomogram: str, where: Path | str) -> InputError:
    fit = [name for name in found if plain_name(name) == plain_name(tomogram)]
    return InputError(
        f"{where} has several tomograms that may be {tomogram!r}",
        expected="one name that fits the tomogram's file",
        got=", ".join(fit[:8]) + (" …" if len(fit) > 8 else ""),
        remedy="give that tomogram's particles alone, or its file under the folder that the list "
        "names",
    )


def _parts(name: str) -> tuple[str, ...]:
    """Folders and the bare name."""
    pure = PurePosixPath(name.replace("\\", "/"))
    folders = [part for part in pure.parts[:-1] if part not in ("/", ".")]
    return (*folders, bare_name(name))


def _ends(whole: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return whole[len(whole) - len(end) :] == end if len(end) <= len(whole) else False


def plain_name(name: str) -> str:
    """A bare name without what programs put around it: ``TS_01`` of ``rec_TS_01.mrc``."""
    bare = bare_name(name)
    while (shorter := _OF_PROGRAMS.sub("", bare)) not in ("", bare):
        bare = shorter
    return bare


def _may_name(label: str, tomogram: str) -> bool:
    """Whether a column can hold tomograms' names; numbers may be anything."""
    if not bare_name(tomogram).isdigit():
        return True
    return any(word in label.lower() for word in ("tomo", "micrograph", "series", "run", "volume"))
