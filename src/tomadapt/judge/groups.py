"""Particles that were recorded in several ways: each group with what was let through for it."""

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
    """What was let through, by group: of each tilt series of particles from several, for example.

    Attributes
    ----------
    group
        (n,) the group of each particle.
    transfer
        (g, p) at the points of the noise, 0 where a group was not measured.

    Raises
    ------
    ConfigError
        When a particle is of no group.
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

    @property
    def measured(self) -> torch.Tensor:
        """(n, p) bool: where each particle was measured."""
        return (self.transfer > 0)[self.group]


@dataclass(frozen=True, eq=False)
class Group:
    """Particles (m,) that were recorded alike, and their noise, whose points say how."""

    rows: NDArray[np.int64]
    noise: Noise

    def of(self, cubes: Cubes) -> Some:
        """The group's particles."""
        return Some(cubes, self.rows)


def groups_of(noise: Noise, transfers: Transfers | None, count: int) -> list[Group]:
    """The groups of ``count`` particles, the largest first; one where all were recorded alike."""
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
    """Some of the cubes, by position."""

    cubes: Cubes
    rows: NDArray[np.integer]

    def __len__(self) -> int:
        """Give their number."""
        return len(self.rows)

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32."""
        return self.cubes.read(self.rows[np.asarray(indices)])


def refined_by_group(groups: Sequence[Group], refined: Callable[[Group], Refined]) -> Refined:
    """What ``refined`` finds of each group, in the order of the particles."""
    parts = [refined(g) for g in groups]
    order = _back(groups)
    names = [f.name for f in fields(Refined) if f.name != "freedom"]
    joined = {name: np.concatenate([getattr(p, name) for p in parts])[order] for name in names}
    return Refined(**joined, freedom=parts[0].freedom)


def values_by_group(
    groups: Sequence[Group], values: Callable[[Group], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """A number for each particle, found group by group, in the order of the particles."""
    return np.concatenate([values(g) for g in groups])[_back(groups)]


def _back(groups: Sequence[Group]) -> NDArray[np.int64]:
    """What puts the groups' particles, one group after another, in order again."""
    return np.argsort(np.concatenate([g.rows for g in groups]), kind="stable")
