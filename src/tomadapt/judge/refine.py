"""Refinement of each particle's best few structures at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.judge.evidence import log_likelihood_ratio
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.rows import batches
from tomadapt.judge.screen import Screened
from tomadapt.recover.local_refinement import best_of, refine_locally
from tomadapt.recover.reference import Reference

_BATCH = 16
_STEPS = 3
FINALISTS = 1
"""Poses of each structure that are refined at full resolution."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Particles compared with some of the structures at full resolution.

    Attributes
    ----------
    z
        (n, h) correlations in standard deviations of noise; NaN for pairs that were not compared.
    amplitude
        (n, h) fitted amplitude of the structure's density; NaN as above.
    rotations, shifts
        (n, h, 3, 3) and (n, h, 3) voxels; the screen's pose for pairs that were not compared.
    energy
        (n,) whitened energy at all points.
    freedom
        (n,) degrees of freedom: the mean energy of noise alone.
    """

    z: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    energy: NDArray[np.float64]
    freedom: NDArray[np.float64]

    def take(self, rows: NDArray[np.integer]) -> Refined:
        """The rows of some particles."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def log_likelihood_ratio(self) -> NDArray[np.float64]:
        """(n, h) log-likelihood ratios against noise at the best pose; −inf if not compared."""
        ratio = log_likelihood_ratio(
            np.nan_to_num(self.z), self.energy[:, None], self.freedom[:, None]
        )
        return np.where(np.isnan(self.z), -np.inf, ratio)


def refine(
    cubes: Cubes,
    screened: Screened,
    wanted: NDArray[np.bool_],
    hypotheses: Sequence[Hypothesis],
    noise: Noise,
    *,
    shell: int,
    reach_voxels: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Refined:
    """Refine the screen's poses locally, first at the screen's resolution, then at all points.

    Parameters
    ----------
    cubes
        The particles.
    screened
        Initial poses.
    wanted
        (n, h) which structures to compare with which particles.
    hypotheses
        The h structures.
    noise
        Noise of the particles.
    shell
        The highest shell of the first refinement.
    reach_voxels
        Largest shift along each axis.
    progress
        Called with numbers of finished comparisons.
    """
    device = noise.power.device
    points, weight = noise.points, noise.weight
    low, low_points = points.shell <= shell, points.up_to(shell)
    z = np.full(wanted.shape, np.nan)
    amplitude = np.full(wanted.shape, np.nan)
    rotations, shifts = screened.rotations[:, :, 0].copy(), screened.shifts[:, :, 0].copy()
    energy = np.zeros(len(cubes))
    with torch.inference_mode():
        for rows in batches(len(cubes), _BATCH):
            x = noise.transforms(cubes.read(rows))  # (b, p)
            energy[rows] = (x.abs().square() @ weight).cpu().numpy()
        # One structure after another, so that the transforms of only one are in memory.
        for column in np.flatnonzero(wanted.any(axis=0)).tolist():
            reference = Reference.of(hypotheses[column].windowed, device)
            for at in batches(np.flatnonzero(wanted[:, column]), _BATCH):
                x = noise.transforms(cubes.read(at))
                begun = refine_locally(
                    reference,
                    x[:, low],
                    torch.from_numpy(screened.rotations[at, column]).to(device),  # (b, c, 3, 3)
                    torch.from_numpy(screened.shifts[at, column]).to(device),
                    points=low_points,
                    weight=weight[low],
                    reach=reach_voxels,
                    iterations=_STEPS,
                )
                found = refine_locally(
                    reference,
                    x,
                    *best_of(begun, FINALISTS)[:2],
                    points=points,
                    weight=weight,
                    reach=reach_voxels,
                    iterations=_STEPS,
                )
                R, s, score, _ = (part[:, 0] for part in best_of(found, 1))
                rotations[at, column], shifts[at, column] = R.cpu(), s.cpu()
                z[at, column] = score.clamp_min(0).cpu().numpy() * np.sqrt(energy[at])
                seen = reference.at(R, points) * weight.sqrt()
                amplitude[at, column] = (
                    z[at, column] / seen.norm(dim=1).clamp_min(1e-20).cpu().numpy()
                )
                progress(len(at))
    # Of several recordings each was measured at some of the points alone.
    multiplicity = points.multiplicity[points.transfer != 0]
    freedom = np.full(len(cubes), float(multiplicity.sum()) * noise.kept)
    return Refined(z, amplitude, rotations, shifts, energy, freedom)
