"""The best few structures of each particle at full resolution, and what that says of the optics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.judge.evidence import log_likelihood_ratio
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.screen import Screened
from tomadapt.recover.climb import best_of, climb
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

_BATCH = 16
_STEPS = 3
FINALISTS = 1
"""Poses that are refined at full resolution."""
SEARCHED_B_A2 = tuple(float(b) for b in range(0, 12001, 500))
SEARCHED_DEFOCUS_UM = (
    -5.0,
    -4.0,
    -3.0,
    -2.0,
    -1.5,
    -1.0,
    -0.5,
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
)
"""Relative to the stated defocus."""
SAMPLE = 32
LEAST_ENVELOPE = 0.1
"""What the envelope lets through of the highest shell that is used."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Particles compared with some of the structures at full resolution.

    Attributes
    ----------
    z
        (n, h) correlations in standard deviations of noise; NaN where it was not compared.
    amplitude
        (n, h) of the structure's density in the particle; NaN as above.
    rotations, shifts
        (n, h, 3, 3) and (n, h, 3) voxels; the screen's where it was not compared.
    energy
        (n,) whitened energy at all points.
    freedom
        What noise alone has of it on average.
    """

    z: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    energy: NDArray[np.float64]
    freedom: float

    def take(self, rows: NDArray[np.integer]) -> Refined:
        """Those of some particles."""
        names = ("z", "amplitude", "rotations", "shifts", "energy")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def gain(self) -> NDArray[np.float64]:
        """(n, h) log-likelihood ratio against noise at the best pose; −inf where not compared."""
        ratio = log_likelihood_ratio(np.nan_to_num(self.z), self.energy[:, None], self.freedom)
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
    """Climb from the screen's poses, first at the screen's resolution and then at all points.

    Parameters
    ----------
    cubes
        The particles.
    screened
        Where to begin.
    wanted
        (n, h) which structures to compare with which particles.
    hypotheses
        The h structures.
    noise
        Of the particles.
    shell
        The highest of the first climb.
    reach_voxels
        How far shifts may go.
    progress
        Told how many comparisons are finished.
    """
    device = noise.power.device
    points, weight = noise.points, noise.weight
    low, low_points = points.shell <= shell, points.up_to(shell)
    z = np.full(wanted.shape, np.nan)
    amplitude = np.full(wanted.shape, np.nan)
    rotations, shifts = screened.rotations[:, :, 0].copy(), screened.shifts[:, :, 0].copy()
    energy = np.zeros(len(cubes))
    with torch.inference_mode():
        for rows in _batches(np.arange(len(cubes))):
            x = noise.transforms(cubes.read(rows))
            energy[rows] = (x.abs().square() @ weight).cpu().numpy()
        # One structure after another: of its transforms only one is in memory.
        for column in np.flatnonzero(wanted.any(axis=0)).tolist():
            reference = Reference.of(hypotheses[column].windowed, device)
            for at in _batches(np.flatnonzero(wanted[:, column])):
                x = noise.transforms(cubes.read(at))
                begun = climb(
                    reference,
                    x[:, low],
                    torch.from_numpy(screened.rotations[at, column]).to(device),  # (b, c, 3, 3)
                    torch.from_numpy(screened.shifts[at, column]).to(device),
                    points=low_points,
                    weight=weight[low],
                    reach=reach_voxels,
                    iterations=_STEPS,
                )
                found = climb(
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
    return Refined(z, amplitude, rotations, shifts, energy, noise.freedom(points))


def _batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(rows), _BATCH):
        yield rows[first : first + _BATCH]


@dataclass(frozen=True)
class MeasuredOptics:
    """What the surest particles say of the optics.

    Attributes
    ----------
    b_factor_A2
        B of an envelope exp(−B k²/4) beyond what was stated: alignment of the tilt series,
        exposure and whatever else blurs.
    defocus_um
        At which the particles' summed log-likelihood is largest; None without a CTF.
    defocus_nats
        By how much it is larger there than at the stated defocus.
    particles
        How many were used.
    """

    b_factor_A2: float
    defocus_um: float | None
    defocus_nats: float
    particles: int

    @classmethod
    def of(
        cls, gains: torch.Tensor, acquisition: Acquisition | None, particles: int
    ) -> MeasuredOptics:
        """Read them off the gains (d, b) of :func:`optics_gains`.

        The B-factor is the best at the stated defocus, which is the one that is used.
        """
        defoci = _searched_defoci(acquisition)
        stated = defoci.index(0.0)
        best = int(gains.amax(dim=1).argmax())
        return cls(
            SEARCHED_B_A2[int(gains[stated].argmax())],
            None if acquisition is None else acquisition.defocus_um + defoci[best],
            float(gains[best].max() - gains[stated].max()),
            particles,
        )


def _searched_defoci(acquisition: Acquisition | None) -> list[float]:
    """Relative to the stated one, µm."""
    if acquisition is None:
        return [0.0]
    return [d for d in SEARCHED_DEFOCUS_UM if abs(acquisition.defocus_um + d) <= 30]


def optics_gains(
    cubes: Cubes,
    columns: NDArray[np.integer],
    refined: Refined,
    hypotheses: Sequence[Hypothesis],
    noise: Noise,
    *,
    acquisition: Acquisition | None,
    voxel_size_A: float,
) -> torch.Tensor:
    """Summed log-likelihood at fixed poses of each defocus and B-factor that is searched.

    Parameters
    ----------
    cubes, refined, hypotheses, noise
        As they were refined.
    columns
        (m,) the structure of each particle.
    acquisition
        As stated; None where no CTF applies, and defocus is not searched.
    voxel_size_A
        In Å.

    Returns
    -------
    Tensor
        (d, b) nats, by :data:`SEARCHED_DEFOCUS_UM`, as far as they can be, and
        :data:`SEARCHED_B_A2`.
    """
    points = noise.points
    k2 = points.k.square().sum(dim=1) / voxel_size_A**2
    root = noise.weight.sqrt()
    envelopes = torch.stack([torch.exp(-b * k2 / 4) for b in SEARCHED_B_A2])
    transfers = points.transfer[None]
    if acquisition is not None:
        defoci = _searched_defoci(acquisition)
        transfers = torch.stack([_transfer(acquisition, d, points, voxel_size_A) for d in defoci])
    gains = torch.zeros(len(transfers), len(envelopes))
    flat = replace(points, transfer=torch.ones_like(points.transfer))
    with torch.inference_mode():
        for row, column in enumerate(columns.tolist()):
            x = noise.transforms(cubes.read([row]))[0] * root
            reference = Reference.of(hypotheses[column].windowed, root.device)
            R = torch.from_numpy(refined.rotations[row, column])[None].to(root.device)
            s = torch.from_numpy(refined.shifts[row, column]).to(root.device)
            seen = reference.at(R, flat)[0] * points.phases(s) * root
            product, power = (x * seen.conj()).real, seen.abs().square()
            for number, transfer in enumerate(transfers):
                curves = envelopes * transfer
                z = (curves @ product) / (curves.square() @ power).sqrt().clamp_min(1e-20)
                gains[number] += z.clamp_min(0).square().cpu() / 2
    return gains


def _transfer(
    acquisition: Acquisition, change_um: float, points: MeasuredPoints, voxel_size_A: float
) -> torch.Tensor:
    changed = acquisition.model_copy(update={"defocus_um": acquisition.defocus_um + change_um})
    made = MeasuredPoints.of(changed, n=points.n, voxel_size_A=voxel_size_A)
    return made.transfer.to(points.transfer)


def with_envelope(noise: Noise, b_factor_A2: float, voxel_size_A: float, *, at_least: int) -> Noise:
    """The same noise at points whose transfer has the envelope exp(−B k²/4) too.

    Shells above ``at_least`` where next to nothing is left are cut off.
    """
    points = noise.points
    k2 = points.k.square().sum(dim=1) / voxel_size_A**2
    damped = replace(points, transfer=points.transfer * torch.exp(-b_factor_A2 * k2 / 4))
    highest = int(points.shell.max())
    if b_factor_A2 > 0:
        k = math.sqrt(4 * math.log(1 / LEAST_ENVELOPE) / b_factor_A2)
        highest = min(highest, max(at_least, round(k * voxel_size_A * points.n)))
    return replace(noise, points=damped).up_to(highest)
