"""What all writers take: columns of results, and which of the particles to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tomadapt.errors import ConfigError

Columns = Mapping[str, Sequence[object]]
"""Name of a column to one value for each particle of the list."""


def value_text(value: object) -> str:
    """A value as it stands in a file: nine digits of a number, truth as 0 or 1."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return f"{value:.9g}" if isinstance(value, float | np.floating) else str(value)


def column_texts(columns: Columns | None) -> dict[str, list[str]]:
    """All values of columns as texts; without columns there are none."""
    return {label: [value_text(v) for v in values] for label, values in (columns or {}).items()}


def checked_rows(rows: Sequence[int] | None, n: int) -> list[int]:
    """The rows to write, in their order; all ``n`` of them when None.

    Raises
    ------
    ConfigError
        When one is not among the ``n``, or is named twice.
    """
    if rows is None:
        return list(range(n))
    if any(not 0 <= row < n for row in rows) or len(set(rows)) != len(rows):
        raise ConfigError(
            "the rows to be written cannot be used",
            expected=f"each at most once, from 0 to {n - 1}",
            got=list(rows)[:20],
            remedy="give indices of the list of particles",
        )
    return [int(row) for row in rows]


def not_encodable(path: object, error: UnicodeEncodeError) -> ConfigError:
    """The error for a text that is no Unicode, such as half a pair of surrogates in JSON."""
    return ConfigError(
        f"{path} cannot be written",
        expected="names of Unicode characters",
        got=repr(error.object[error.start : error.end][:20]),
        remedy="change the name",
    )
