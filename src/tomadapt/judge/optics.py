"""Optics, scale and SNR, estimated from the particles with the most certain labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

SEARCHED_B_A2 = tuple(float(b) for b in range(0, 12001, 500))
SEARCHED_DEFOCUS_UM = (
    *(-5.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5),
    *(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0),
)
"""Relative to the stated defocus."""
SEARCHED_SCALE = tuple(round(1.08**step, 4) for step in range(-8, 9))
"""Ratios of the particles' size to the structures', 0.54 to 1.85."""
SAMPLE = 32
"""Most particles on which the optics are measured."""
EQUAL_NATS, CLEARLY_WORSE_NATS = 2.0, 4.5
"""A defocus less than the first below the best is as good; one three standard deviations below is
clearly worse."""
EQUAL_FRACTION, CLEARLY_WORSE_FRACTION = 0.002, 0.005
"""At least these fractions of the log-likelihood: with strong particles, errors of the structures
and of the noise weigh more than chance."""
MIN_ENVELOPE = 0.1
"""Shells in which the envelope is below this are not used."""
_SCALED_B_A2 = SEARCHED_B_A2[::4]


@dataclass(frozen=True)
class MeasuredOptics:
    """Optics estimated from the particles with the most certain labels.

    Attributes
    ----------
    b_factor_A2
        B of an envelope exp(−B k²/4) in addition to what was stated: errors of the tilt series'
        alignment, exposure, and other causes of blurring.
    defocus_um
        Defocus of the largest summed log-likelihood of the particles, or the one next to the stated
        that is as good; None without a CTF.
    defocus_range_um
        Lowest and highest of :data:`SEARCHED_DEFOCUS_UM` that are not clearly worse. The range is
        wide where the CTF has no zero up to the Nyquist frequency. None without a CTF.
    defocus_nats
        That log-likelihood minus the one at the stated defocus.
    particles
        Number of particles used.
    scale, scale_nats
        Ratio of the particles' size to the structures' of the largest summed log-likelihood, and
        that log-likelihood minus the one at a ratio of 1.
    snr, snr_before_ctf
        Median over the particles of the fitted structure's power over the noise's, in the whole
        cube at all measured points: as recorded, and without CTF and envelope. Both are SNRs of
        cubes, which are higher than those of the tilt images. When the CTF was corrected, the
        second is without envelope only. None for whitened cubes.
    """

    b_factor_A2: float
    defocus_um: float | None
    defocus_nats: float
    particles: int
    scale: float = 1.0
    scale_nats: float = 0.0
    snr: float | None = None
    snr_before_ctf: float | None = None
    defocus_range_um: tuple[float, float] | None = None

    @classmethod
    def of(cls, log_likelihoods: torch.Tensor, particles: int) -> MeasuredOptics:
        """The maximum of the log-likelihoods (b,) of :func:`b_factor_log_likelihoods`."""
        return cls(SEARCHED_B_A2[int(log_likelihoods.argmax())], None, 0.0, particles)

    def with_defocus(self, sums: torch.Tensor, acquisition: Acquisition) -> MeasuredOptics:
        """The same with the best defocus by the sums (2, d, shells) of :func:`defocus_sums`."""
        product, power = sums
        found = (product.clamp_min(0).square() / (2 * power.clamp_min(1e-20))).sum(dim=1)  # (d,)
        defoci = np.array(_searched_defoci(acquisition))
        below = (found.max() - found).numpy()
        largest = float(found.max())
        as_good = defoci[below <= max(EQUAL_NATS, EQUAL_FRACTION * largest)]
        best = as_good[np.abs(as_good).argmin()]
        worse = max(CLEARLY_WORSE_NATS, CLEARLY_WORSE_FRACTION * largest)
        possible = acquisition.defocus_um + defoci[below <= worse]
        return replace(
            self,
            defocus_um=float(acquisition.defocus_um + best),
            defocus_range_um=(float(possible.min()), float(possible.max())),
            defocus_nats=float(below[defoci == 0.0][0] - below[defoci == best][0]),
        )

    def with_scale(self, log_likelihoods: torch.Tensor) -> MeasuredOptics:
        """The same with the best scale of :func:`scale_log_likelihoods`, (s,)."""
        best = int(log_likelihoods.argmax())
        nats = float(log_likelihoods[best] - log_likelihoods[SEARCHED_SCALE.index(1.0)])
        return replace(self, scale=SEARCHED_SCALE[best], scale_nats=nats)

    def with_snr(self, ratios: NDArray[np.float64]) -> MeasuredOptics:
        """The same with the medians of the ratios (m, 2) of :func:`signal_to_noise`."""
        after, before = np.median(ratios, axis=0)
        return replace(self, snr=float(after), snr_before_ctf=float(before))


@dataclass(frozen=True, eq=False)
class Sample:
    """Particles of one recording, each with its most certain structure.

    Attributes
    ----------
    cubes, refined, hypotheses, noise
        As they were refined.
    columns
        (m,) the structure of each particle.
    voxel_size_A
        In Å.
    """

    cubes: Cubes
    columns: NDArray[np.integer]
    refined: Refined
    hypotheses: Sequence[Hypothesis]
    noise: Noise
    voxel_size_A: float

    @property
    def k2_A2(self) -> torch.Tensor:
        """(p,) squared frequencies of the points, 1/Å²."""
        return self.noise.points.k.square().sum(dim=1) / self.voxel_size_A**2

    def particles(self) -> Iterator[tuple[torch.Tensor, Reference, torch.Tensor, torch.Tensor]]:
        """For each: whitened transform (p,), structure, rotation (1, 3, 3), phases (p,)."""
        root = self.noise.weight.sqrt()
        prepared: dict[int, Reference] = {}
        for row, column in enumerate(self.columns.tolist()):
            x = self.noise.transforms(self.cubes.read([row]))[0] * root
            if column not in prepared:
                prepared[column] = Reference.of(self.hypotheses[column].windowed, root.device)
            R = torch.from_numpy(self.refined.rotations[row, column])[None].to(root.device)
            s = torch.from_numpy(self.refined.shifts[row, column]).to(root.device)
            yield x, prepared[column], R, self.noise.points.phases(s)


def b_factor_log_likelihoods(sample: Sample) -> torch.Tensor:
    """Summed log-likelihood, at fixed poses, for each of :data:`SEARCHED_B_A2`.

    Parameters
    ----------
    sample
        The particles.

    Returns
    -------
    Tensor
        (b,) nats, at the defocus as stated, at which the judge compares.
    """
    points, root = sample.noise.points, sample.noise.weight.sqrt()
    curves = _envelopes(sample.k2_A2, SEARCHED_B_A2) * points.transfer
    log_likelihoods = torch.zeros(len(curves))
    with torch.inference_mode():
        for x, reference, R, phases in sample.particles():
            seen = reference.at(R, _flat(points))[0] * phases * root
            product, power = (x * seen.conj()).real, seen.abs().square()
            log_likelihoods += _log_likelihoods(curves, product, power)
    return log_likelihoods


def defocus_sums(sample: Sample, acquisition: Acquisition) -> torch.Tensor:
    """What the defocus is measured from: sums over the particles, at fixed poses.

    A defocus is judged by the zeros of its CTF alone. The amplitude of the particles in each shell
    is left free, since B-factor, noise and the structures' maps are never known well enough: with a
    fixed envelope, strong particles would fit a wrong defocus better by hundreds of nats where
    no zero lies below the Nyquist frequency.

    Parameters
    ----------
    sample
        The particles.
    acquisition
        As stated.

    Returns
    -------
    Tensor
        (2, d, shells), for the valid ones of :data:`SEARCHED_DEFOCUS_UM`: the product of particles
        and structures, and the power of the structures, both whitened. The amplitude p/q in a shell
        has the log-likelihood p²/(2q).
    """
    points, root = sample.noise.points, sample.noise.weight.sqrt()
    transfers = torch.stack(
        [
            _transfer(acquisition, points, sample.voxel_size_A, more_defocus_um=d)
            for d in _searched_defoci(acquisition)
        ]
    )  # (d, p)
    sums = torch.zeros(2, len(transfers), int(points.shell.max()) + 1, device=root.device)
    with torch.inference_mode():
        for x, reference, R, phases in sample.particles():
            seen = reference.at(R, _flat(points))[0] * phases * root
            product, power = (x * seen.conj()).real, seen.abs().square()
            whole = (points.transfer.square() * power).sum().clamp_min(1e-20)
            amplitude = ((points.transfer * product).sum() / whole).clamp_min(0)
            sums[0].index_add_(1, points.shell, amplitude * transfers * product)
            sums[1].index_add_(1, points.shell, (amplitude * transfers).square() * power)
    return sums.cpu()


def scale_log_likelihoods(sample: Sample, acquisition: Acquisition | None) -> torch.Tensor:
    """Summed log-likelihood, at fixed poses, for particles larger or smaller than the structures.

    With a wrong voxel size particles appear too large or too small, and the CTF is scaled too:
    particles that are s times larger in voxels were recorded with voxels s times smaller.

    Parameters
    ----------
    sample
        The particles.
    acquisition
        As stated; None where no CTF applies, and only the structures are scaled.

    Returns
    -------
    Tensor
        (s,) nats, for :data:`SEARCHED_SCALE`, each at the best of some B-factors.
    """
    points, root = sample.noise.points, sample.noise.weight.sqrt()
    envelopes = _envelopes(sample.k2_A2, _SCALED_B_A2)
    scaled, curves = [], []
    for scale in SEARCHED_SCALE:
        k = points.k * scale
        inside = (k.norm(dim=1) < 0.5).to(k.dtype)  # the structure is unknown beyond Nyquist
        transfer = points.transfer
        if acquisition is not None:
            transfer = _transfer(acquisition, points, sample.voxel_size_A / scale)
        scaled.append(replace(_flat(points), k=k.clamp(-0.5, 0.5)))
        curves.append(envelopes * transfer * inside)
    log_likelihoods = torch.zeros(len(scaled), len(envelopes))
    with torch.inference_mode():
        for x, reference, R, phases in sample.particles():
            for number, there in enumerate(scaled):
                seen = reference.at(R, there)[0] * phases * root
                product, power = (x * seen.conj()).real, seen.abs().square()
                log_likelihoods[number] += _log_likelihoods(curves[number], product, power)
    return log_likelihoods.amax(dim=1)


def signal_to_noise(sample: Sample, b_factor_A2: float) -> NDArray[np.float64]:
    """Power of each particle's fitted structure over the power of the residual.

    Parameters
    ----------
    sample
        The particles.
    b_factor_A2
        B of the envelope.

    Returns
    -------
    ndarray
        (m, 2) at the measured points: with the transfer and the envelope, and without them.
    """
    points, noise = sample.noise.points, sample.noise
    root = noise.weight.sqrt()
    curve = points.transfer * torch.exp(-b_factor_A2 * sample.k2_A2 / 4)
    found = []
    with torch.inference_mode():
        for x, reference, R, phases in sample.particles():
            whole = reference.at(R, _flat(points))[0] * phases
            seen = whole * curve * root
            amplitude = (x * seen.conj()).real.sum() / seen.abs().square().sum().clamp_min(1e-30)
            # The residual is noise, of which the window kept a fraction.
            left = (noise.power * (x - amplitude * seen).abs().square()).sum() / noise.kept
            power = points.multiplicity * (amplitude * whole.abs()).square()
            found.append([float((power * curve.square()).sum() / left), float(power.sum() / left)])
    return np.array(found).reshape(-1, 2)


def _log_likelihoods(
    curves: torch.Tensor, product: torch.Tensor, power: torch.Tensor
) -> torch.Tensor:
    """(b,) log-likelihood of one particle's structure with each of b transfers (b, p)."""
    z = (curves @ product) / (curves.square() @ power).sqrt().clamp_min(1e-20)
    return z.clamp_min(0).square().cpu() / 2


