"""Checks of the simulator against physics, on phantoms with exactly known density.

``tomadapt self-check`` runs them on the user's machine and acquisition; the tests run them on odd
and even boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.fsc import fourier_shell_correlation
from tomadapt.simulate import optics
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.projection import SliceGrid, central_slices
from tomadapt.simulate.simulator import Simulator


@dataclass(frozen=True)
class Check:
    """One claim, the measured value, and the accepted range."""

    name: str
    claim: str
    measured: float
    lowest: float
    highest: float

    @property
    def passed(self) -> bool:
        """Whether the measured value lies within the bounds (NaN does not)."""
        return bool(self.lowest <= self.measured <= self.highest)


def run_checks(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int = 0
) -> list[Check]:
    """Run every check for an acquisition and a box.

    Parameters
    ----------
    acquisition
        The acquisition to check; checks of geometry use it without CTF and MTF.
    box
        24 … 64 voxels.
    voxel_size_A
        Voxel size in Å.
    seed
        Seed of poses and noise.

    Returns
    -------
    list of Check
        All checks, including failed ones.
    """
    checks: list[Callable[..., Check]] = [
        check_snr,
        check_thon_rings,
        check_empty_wedge,
        check_full_signal,
        check_reconstruction,
        check_projection,
        check_pose,
        check_parseval,
    ]
    with torch.inference_mode():
        return [
            check(acquisition, box=box, voxel_size_A=voxel_size_A, seed=seed) for check in checks
        ]


def _phantom(box: int) -> GaussianPhantom:
    return GaussianPhantom.random(seed=7, radius=0.2 * box, sigma=max(1.2, 0.03 * box))


def _without_optics(acquisition: Acquisition) -> Acquisition:
    # Amplitude contrast 1 without phase shifts makes the CTF 1 everywhere.
    return acquisition.model_copy(
        update={
            "defocus_um": 0.0,
            "astigmatism_um": 0.0,
            "spherical_aberration_mm": 0.0,
            "amplitude_contrast": 1.0,
            "mtf": "none",
            "b_factor_A2": 0.0,
            "exposure_per_tilt_e_per_A2": 0.0,
        }
    )


def _poses(n: int, box: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(n, rng=rng).as_matrix().astype(np.float32)
    return rotations, rng.uniform(-0.08 * box, 0.08 * box, (n, 3)).astype(np.float32)


def _images(simulator: Simulator, half_transforms: torch.Tensor) -> torch.Tensor:
    """Half-transforms (b, t, n, n // 2 + 1) → images (b, t, n, n), [y, x], centred."""
    n = simulator.box
    images: torch.Tensor = torch.fft.irfft2(half_transforms, s=(n, n))
    centred: torch.Tensor = torch.fft.fftshift(images, dim=(-2, -1))
    return centred.transpose(-2, -1)


def check_snr(acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int) -> Check:
    """SNR from the correlation of two images with the same signal and independent noise.

    The SNR is ρ / (1 − ρ) for a correlation ρ.
    """
    stated = 0.1
    density = {"phantom": _phantom(box).density(box)}
    rotations, shifts = _poses(24, box, seed)
    realisations = []
    for noise_seed in (seed, seed + 1):
        simulator = Simulator(density, acquisition, voxel_size_A=voxel_size_A, seed=noise_seed)
        images = simulator.tilt_images("phantom", range(24), rotations, shifts)
        half = images.signal + images.noise / stated**0.5
        realisations.append(_images(simulator, half).flatten(1).double())
    rho = torch.stack(
        [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*realisations, strict=True)]
    )
    mean_rho = float(rho.mean())
    ratio = mean_rho / (1 - mean_rho) / stated
    return Check("snr", "SNR from noise pairs / stated SNR", ratio, 0.95, 1.05)


