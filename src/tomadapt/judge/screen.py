"""Comparison with all structures in all poses at low resolution, in a common basis.

At low resolution the rotated, whitened structures span few dimensions. Their common principal
components are computed once. A particle at every shift is projected onto them, and compared there
with every rotation of every structure, in one matrix product. Rotations that give the same density
(symmetry, spheres) are kept once, with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.judge.evidence import log_likelihood_ratio
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.rows import batches
from tomadapt.recover.align import shift_grid
from tomadapt.recover.local_refinement import refine_locally
from tomadapt.recover.reference import Reference
from tomadapt.recover.rotations import rotation_grid
from tomadapt.structures.resampling import radius_A

MIN_KEPT_POWER_RATIO = 0.97
"""Fraction of each structure's power, over all its rotations, that the common basis keeps."""
MAX_POINTS = 3000
"""Most Fourier points of a screen beyond :func:`min_search_shell`: its memory grows with their
square."""
KEPT_POWER_RATIO_OF_SHELLS = 0.75
"""Fraction of the structures' whitened power in the shells of the screen."""
MIN_SAME_CORRELATION = 0.98
"""Rotations of a structure that correlate more than this count as the same."""
CANDIDATES = 16
"""Best poses of each structure that are kept."""
SHIFT_STEP_VOXELS = 2.0
STEP_HALF_PERIODS, COARSEST_DEG, FINEST_DEG = 1.8, 30.0, 18.0
"""A step of the grid of rotations moves a structure's edge by this many half periods of the highest
frequency, within these limits. Finer grids with fewer candidates lose more particles."""
_MIN_REFINED_CORRELATION = 0.5
_SOME_ROTATIONS = 1000
_COARSE_DEG = 90.0
_CHUNK = 256
_BATCH = 8
_ITERATIONS = 3
MAX_COMPONENTS = 800
"""Most components of the basis; few structures need half of them."""


def min_search_shell(box: int) -> int:
    """The lowest value of the screen's highest shell, in Fourier voxels."""
    return round(box / 5)


def search_shell(noise: Noise, hypotheses: Sequence[Hypothesis]) -> int:
    """The highest shell of the screen, so that most of the structures' whitened power is below it.

    Most of this power is at low frequencies, except for particles recorded near focus.

    Parameters
    ----------
    noise
        Noise of the particles, at points with their transfer.
    hypotheses
        The structures.
    """
    n, points = noise.points.n, noise.points
    some = torch.from_numpy(rotation_grid(_COARSE_DEG)).to(points.k.device)
    held = torch.zeros(n // 2, device=points.k.device)
    with torch.inference_mode():
        for hypothesis in hypotheses:
            seen = Reference.of(hypothesis.windowed, points.k.device).at(some, points)
            power = (seen.abs().square() * noise.weight).mean(dim=0)
            by_shell = torch.zeros_like(held).index_add_(0, points.shell, power)
            held += by_shell.cumsum(0) / by_shell.sum().clamp_min(1e-30)
    enough = int((held < KEPT_POWER_RATIO_OF_SHELLS * len(hypotheses)).sum())
    points_up_to = np.bincount(points.shell.cpu().numpy(), minlength=n // 2).cumsum()
    affordable = int((points_up_to <= MAX_POINTS).sum()) - 1
    return max(min_search_shell(n), min(enough, round(n / 3), affordable))


@dataclass(frozen=True, eq=False)
class Screened:
    """Results of the screen for some particles.

    Attributes
    ----------
    z
        (n, h) correlation at the best pose, in standard deviations of noise.
    occam
        (n, h) Occam factor: log of the likelihood's mean over all poses over its maximum, ≤ 0.
    rotations, shifts
        (n, h, c, 3, 3) and (n, h, c, 3) voxels: the best poses, the best first.
    energy
        (n,) whitened energy at the screen's points.
    """

    z: NDArray[np.float64]
    occam: NDArray[np.float64]
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    energy: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Screened], axis: int = 0) -> Screened:
        """Concatenate parts along the particles (axis 0) or along the structures (axis 1)."""
        names = ("z", "occam", "rotations", "shifts")
        values = [np.concatenate([getattr(p, name) for p in parts], axis) for name in names]
        energies = [p.energy for p in parts]
        energy = np.concatenate(energies) if axis == 0 else energies[0]
        return cls(values[0], values[1], values[2], values[3], energy)

    def take(self, rows: NDArray[np.integer]) -> Screened:
        """The rows of some particles."""
        names = ("z", "occam", "rotations", "shifts", "energy")
        return Screened(*(getattr(self, name)[rows] for name in names))

    def evidence(self, freedom: float) -> NDArray[np.float64]:
        """(n, h) log-evidence against noise alone: mean over all poses, free amplitude."""
        return log_likelihood_ratio(self.z, self.energy[:, None], freedom) + self.occam


