"""A list of particles of a whole project, divided into one for each tomogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.tomogram import bare_name
from tomadapt.io.star import StarDocument, read_star
from tomadapt.tomograms.names import plain_name

OWN_LIST = "listed.star"
"""The tomogram's own list, in its folder."""
_TOMOGRAM = "rlnTomoName"
_SHOWN = 8


@dataclass(frozen=True)
class DividedList:
    """A list, divided.

    Attributes
    ----------
    of
        Tomogram of the project → its own list; those without particles are left out.
    warning
        Which of the list's tomograms the project does not have; empty where it has all.
    """

    of: dict[str, StarDocument]
    warning: str = ""


def divided_list(path: Path, tomograms: Sequence[str]) -> DividedList:
    """Divide a STAR file by its column ``rlnTomoName``.

    A name means the tomogram that is called the same, without folders and endings, or else the one
    that is called so without what programs put around a name (``rec_TS_01`` is ``TS_01``).

    Parameters
    ----------
    path
        The list.
    tomograms
        Names in the project.

    Raises
    ------
    ConfigError
        When it is no STAR file with that column.
    InputError
        When it cannot be read, or a name fits several tomograms.
    """
    if path.suffix.lower() != ".star":
        raise _nameless(path, f"{path.suffix or 'a file without an ending'}")
    document = read_star(path)
    named = next((table for table in document.tables if _TOMOGRAM in table), None)
    if named is None:
        raise _nameless(path, f"no column {_TOMOGRAM}")
    names = named.column(_TOMOGRAM)
    meant = {name: _meant(name, tomograms, path) for name in dict.fromkeys(names)}
    of = {}
    for tomogram in tomograms:
        rows = [row for row, name in enumerate(names) if meant[name] == tomogram]
        if rows:
            of[tomogram] = document.replaced(named, named.take(rows))
    strange = [f"{name} ({names.count(name)})" for name, t in meant.items() if t is None]
    if not strange:
        return DividedList(of)
    shown = ", ".join(strange[:_SHOWN]) + (" …" if len(strange) > _SHOWN else "")
    return DividedList(of, f"{path} has particles of tomograms that the project has not: {shown}")


def _meant(name: str, tomograms: Sequence[str], path: Path) -> str | None:
    found = [t for t in tomograms if name == t]
    found = found or [t for t in tomograms if bare_name(name) == bare_name(t)]
    found = found or [t for t in tomograms if plain_name(name) == plain_name(t)]
    if len(found) > 1:
        raise InputError(
            f"{path} has a tomogram {name} that may be several of the project",
            expected="one of that name",
            got=", ".join(found[:_SHOWN]),
            remedy="rename the tomograms in the list as they are called in the project file",
        )
    return found[0] if found else None


def _nameless(path: Path, got: str) -> ConfigError:
    return ConfigError(
        f"{path} does not name the tomograms of a project",
        expected=f"a STAR file with the column {_TOMOGRAM}",
        got=got,
        remedy="label the tomograms one by one, each with its own list",
    )
