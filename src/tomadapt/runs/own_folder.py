"""Folders that commands write, and what says of which run they are.

``config.json`` describes all that the results in a folder depend on. The same description goes on
with what is there, another is refused with what differs, a damaged one is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomadapt.errors import InputError, MismatchError
from tomadapt.runs.atomic import output_folder, write_json
from tomadapt.runs.json_files import json_object

CONFIG = "config.json"
_SHORT, _SHOWN = 60, 6
CONTENT = ", content"
"""How the names of digests end, which tell a reader nothing."""


def require_own(
    out: Path, wanted: Mapping[str, Any], *, what: str = "run", needed_bytes: int = 0
) -> None:
    """Refuse the folder of another run; check that there is room where there is none yet.

    Parameters
    ----------
    out
        The folder.
    wanted
        All that its results depend on, as JSON writes it.
    what
        What the folder holds.
    needed_bytes
        Of disk, where nothing is there yet.

    Raises
    ------
    InputError
        When the description in the folder is damaged.
    MismatchError
        Naming the keys in which they differ.
    OutputError
        When the folder cannot be written or the disk is too small.
    """
    found = description(out)
    if found is None:
        output_folder(out, needed_bytes=needed_bytes)
    else:
        require_same(out, found, wanted, what=what)


def make_own(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write what a folder's results depend on, once all inputs are known to be usable."""
    write_json(out / CONFIG, dict(wanted))


def description(out: Path) -> dict[str, Any] | None:
    """What a folder's results depend on, as it says; None where nothing was begun."""
    path = out / CONFIG
    return read_own(path) if path.exists() else None


def read_own(path: Path) -> dict[str, Any]:
    """Read a JSON file that the folder's run wrote.

    Raises
    ------
    InputError
        When it is missing or damaged.
    """
    remedy = "delete that folder, or choose another --out"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged", expected="a JSON file of UTF-8", got=str(error), remedy=remedy
        ) from error
    return json_object(text, what=str(path), remedy=remedy)


def require_same(
    out: Path,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    what: str = "run",
    remedy: str = "choose another --out or delete that folder",
) -> None:
    """Refuse a folder or file whose results were made in another way than is wanted now.

    Parameters
    ----------
    out
        The folder or file.
    found, wanted
        How they were made, and how they would be made. A value of None is as good as none.
    what
        What it holds.
    remedy
        What to do then.

    Raises
    ------
    MismatchError
        Naming the keys in which they differ.
    """
    different = _differing(found, wanted)
    if not different:
        return
    raise MismatchError(
        f"{out} holds a{'n' if what[0] in 'aeiou' else ''} {what} of another configuration",
        expected="the same configuration",
        got=f"a difference in {'; '.join(different[:_SHOWN])}",
        remedy=remedy,
    )


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any], above: str = "") -> list[str]:
    """What differs between two records, with both values where they are short."""
    texts: list[str] = []
    for key in sorted({*found, *wanted}):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            texts += _differing(before, now, f"{above}{key}.")
        elif before != now:
            values = f"{before} → {now}"
            shown = len(values) <= _SHORT and not key.endswith(CONTENT)
            texts.append(f"{above}{key}" + (f" ({values})" if shown else ""))
    return texts