def _best_poses(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The c largest of scores (m, b, s): values, rotations and shifts, (c, b) each, best first.

    Only the best shift of each rotation is used, unless there are too few rotations.
    """
    m, b, s = found.shape
    if m >= CANDIDATES:
        best, at_shift = found.max(dim=2)
        best, at = best.topk(CANDIDATES, dim=0)
        return best, at, at_shift.gather(0, at)
    flat = found.transpose(0, 1).reshape(b, m * s)
    best, pose = flat.topk(min(CANDIDATES, m * s), dim=1)
    if best.shape[1] < CANDIDATES:  # fewer poses than that: the best one is repeated
        fill = [0] * (CANDIDATES - best.shape[1])
        best, pose = torch.cat([best, best[:, fill]], 1), torch.cat([pose, pose[:, fill]], 1)
    return best.T, (pose // s).T, (pose % s).T


@dataclass(frozen=True)
class _Bank:
    """A structure in those m rotations (m, 3, 3) that give different densities.

    ``rows`` (m, k) are its components in the common basis, ``log_counts`` (m,) the logarithms of
    the numbers of rotations that each stands for, ``log_rotations`` that of all rotations.
    """

    rows: torch.Tensor
    rotations: torch.Tensor
    log_counts: torch.Tensor
    log_rotations: float


def grid_step_deg(hypothesis: Hypothesis, shell: int) -> float:
    """The step of a structure's grid of rotations; larger proteins need a finer one.

    It is rounded to whole degrees, so that structures share grids.

    Parameters
    ----------
    hypothesis
        The structure.
    shell
        The highest shell that is compared, in Fourier voxels.
    """
    if hypothesis.kind not in ("wanted", "mirror", "protein"):  # shapes are smooth, or symmetric
        return COARSEST_DEG
    half_period = len(hypothesis.density) / (2 * shell)
    radius = max(radius_A(hypothesis.windowed, 1.0), 1.0)
    step = math.degrees(STEP_HALF_PERIODS * half_period / radius)
    return float(round(min(max(step, FINEST_DEG), COARSEST_DEG)))


class Screen:
    """Compares particles with structures in all poses at low resolution.

    Parameters
    ----------
    hypotheses
        The structures.
    noise
        Noise of the particles.
    shell
        The highest shell, in Fourier voxels.
    reach_voxels
        Reach of the lattice of shifts, see :func:`~tomadapt.recover.align.shift_grid`.
    """

    def __init__(
        self,
        hypotheses: Sequence[Hypothesis],
        noise: Noise,
        *,
        shell: int,
        reach_voxels: float,
    ) -> None:
        self.hypotheses = tuple(hypotheses)
        self.names = [h.name for h in hypotheses]
        self._references: dict[int, Reference] = {}
        self.shell = shell
        self.points = noise.points.up_to(shell)
        self.inside = noise.points.shell <= shell
        self.root = noise.weight[self.inside].sqrt()
        self.freedom = noise.freedom(self.points)
        device = self.root.device
        steps = [grid_step_deg(h, shell) for h in hypotheses]
        grids = {step: torch.from_numpy(rotation_grid(step)).to(device) for step in set(steps)}
        self.shifts = torch.from_numpy(shift_grid(reach_voxels, SHIFT_STEP_VOXELS)).to(device)
        self.unshift = self.points.phases(-self.shifts)  # (s, p)
        with torch.inference_mode():
            references = [Reference.of(h.windowed, device) for h in hypotheses]
            self.basis = self._common_basis(references, [grids[s] for s in steps])  # (2 p, k)
            self.banks = [
                self._bank(reference, grids[step])
                for reference, step in zip(references, steps, strict=True)
            ]

    def _whitened(self, reference: Reference, rotations: torch.Tensor) -> torch.Tensor:
        """A whitened structure in some rotations: (m, 2 p), real and imaginary parts."""
        parts = [
            torch.view_as_real(reference.at(some, self.points) * self.root).flatten(1)
            for some in torch.split(rotations, _CHUNK)
        ]
        return torch.cat(parts)

    def _common_basis(
        self, references: Sequence[Reference], grids: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """(2 p, k) components that keep :data:`MIN_KEPT_POWER_RATIO` of each structure."""
        some = [grid[:: math.ceil(len(grid) / _SOME_ROTATIONS)] for grid in grids]
        covariance = torch.zeros(2 * len(self.root), 2 * len(self.root), device=self.root.device)
        for reference, rotations in zip(references, some, strict=True):
            rows = self._unit_rows(reference, rotations)
            covariance.addmm_(rows.T, rows, alpha=1 / len(rows))
        # The leading principal components, by subspace iteration from a fixed random start (Halko
        # et al. 2011, SIAM Rev. 53, 217). Computing all components would take ten times as long.
        count = min(MAX_COMPONENTS, len(covariance))
        start = torch.randn(len(covariance), count, generator=torch.Generator().manual_seed(0))
        space = start.to(covariance)
        for _ in range(_ITERATIONS):
            space = torch.linalg.qr(covariance @ space).Q
        _, vectors = torch.linalg.eigh(space.T @ covariance @ space)
        basis = space @ vectors.flip(1)
        # Power that the first components keep, of the structure of which they keep least: (count,)
        kept = torch.ones(count, device=basis.device)
        for reference, rotations in zip(references, some, strict=True):
            parts = (self._unit_rows(reference, rotations) @ basis).square().mean(dim=0)
            kept = torch.minimum(kept, parts.cumsum(dim=0))
        used = min(int((kept < MIN_KEPT_POWER_RATIO).sum()) + 1, count)
        leading: torch.Tensor = basis[:, :used].contiguous()
        return leading

    def _unit_rows(self, reference: Reference, rotations: torch.Tensor) -> torch.Tensor:
        """As :meth:`_whitened`, with rows of norm 1."""
        rows = self._whitened(reference, rotations)
        unit: torch.Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-20)
        return unit

    def _bank(self, reference: Reference, rotations: torch.Tensor) -> _Bank:
        """One structure in the rotations that give different densities, and their numbers."""
        bank = self._unit_rows(reference, rotations) @ self.basis  # (m, k)
        unit = bank / bank.norm(dim=1, keepdim=True).clamp_min(1e-20)
        alike = (unit @ unit.T > MIN_SAME_CORRELATION).cpu().numpy()  # (m, m)
        left = np.ones(len(bank), dtype=bool)
        kept, counts = [], []
        for i in range(len(bank)):
            if left[i]:
                group = alike[i] & left
                group[i] = True
                left &= ~group
                kept.append(i)
                counts.append(int(group.sum()))
        return _Bank(
            bank[kept].contiguous(),
            rotations[kept],
            torch.tensor(counts, device=bank.device).float().log(),
            math.log(len(rotations)),
        )

    def __call__(self, x: torch.Tensor) -> Screened:
        """Compare some particles with all structures in all poses.

        Parameters
        ----------
        x
            (b, p) transforms at all the noise's points.
        """
        whitened = x[:, self.inside] * self.root  # (b, p of the screen)
        energy = whitened.abs().square().sum(dim=1)  # (b,)
        moved = torch.view_as_real(whitened[:, None] * self.unshift).flatten(2) @ self.basis
        moved = moved.flatten(0, 1)  # (b s, k)
        z, occam, rotations, shifts = [], [], [], []
        for bank in self.banks:
            poses = bank.log_rotations + math.log(len(self.shifts))
            found = (bank.rows @ moved.T).view(len(bank.rows), len(x), -1)  # (m, b, s)
            best, at, at_shift = _best_poses(found)  # (c, b) each
            # The log-likelihood of a pose with non-negative amplitude is z² / 2; overwrites found.
            log_mean = found.clamp_min_(0).square_().mul_(0.5)
            log_mean.add_(bank.log_counts[:, None, None])
            z.append(best[0])
            occam.append(log_mean.logsumexp(dim=(0, 2)) - poses - best[0].clamp_min(0).square() / 2)
            rotations.append(bank.rotations[at.T])
            shifts.append(self.shifts[at_shift.T])
        return Screened(
            torch.stack(z, dim=1).cpu().double().numpy(),
            torch.stack(occam, dim=1).cpu().double().clamp_max(0).numpy(),
            torch.stack(rotations, dim=1).cpu().numpy(),
            torch.stack(shifts, dim=1).cpu().numpy(),
            energy.cpu().double().numpy(),
        )

    def _reference(self, column: int) -> Reference:
        """A structure's transforms, cached."""
        if column not in self._references:
            density = self.hypotheses[column].windowed
            self._references[column] = Reference.of(density, self.root.device)
        return self._references[column]

    def similarity(self, hypothesis: Hypothesis) -> NDArray[np.float64]:
        """(h,) the largest correlation of a structure with each of the screen's, over all poses.

        Structures are whitened and multiplied by the CTF, at the screen's resolution. Poses are
        refined only for structures whose correlation on the grid is high enough.
        """
        reference = Reference.of(hypothesis.windowed, self.root.device)
        with torch.inference_mode():
            still = torch.eye(3, device=self.root.device)[None]
            seen = reference.at(still, self.points)  # (1, p)
            full = torch.zeros(1, len(self.inside), dtype=seen.dtype, device=seen.device)
            full[:, self.inside] = seen / (seen * self.root).norm().clamp_min(1e-20)
            found = self(full)
            correlations = found.z[0].copy()
            for column in np.flatnonzero(correlations > _MIN_REFINED_CORRELATION):
                _, _, scores, _ = refine_locally(
                    self._reference(int(column)),
                    seen,
                    torch.from_numpy(found.rotations[:1, column]).to(seen.device),
                    torch.from_numpy(found.shifts[:1, column]).to(seen.device),
                    points=self.points,
                    weight=self.root.square(),
                    reach=float(self.shifts.abs().max()),
                )
                correlations[column] = float(scores.max())
        return np.asarray(correlations)


def screen_all(
    cubes: Cubes, screen: Screen, noise: Noise, progress: Callable[[int], None] = lambda _: None
) -> Screened:
    """All particles through one screen, batch by batch."""
    parts = []
    with torch.inference_mode():
        for rows in batches(len(cubes), _BATCH):
            parts.append(screen(noise.transforms(cubes.read(rows))))
            progress(len(rows))
    return Screened.joined(parts)