def _envelopes(k2_A2: torch.Tensor, b_factors_A2: Sequence[float]) -> torch.Tensor:
    return torch.stack([torch.exp(-b * k2_A2 / 4) for b in b_factors_A2])


def _flat(points: MeasuredPoints) -> MeasuredPoints:
    return replace(points, transfer=torch.ones_like(points.transfer))


def _searched_defoci(acquisition: Acquisition) -> list[float]:
    """Relative to the stated one, µm."""
    return [d for d in SEARCHED_DEFOCUS_UM if abs(acquisition.defocus_um + d) <= 30]


def _transfer(
    acquisition: Acquisition,
    points: MeasuredPoints,
    voxel_size_A: float,
    *,
    more_defocus_um: float = 0.0,
) -> torch.Tensor:
    """The transfer (p,) at another defocus or voxel size."""
    defocus_um = acquisition.defocus_um + more_defocus_um
    changed = acquisition.model_copy(update={"defocus_um": defocus_um})
    made = MeasuredPoints.of(changed, n=points.n, voxel_size_A=voxel_size_A)
    return made.transfer.to(points.transfer)


def with_envelope(noise: Noise, b_factor_A2: float, voxel_size_A: float, *, at_least: int) -> Noise:
    """The same noise, with the envelope exp(−B k²/4) in the transfer of its points.

    Shells above ``at_least`` are dropped where the envelope is below :data:`MIN_ENVELOPE`.
    """
    points = noise.points
    k2 = points.k.square().sum(dim=1) / voxel_size_A**2
    damped = replace(points, transfer=points.transfer * torch.exp(-b_factor_A2 * k2 / 4))
    highest = int(points.shell.max())
    if b_factor_A2 > 0:
        k = math.sqrt(4 * math.log(1 / MIN_ENVELOPE) / b_factor_A2)
        highest = min(highest, max(at_least, round(k * voxel_size_A * points.n)))
    return replace(noise, points=damped).up_to(highest)
