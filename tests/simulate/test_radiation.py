"""Envelope, exposure and thickness against hand calculation and an independent image formation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from forward_model import VOXEL_A, ctf, error, images_of, poses, projections, radius

from tomadapt.acquisition import BATCH_A, PSEUDO_EXPERIMENTAL, Acquisition, tilt_range
from tomadapt.simulate import optics, radiation, selfcheck
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.projection import SliceGrid
from tomadapt.simulate.simulator import Simulator

TILTS = (-60.0, -30.0, 0.0, 30.0, 60.0)
PHANTOM = GaussianPhantom.random(7, radius=5, sigma=1.3)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def with_tilts(**fields: object) -> Acquisition:
    return Acquisition.model_validate({"defocus_um": 5, "tilt_angles_deg": TILTS} | fields)


# --- envelope


@pytest.mark.parametrize("n", [40, 41])
def test_the_envelope_at_a_known_frequency(n: int) -> None:
    got = optics.envelope(with_tilts(b_factor_A2=400), n=n, pixel_size_A=10.0)
    assert got[0, 0] == 1
    # k = 8 / (n · 10 Å): exp(−100 k²) is exp(−0.04) for n = 40.
    assert got[0, 8] == pytest.approx(np.exp(-100 * (8 / n / 10) ** 2), rel=1e-6)
    assert got[0, 8] == got[8, 0] == got[-8, 0]
    if n == 40:
        assert got[0, 8] == pytest.approx(0.960789, abs=1e-6)
    assert (optics.envelope(with_tilts(), n=n, pixel_size_A=10.0) == 1).all()


def test_the_signal_passes_ctf_envelope_and_mtf() -> None:
    acquisition = with_tilts(b_factor_A2=900)
    got = optics.signal_transfer(acquisition, n=40, pixel_size_A=VOXEL_A).numpy()
    k = radius(40)
    expected = ctf(acquisition, k / VOXEL_A) * np.exp(-225 * (k / VOXEL_A) ** 2) * np.sinc(k)
    np.testing.assert_allclose(got, expected, atol=5e-3)


# --- exposure


def test_critical_exposure_by_hand() -> None:
    k = torch.tensor([0.0, 0.1, 0.3])
    got = radiation.critical_exposure(k, voltage_kv=300)
    assert torch.isinf(got[0])
    # 0.24499 · 10^1.6649 + 2.8141 = 0.24499 · 46.228 + 2.8141
    assert float(got[1]) == pytest.approx(14.139, abs=2e-3)
    assert 4.5 < float(got[2]) < 4.7
    at_200 = radiation.critical_exposure(k[1:], voltage_kv=200)
    np.testing.assert_allclose(at_200 / got[1:], 0.8, atol=0.005)  # the paper's factor


def test_attenuation_by_hand() -> None:
    acquisition = with_tilts(exposure_per_tilt_e_per_A2=20)
    got = radiation.exposure_attenuation(acquisition, torch.tensor([0.0, 0.1]))
    assert got.dtype == torch.float32
    assert (got[:, 0] == 1).all()
    # In the middle of the first image, untilted, 10 e/Å²: exp(−10 / 28.279).
    assert float(got[2, 1]) == pytest.approx(0.7021, abs=2e-4)
    none = radiation.exposure_attenuation(with_tilts(), torch.tensor([0.0, 0.1, 0.5]))
    assert (none == 1).all()


def test_attenuation_falls_with_exposure_and_frequency() -> None:
    order = (30.0, 60.0, 0.0, -30.0, -60.0)
    acquisition = with_tilts(exposure_per_tilt_e_per_A2=15, exposure_order=order)
    got = radiation.exposure_attenuation(acquisition, torch.linspace(0.005, 0.4, 30))
    assert (got.diff(dim=1) < 0).all()
    as_recorded = got[[TILTS.index(angle) for angle in order]]
    assert (as_recorded.diff(dim=0) < 0).all()


def test_exposure_accumulates_in_the_order_of_recording() -> None:
    symmetric = radiation.accumulated_exposure(with_tilts(exposure_per_tilt_e_per_A2=2))
    assert symmetric.tolist() == [9, 5, 1, 3, 7]  # 0, 30, −30, 60, −60
    rising = with_tilts(exposure_per_tilt_e_per_A2=2, exposure_order=TILTS)
    assert radiation.accumulated_exposure(rising).tolist() == [1, 3, 5, 7, 9]
    given = with_tilts(exposure_per_tilt_e_per_A2=2, exposure_order=(30, -60, 0, 60, -30))
    assert radiation.accumulated_exposure(given).tolist() == [3, 9, 5, 1, 7]
    skewed = Acquisition(
        defocus_um=5, tilt_angles_deg=(-10, 1, 20, 40), exposure_per_tilt_e_per_A2=1
    )
    assert radiation.accumulated_exposure(skewed).tolist() == [1.5, 0.5, 2.5, 3.5]


@pytest.mark.parametrize("n", [24, 25])
def test_signal_images_are_those_of_the_independent_model(n: int) -> None:
    acquisition = with_tilts(
        b_factor_A2=600, exposure_per_tilt_e_per_A2=20, exposure_order=(0, -30, 30, -60, 60)
    )
    exposure = np.array([70.0, 30, 10, 50, 90])
    rotations, shifts = poses(2, seed=n)
    simulator = Simulator({"a": PHANTOM.density(n)}, acquisition, voxel_size_A=VOXEL_A, seed=0)
    got = images_of(simulator.tilt_images("a", range(2), rotations, shifts).signal)

    wide = 3 * n
    k = radius(wide) / VOXEL_A
    with np.errstate(divide="ignore"):
        critical = 0.24499 * k**-1.6649 + 2.8141
    transfer = ctf(acquisition, k) * np.sinc(k * VOXEL_A) * np.exp(-150 * k**2)
    per_tilt = transfer * np.exp(-exposure[:, None, None] / (2 * critical))
    first = wide // 2 - n // 2
    for images, rotation, shift in zip(got, rotations, shifts, strict=True):
        exact = projections(PHANTOM.posed(rotation, shift), acquisition, wide)
        spectra = np.fft.fft2(np.fft.ifftshift(exact, axes=(1, 2)))
        found = {}
        for name, filtered in (("exposed", spectra * per_tilt), ("fresh", spectra * transfer)):
            whole = np.fft.fftshift(np.fft.ifft2(filtered).real, axes=(1, 2))
            cropped = whole[:, first : first + n, first : first + n]
            found[name] = error(images, cropped / cropped.std())
        assert found["exposed"] < 0.02
        assert found["fresh"] > 0.06
    np.testing.assert_allclose(got.reshape(2, -1).var(axis=1), 1, rtol=1e-4)


# --- thickness


def test_noise_grows_with_the_path_by_hand() -> None:
    acquisition = Acquisition(
        defocus_um=5, tilt_angles_deg=(-60, 0, 60), thickness_in_mean_free_paths=np.log(2)
    )
    # The path doubles at 60°, so half as many electrons come through: twice the variance.
    got = radiation.relative_noise_variance(acquisition)
    np.testing.assert_allclose(got, [1.2, 0.6, 1.2], rtol=1e-6)
    assert (radiation.relative_noise_variance(with_tilts()) == 1).all()


@pytest.mark.parametrize("n", [24, 25])
def test_noise_images_have_the_variance_of_their_tilt(n: int) -> None:
    acquisition = with_tilts(thickness_in_mean_free_paths=1.0, b_factor_A2=500)
    simulator = Simulator({"a": PHANTOM.density(n)}, acquisition, voxel_size_A=VOXEL_A, seed=0)
    noise = images_of(simulator.tilt_images("a", range(60), *poses(60)).noise)
    np.testing.assert_allclose(
        noise.var(axis=(0, 2, 3)), radiation.relative_noise_variance(acquisition), rtol=0.04
    )
    assert noise.var() == pytest.approx(1, abs=0.02)
    plain = Simulator({"a": PHANTOM.density(n)}, with_tilts(), voxel_size_A=VOXEL_A, seed=0)
    signal = simulator.tilt_images("a", [0], *poses(1)).signal
    unaffected = plain.tilt_images("a", [0], *poses(1)).signal
    assert error(signal.abs().numpy(), unaffected.abs().numpy()) > 0.01  # by B alone


# --- together


def test_without_exposure_each_tilt_has_the_optics_alone() -> None:
    grid = SliceGrid.inside_nyquist(30)
    got = radiation.tilt_transfer(BATCH_A, grid, pixel_size_A=VOXEL_A)
    alone = optics.contrast_transfer(BATCH_A, n=30, pixel_size_A=VOXEL_A)
    alone = (alone * optics.modulation_transfer(BATCH_A, n=30)).T[grid.rows, grid.columns]
    assert torch.equal(got, alone.expand(41, -1))


@pytest.mark.parametrize(
    "name", [*(c for c in dir(selfcheck) if c.startswith("check_") and c != "check_pose")]
)
def test_the_self_check_passes_for_the_pseudo_experimental_acquisition(name: str) -> None:
    fewer = PSEUDO_EXPERIMENTAL.model_copy(update={"tilt_angles_deg": tilt_range(-60, 60, 3)})
    check = getattr(selfcheck, name)(fewer, box=32, voxel_size_A=VOXEL_A, seed=0)
    assert check.passed, check
