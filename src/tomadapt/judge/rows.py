"""Which particles are read, and how many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(n: int, at_most: int) -> NDArray[np.int64]:
    """Positions of at most so many of n particles, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, min(at_most, n)).astype(np.int64))


def batches(rows: int | NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Positions in portions of a size; all of n particles where ``rows`` is n."""
    every = np.arange(rows) if isinstance(rows, int) else rows
    for first in range(0, len(every), size):
        yield every[first : first + size]
