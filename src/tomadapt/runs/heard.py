"""Warnings that are shown when they are raised, and kept for summaries and reports."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """Add what is warned of inside to a list; it is shown at once, as it would be without this.

    Warnings of other packages, which are of other kinds, are shown alone. Python keeps one way of
    showing warnings for all threads, so of several threads only one may be inside.

    Parameters
    ----------
    into
        Where the sentences go, each once.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_and_keep(
            message: Warning | str, category: type[Warning], *where: Any, **more: Any
        ) -> None:
            if category is UserWarning and str(message) not in into:
                into.append(str(message))
            show(message, category, *where, **more)

        warnings.showwarning = show_and_keep
        yield
