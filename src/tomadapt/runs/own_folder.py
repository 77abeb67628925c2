"""Folders that commands write: one that holds another run's results is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomadapt.errors import MismatchError

_SHORT, _SHOWN = 60, 6
CONTENT = ", content"
"""How the names of digests end, which tell a reader nothing."""


def require_same(
    out: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], *, what: str = "run"
) -> None:
    """Refuse a folder whose results were made in another way than is wanted now.

    Parameters
    ----------
    out
        The folder.
    found, wanted
        How they were made, and how they would be made.
    what
        What the folder holds.

    Raises
    ------
    MismatchError
        Naming the keys in which they differ.
    """
    if found == wanted:
        return
    raise MismatchError(
        f"{out} holds a{'n' if what[0] in 'aeiou' else ''} {what} of another configuration",
        expected="the same configuration",
        got=f"a difference in {'; '.join(_differing(found, wanted)[:_SHOWN])}",
        remedy="choose another --out or delete that folder",
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
