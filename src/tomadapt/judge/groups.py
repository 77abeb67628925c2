"""Particles of several recordings, in groups of the same transfer function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Indices
from tomadapt.errors import ConfigError
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import Refined


@dataclass(frozen=True, eq=False)
class Transfers:
    """Transfer functions by group, for example one for each tilt series.

    Attributes
    ----------
    group
        (n,) the group of each particle.
    transfer
        (g, p) transfer of each group at the points of the noise, 0 where it was not measured.

    Raises
    ------
    ConfigError
        When a particle's group has no transfer.
    """

    group: NDArray[np.integer]
    transfer: torch.Tensor

    def __post_init__(self) -> None:
        if len(self.group) and not 0 <= self.group.min() <= self.group.max() < len(self.transfer):
            raise ConfigError(
                "particles of a recording that is not described",
                expected=f"groups from 0 to {len(self.transfer) - 1}",
                got=f"{self.group.min()} to {self.group.max()}",
            )

    def measured(self, rows: NDArray[np.integer]) -> torch.Tensor:
        """(m, p) bool: the points where some particles were measured."""
        return (self.transfer > 0)[self.group[rows]]


@dataclass(frozen=True, eq=False)
class Group:
    """Row numbers (m,) of particles of one recording, and their noise with its transfer."""

    rows: NDArray[np.int64]
    noise: Noise

    def of(self, cubes: Cubes) -> Some:
        """The group's particles."""
        return Some(cubes, self.rows)


def groups_of(noise: Noise, transfers: Transfers | None, count: int) -> list[Group]:
    """The groups of ``count`` particles, the largest first; a single one without transfers."""
    if transfers is None:
        return [Group(np.arange(count), noise)]
    if len(transfers.group) != count:
        raise ConfigError(
            "the recordings are of other particles",
            expected=f"the group of each of {count} particles",
            got=len(transfers.group),
        )
    found = []
    for number, transfer in enumerate(transfers.transfer):
        rows = np.flatnonzero(transfers.group == number)
        points = replace(noise.points, transfer=transfer.to(noise.points.transfer))
        found.append(Group(rows, replace(noise, points=points)))
    return sorted((g for g in found if len(g.rows)), key=lambda g: -len(g.rows))


@dataclass(frozen=True, eq=False)
class Some:
    """A subset of the cubes."""

    cubes: Cubes
    rows: NDArray[np.integer]

    def __len__(self) -> int:
        """Give their number."""
        return len(self.rows)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32."""
        return self.cubes.read(self.rows[np.asarray(indices)])


def refined_by_group(groups: Sequence[Group], refined: Callable[[Group], Refined]) -> Refined:
    """Apply ``refined`` to each group, and join the results in the order of the particles."""
    parts = [refined(g) for g in groups]
    order = _original_order(groups)
    names = [f.name for f in fields(Refined)]
    return Refined(**{n: np.concatenate([getattr(p, n) for p in parts])[order] for n in names})


def values_by_group(
    groups: Sequence[Group], values: Callable[[Group], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Apply ``values`` to each group, and join the numbers in the order of the particles."""
    return np.concatenate([values(g) for g in groups])[_original_order(groups)]


def _original_order(groups: Sequence[Group]) -> NDArray[np.int64]:
    """The permutation that restores the particles' order after concatenation of all groups."""
    return np.argsort(np.concatenate([g.rows for g in groups]), kind="stable")
