"""Poses of particles, with their scores and log-likelihood ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Indices


@dataclass(frozen=True)
class Poses:
    """c candidate poses of each of n particles, the best first.

    Attributes
    ----------
    rotations
        (n, c, 3, 3) float32, acting on (x, y, z): they turn the reference into the particle.
    shifts
        (n, c, 3) float32 voxels, (x, y, z), from the box's centre.
    scores
        (n, c) constrained correlations, −1 … 1.
    log_likelihood_ratios
        (n, c) log-likelihood of the pose minus that of noise alone, in nats.
    """

    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    scores: NDArray[np.float32]
    log_likelihood_ratios: NDArray[np.float32]

    def take(self, rows: Indices) -> Poses:
        """The poses of some particles."""
        at = np.asarray(rows)
        return Poses(*(getattr(self, field.name)[at] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Poses]) -> Poses:
        """Concatenate the particles of all parts."""
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    def weights(self) -> NDArray[np.float32]:
        """(n, c) posterior probability of each candidate, rows sum to 1."""
        ratios = self.log_likelihood_ratios
        relative = np.exp(ratios - ratios.max(axis=1, keepdims=True))
        return np.asarray(relative / relative.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class GridPoses:
    """The likeliest poses of a grid.

    Attributes
    ----------
    rotations, shifts
        (b, c, 3, 3) and (b, c, 3).
    weights
        (b, c) probabilities, rows sum to 1.
    log_likelihood_ratios
        (b,) of the likeliest pose against noise alone, in nats.
    """

    rotations: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor
    log_likelihood_ratios: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[GridPoses]) -> GridPoses:
        """Concatenate the particles of all parts."""
        names = (field.name for field in fields(cls))
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
