"""Warnings that are shown when they are raised, and kept for summaries and reports."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """Add what is warned of inside to a list; it is shown as without this, also where it fails.

    Warnings of other packages, which are of other kinds, are shown alone.

    Parameters
    ----------
    into
        Where the sentences go, each once.
    """
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        for warning in told:
            text = str(warning.message)
            if warning.category is UserWarning and text not in into:
                into.append(text)
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