def check_thon_rings(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> Check:
    """Largest distance, in Fourier pixels, of a dark ring from a zero of the CTF.

    The zeros are computed from the phase χ(k) in closed form (a quadratic in k²), not from the CTF
    that the simulator used. A point scatterer has power at every frequency. The image is not
    cropped, so that rings are not blurred.
    """
    stigmatic = acquisition.model_copy(update={"astigmatism_um": 0.0})
    point = GaussianPhantom(np.zeros((1, 3)), 0.7)
    simulator = Simulator(
        {"point": point.density(64)}, stigmatic, voxel_size_A=voxel_size_A, seed=seed
    )
    size = 256
    transfer = optics.contrast_transfer(stigmatic, n=size, pixel_size_A=voxel_size_A)
    grid = SliceGrid.inside_nyquist(size)
    slices = central_slices(
        simulator.transforms["point"], torch.eye(3)[None], torch.zeros(1, 3), torch.zeros(1), grid
    )
    recorded = slices[0, 0] * transfer.T[grid.rows, grid.columns]
    power = recorded.abs().square().numpy()
    radius = torch.hypot(grid.kx, grid.ky).numpy() * size
    bins = np.rint(radius).astype(int)
    profile = np.bincount(bins, power) / np.maximum(np.bincount(bins), 1)
    zeros = ctf_zeros(stigmatic, highest=0.5 / voxel_size_A) * voxel_size_A * size
    worst = 0.0
    for zero in zeros[zeros < 0.45 * size]:
        near = np.arange(int(zero) - 3, int(zero) + 5)
        near = near[(near > 0) & (near < len(profile))]
        worst = max(worst, abs(float(near[np.argmin(profile[near])]) - zero))
    claim = "ring to CTF zero, Fourier pixels of 256"
    if not len(zeros):
        claim += " (no zero below Nyquist: nothing to check)"
    return Check("thon_rings", claim, worst, 0.0, 1.0)


def ctf_zeros(acquisition: Acquisition, *, highest: float) -> NDArray[np.float64]:
    """Frequencies (1/Å) where πλΔf k² − ½πC_sλ³k⁴ + arcsin A is a multiple of π, below highest."""
    wavelength = optics.electron_wavelength_A(acquisition.voltage_kv)
    a = np.pi * wavelength * acquisition.defocus_um * 1e4
    b = np.pi / 2 * acquisition.spherical_aberration_mm * 1e7 * wavelength**3
    offset = np.arcsin(acquisition.amplitude_contrast)
    found: list[float] = []
    for multiple in range(-400, 401):
        # −b u² + a u + offset − mπ = 0 with u = k².
        for u in (
            np.roots([-b, a, offset - multiple * np.pi])
            if b
            else [(multiple * np.pi - offset) / a if a else np.nan]
        ):
            if np.isreal(u) and 0 < np.real(u) <= highest**2:
                found.append(float(np.sqrt(np.real(u))))
    return np.unique(np.round(found, 12))


def _clean_volumes(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Noise-free volumes, the same phantoms exactly, and the measured Fourier voxels."""
    phantom = _phantom(box)
    simulator = Simulator(
        {"phantom": phantom.density(box)},
        _without_optics(acquisition),
        voxel_size_A=voxel_size_A,
        seed=seed,
    )
    rotations, shifts = _poses(4, box, seed)
    images = simulator.tilt_images("phantom", range(4), rotations, shifts)
    volumes = simulator.reconstruct(images.signal).numpy()
    truth = np.stack(
        [phantom.posed(r, s).density(box) for r, s in zip(rotations, shifts, strict=True)]
    )
    plane = simulator.reconstruct.measured.numpy()  # [kz, kx]
    reach = np.abs(np.fft.fftfreq(box, 1 / box)) <= (box - 1) // 2
    measured = plane[:, None, :] & reach[None, :, None]
    return volumes, truth, measured


def check_empty_wedge(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> Check:
    """Fraction of the volumes' power at frequencies that no tilt reached."""
    volumes, _, measured = _clean_volumes(
        acquisition, box=box, voxel_size_A=voxel_size_A, seed=seed
    )
    power = np.abs(np.fft.fftn(volumes, axes=(1, 2, 3))) ** 2
    k = np.fft.fftfreq(box, 1 / box)
    angle = np.rad2deg(np.arctan2(k[:, None], k[None, :]))  # of (kz, kx)
    folded = (angle + 90) % 180 - 90
    tilts = acquisition.tilt_angles_deg
    # A margin for voxels next to the outermost slices, which belong to these.
    margin = np.rad2deg(1.5 / np.maximum(np.hypot(k[:, None], k[None, :]), 1.5))
    outside = (folded > tilts[-1] + margin) | (folded < tilts[0] - margin)
    outside &= np.abs(folded) < 90 + 1e-9
    wedge = np.broadcast_to(outside[:, None, :], measured.shape)
    share = float(power[:, wedge].sum() / power.sum())
    return Check("empty_wedge", "power in the missing wedge / all power", share, 0.0, 1e-6)


def check_full_signal(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> Check:
    """Amplitude of the volumes over that of the truth at measured frequencies up to ½ Nyquist."""
    volumes, truth, measured = _clean_volumes(
        acquisition, box=box, voxel_size_A=voxel_size_A, seed=seed
    )
    k = np.fft.fftfreq(box)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)
    keep = measured & (radius < 0.25)
    ratios = []
    for volume, exact in zip(volumes, truth, strict=True):
        a, b = np.fft.fftn(volume)[keep], np.fft.fftn(exact)[keep]
        ratios.append(np.linalg.norm(a) / np.linalg.norm(b))
    # Each particle's images were scaled to unit variance; the strongest shell gives the factor.
    factors = [
        np.abs(np.fft.fftn(v)[0, 0, 1]) / np.abs(np.fft.fftn(t)[0, 0, 1])
        for v, t in zip(volumes, truth, strict=True)
    ]
    ratio = float(np.mean(np.array(ratios) / np.array(factors)))
    return Check("full_signal", "amplitude outside the wedge / truth", ratio, 0.9, 1.1)


def check_reconstruction(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> Check:
    """Lowest FSC against the exactly posed phantom over measured shells up to 0.4 cycles/voxel."""
    volumes, truth, measured = _clean_volumes(
        acquisition, box=box, voxel_size_A=voxel_size_A, seed=seed
    )
    curves = [
        fourier_shell_correlation(v, t, measured=measured)
        for v, t in zip(volumes, truth, strict=True)
    ]
    lowest = float(np.mean(curves, axis=0)[1 : int(0.4 * box)].min())
    return Check("reconstruction", "lowest FSC with the truth, measured shells", lowest, 0.95, 1.0)


def check_projection(
    acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int
) -> Check:
    """Relative error of noise-free tilt images against exact line integrals."""
    phantom = _phantom(box)
    simulator = Simulator(
        {"phantom": phantom.density(box)},
        _without_optics(acquisition),
        voxel_size_A=voxel_size_A,
        seed=seed,
    )
    rotations, shifts = _poses(3, box, seed)
    images = simulator.tilt_images("phantom", range(3), rotations, shifts)
    got = _images(simulator, images.signal).numpy()
    errors = []
    for particle, (rotation, shift) in enumerate(zip(rotations, shifts, strict=True)):
        posed = phantom.posed(rotation, shift)
        exact = np.stack([posed.projection(box, a) for a in acquisition.tilt_angles_deg])
        exact /= exact.std()
        errors.append(np.linalg.norm(got[particle] - exact) / np.linalg.norm(exact))
    return Check("projection", "error of tilt images / exact", float(max(errors)), 0.0, 0.02)


def check_pose(acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int) -> Check:
    """Fraction of clean volumes that correlate best with their own pose.

    Each is compared with 200 random poses, and with rotations of the true pose about 20 axes by 5°
    (in a small box by the angle that moves the phantom's rim by 0.7 voxels).
    """
    volumes, truth, measured = _clean_volumes(
        acquisition, box=box, voxel_size_A=voxel_size_A, seed=seed
    )
    phantom = _phantom(box)
    rotations, shifts = _poses(len(volumes), box, seed)
    rng = np.random.default_rng(seed + 1)
    turn = max(np.deg2rad(5), 0.7 / (0.2 * box))
    won = []
    for volume, exact, rotation, shift in zip(volumes, truth, rotations, shifts, strict=True):
        axes = rng.normal(size=(20, 3))
        axes *= turn / np.linalg.norm(axes, axis=1, keepdims=True)
        near = Rotation.from_rotvec(axes).as_matrix() @ rotation
        rivals = np.concatenate([Rotation.random(200, rng=rng).as_matrix(), near])
        candidates = np.stack([exact, *(phantom.posed(r, shift).density(box) for r in rivals)])
        # Correlations over the measured part of Fourier space, without the mean.
        seen = torch.fft.fftn(torch.from_numpy(candidates), dim=(1, 2, 3)).numpy() * measured
        seen[:, 0, 0, 0] = 0
        products = seen.reshape(len(seen), -1) @ np.fft.fftn(volume).conj().ravel()
        score = products.real / np.linalg.norm(seen.reshape(len(seen), -1), axis=1)
        won.append(int(np.argmax(score)) == 0)
    return Check(
        "pose", "clean volumes that match their own pose best", float(np.mean(won)), 1.0, 1.0
    )


def check_parseval(acquisition: Acquisition, *, box: int, voxel_size_A: float, seed: int) -> Check:
    """Variance of projections from Fourier space over that from exact images."""
    phantom = _phantom(box)
    simulator = Simulator(
        {"phantom": phantom.density(box)}, acquisition, voxel_size_A=voxel_size_A, seed=seed
    )
    rotations, shifts = _poses(2, box, seed)
    slices = central_slices(
        simulator.transforms["phantom"],
        torch.from_numpy(rotations),
        torch.from_numpy(shifts),
        simulator.tilts,
        simulator.grid,
    )
    in_fourier = simulator.slice_variance(slices).numpy()
    ratios = []
    for particle, (rotation, shift) in enumerate(zip(rotations, shifts, strict=True)):
        posed = phantom.posed(rotation, shift)
        exact = np.stack([posed.projection(box, a) for a in acquisition.tilt_angles_deg])
        ratios.append(in_fourier[particle] / exact.var())
    return Check(
        "parseval", "variance in Fourier space / in images", float(np.mean(ratios)), 0.98, 1.02
    )
