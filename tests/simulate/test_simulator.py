"""The simulator against image formation written down independently."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from forward_model import (
    VOXEL_A,
    correlation,
    ctf,
    error,
    images_of,
    poses,
    projections,
    radius,
    recorded,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import tomadapt.simulate.simulator as module
from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition, tilt_range
from tomadapt.errors import ConfigError
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.simulator import NULL_CLASS, Simulator

BATCHES = [BATCH_A, BATCH_B]
FEW = tilt_range(-60, 60, 15)
FEW_A = BATCH_A.model_copy(update={"tilt_angles_deg": FEW})
FEW_B = BATCH_B.model_copy(update={"tilt_angles_deg": FEW})
NO_OPTICS = Acquisition(
    defocus_um=0,
    spherical_aberration_mm=0,
    amplitude_contrast=1,
    mtf="none",
    tilt_angles_deg=FEW,
)
PHANTOM = GaussianPhantom.random(7, radius=5, sigma=1.3)
OTHER = GaussianPhantom.random(8, radius=5, sigma=1.3)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def simulator(
    acquisition: Acquisition = FEW_A,
    *,
    n: int = 24,
    seed: int = 0,
    phantoms: dict[str, GaussianPhantom] | None = None,
) -> Simulator:
    templates = {k: p.density(n) for k, p in (phantoms or {"a": PHANTOM}).items()}
    return Simulator(templates, acquisition, voxel_size_A=VOXEL_A, seed=seed)


def signal_images(
    simulate: Simulator, rotations: NDArray[np.float32], shifts: NDArray[np.float32]
) -> NDArray[np.float32]:
    images = simulate.tilt_images("a", range(len(rotations)), rotations, shifts)
    return images_of(images.signal)


def brief(
    values: Simulator, indices: range | list[int] = range(3), name: str = "a"
) -> torch.Tensor:
    """Signal and noise of some particles in one tensor (b, 2, n, n, n)."""
    made = values.particles(name, indices)
    return torch.stack([made.signal, made.noise], dim=1)


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("acquisition", [FEW_A, FEW_B])
def test_signal_images_are_those_of_the_independent_model(acquisition: Acquisition, n: int) -> None:
    rotations, shifts = poses(2, seed=n)
    got = signal_images(simulator(acquisition, n=n), rotations, shifts)
    for images, rotation, shift in zip(got, rotations, shifts, strict=True):
        expected = recorded(PHANTOM.posed(rotation, shift), acquisition, n)
        assert error(images, expected / expected.std()) < 0.02


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("acquisition", [FEW_A, FEW_B])
def test_signal_images_have_variance_one(acquisition: Acquisition, n: int) -> None:
    got = signal_images(simulator(acquisition, n=n), *poses(4))
    np.testing.assert_allclose(got.reshape(4, -1).var(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("acquisition", BATCHES)
def test_snr_is_what_was_stated(acquisition: Acquisition) -> None:
    """Two images with one signal and two noises correlate by SNR / (1 + SNR)."""
    count = 40
    rotations, shifts = poses(count)
    pair = []
    for seed in (0, 1):
        made = simulator(acquisition, seed=seed).tilt_images("a", range(count), rotations, shifts)
        pair.append((images_of(made.signal), images_of(made.noise)))
    for snr in (0.1, 0.5):
        first, second = (signal + noise / snr**0.5 for signal, noise in pair)
        rho = np.mean([correlation(a, b) for a, b in zip(first, second, strict=True)])
        assert rho / (1 - rho) / snr == pytest.approx(1, abs=0.05)


def test_snr_of_volumes_grows_with_the_stated_one() -> None:
    made = simulator().particles("a", range(8))
    ratios = []
    for snr in (0.05, 0.5):
        noisy = made.signal + made.noise / snr**0.5
        ratios.append(correlation(noisy.numpy(), made.signal.numpy()))
    assert ratios[0] + 0.1 < ratios[1] < 1


@pytest.mark.parametrize("n", [24, 25])
def test_the_ctf_does_not_wrap(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = GaussianPhantom.random(7, radius=0.38 * n, sigma=1.3)
    rotations, shifts = poses(2, reach=1.0)

    def images(padding: int | None) -> NDArray[np.float32]:
        if padding is not None:
            monkeypatch.setattr(module, "next_fast_len", lambda _: padding)
        made = simulator(FEW_B, n=n, phantoms={"a": wide})
        assert padding in (None, made.padded)
        return signal_images(made, rotations, shifts)

    usual, huge, unpadded = images(None), images(4 * n), images(n)
    assert error(usual, huge) < 0.025
    assert error(unpadded, huge) > 0.06


@pytest.mark.parametrize("acquisition", [FEW_A, FEW_B])
@pytest.mark.parametrize("n", [24, 25])
def test_variance_ratio(acquisition: Acquisition, n: int) -> None:
    rotations, shifts = poses(3, seed=2)
    images = simulator(acquisition, n=n).tilt_images("a", range(3), rotations, shifts)
    for got, rotation, shift in zip(images.variance_ratio, rotations, shifts, strict=True):
        posed = PHANTOM.posed(rotation, shift)
        before = projections(posed, acquisition, n).var()
        after = recorded(posed, acquisition, n).var()
        assert float(got) == pytest.approx(before / after, rel=0.02)


def test_without_optics_the_ratio_is_one_and_images_are_projections() -> None:
    rotations, shifts = poses(2, seed=3)
    images = simulator(NO_OPTICS).tilt_images("a", range(2), rotations, shifts)
    np.testing.assert_allclose(images.variance_ratio, 1, rtol=0.02)
    for got, rotation, shift in zip(images_of(images.signal), rotations, shifts, strict=True):
        exact = projections(PHANTOM.posed(rotation, shift), NO_OPTICS, 24)
        assert error(got, exact / exact.std()) < 0.015


def test_null_has_no_signal_and_noise_like_the_others() -> None:
    simulate = simulator()
    made = simulate.particles(NULL_CLASS, range(6))
    assert (made.signal == 0).all()
    assert np.isnan(made.variance_ratio).all()
    assert made.rotations.shape == (6, 3, 3)
    ours = simulate.particles("a", range(6)).noise
    assert float(made.noise.std()) == pytest.approx(float(ours.std()), rel=0.03)
    images = simulate.tilt_images(NULL_CLASS, range(20), made.rotations, made.shifts)
    assert images_of(images.noise).var() == pytest.approx(1, abs=0.03)
    assert abs(correlation(made.noise.numpy(), ours.numpy())) < 0.02


@pytest.mark.parametrize("n", [24, 25])
def test_noise_in_the_images_has_the_stated_spectrum(n: int) -> None:
    coloured = FEW_B.model_copy(update={"noise_before_ctf": 0.5})
    images = simulator(coloured, n=n).tilt_images("a", range(40), *poses(40))
    noise = images_of(images.noise)
    assert noise.var() == pytest.approx(1, abs=0.02)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=(0, 1)) / n**2  # [ky, kx]
    transfer = recorded_transfer(coloured, n)
    expected = 0.5 + 0.5 * transfer**2 / (transfer**2).mean()
    assert np.corrcoef(power.ravel(), expected.ravel())[0, 1] > 0.98
    np.testing.assert_allclose(power / expected, 1, atol=6 * (40 * len(FEW)) ** -0.5)
    white = FEW_B.model_copy(update={"noise_before_ctf": 0.0})
    flat = images_of(simulator(white, n=n).tilt_images("a", range(40), *poses(40)).noise)
    flat_power = (np.abs(np.fft.fft2(flat)) ** 2).mean(axis=(0, 1)) / n**2
    np.testing.assert_allclose(flat_power, 1, atol=6 * (40 * len(FEW)) ** -0.5)


def recorded_transfer(acquisition: Acquisition, n: int) -> NDArray[np.float64]:
    k = radius(n)
    return np.asarray(ctf(acquisition, k / VOXEL_A) * np.sinc(k))


def test_noise_of_volumes_is_independent_of_signal_and_of_other_particles() -> None:
    made = simulator().particles("a", range(6))
    noise = made.noise.flatten(1).numpy()
    correlations = np.corrcoef(noise) - np.eye(6)
    assert np.abs(correlations).max() < 0.06
    for signal, own in zip(made.signal.flatten(1).numpy(), noise, strict=True):
        assert abs(correlation(signal, own)) < 0.06


@pytest.mark.parametrize("n", [24, 25])
def test_parseval(n: int) -> None:
    simulate = simulator(n=n)
    rotations, shifts = poses(3, seed=5)
    slices = module.central_slices(
        simulate.transforms["a"],
        torch.from_numpy(rotations),
        torch.from_numpy(shifts),
        simulate.tilts,
        simulate.grid,
    )
    got = simulate.slice_variance(slices).numpy()
    exact = [
        projections(PHANTOM.posed(r, s), FEW_A, n).var()
        for r, s in zip(rotations, shifts, strict=True)
    ]
    np.testing.assert_allclose(got, exact, rtol=0.02)
    images = images_of(simulate.grid.scatter(slices))  # the same numbers, summed as pixels
    pixels = (images**2).sum(axis=(-2, -1)).mean(axis=1) / n**2
    mean = images.sum(axis=(-2, -1)).mean(axis=1) / n**2
    np.testing.assert_allclose(got, pixels - mean**2, rtol=1e-3)


def test_a_particle_does_not_depend_on_how_a_batch_is_split() -> None:
    simulate = simulator()
    whole = brief(simulate, range(6))
    split = torch.cat([brief(simulate, range(1)), brief(simulate, range(1, 6))])
    backwards = brief(simulate, [5, 4, 3, 2, 1, 0]).flip(0)
    scale = float(whole.abs().max())
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(backwards, whole, rtol=0, atol=1e-4 * scale)


def test_a_particle_does_not_depend_on_other_classes() -> None:
    alone = simulator().particles("a", [3])
    among = simulator(phantoms={"b": OTHER, "a": PHANTOM}).particles("a", [3])
    assert torch.equal(alone.signal, among.signal)
    assert torch.equal(alone.noise, among.noise)
    assert (alone.rotations == among.rotations).all()
    assert (alone.shifts == among.shifts).all()


def test_a_particle_does_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(brief(simulator(), range(5)))
    finally:
        torch.set_num_threads(before)
    one, two = made
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4 * float(one.abs().max()))


def test_the_same_again_is_bit_equal() -> None:
    assert torch.equal(brief(simulator(seed=4)), brief(simulator(seed=4)))


def test_seeds_classes_and_indices_differ() -> None:
    same = {"a": PHANTOM, "b": PHANTOM}
    first = simulator(phantoms=same).particles("a", [0])
    others = [
        simulator(phantoms=same, seed=1).particles("a", [0]),
        simulator(phantoms=same).particles("b", [0]),
        simulator(phantoms=same).particles("a", [1]),
    ]
    for other in others:
        assert np.abs(other.rotations - first.rotations).max() > 0.05
        assert np.abs(other.shifts - first.shifts).max() > 0.05
        assert abs(correlation(other.noise.numpy(), first.noise.numpy())) < 0.06
        assert correlation(other.signal.numpy(), first.signal.numpy()) < 0.9


def test_poses_reported_are_poses_simulated() -> None:
    simulate = simulator(NO_OPTICS, n=25)
    made = simulate.particles("a", range(3))
    assert np.abs(made.shifts).max() <= 2.5
    measured = simulate.reconstruct.measured.numpy()[:, None, :]
    for volume, rotation, shift in zip(made.signal, made.rotations, made.shifts, strict=True):

        def seen(r: NDArray[np.floating], s: NDArray[np.floating]) -> NDArray[np.float64]:
            truth = np.fft.fftn(PHANTOM.posed(r, s).density(25)) * measured
            return np.asarray(np.fft.ifftn(truth).real)

        own = correlation(volume.numpy(), seen(rotation, shift))
        assert own > 0.9
        assert correlation(volume.numpy(), seen(rotation.T, shift)) < own - 0.03
        assert correlation(volume.numpy(), seen(rotation, -shift)) < own - 0.03


@settings(max_examples=5, deadline=None)
@given(
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.3),
    n=st.sampled_from([24, 25]),
)
def test_a_turned_template_is_a_composed_pose(
    quaternion: tuple[float, float, float, float], n: int
) -> None:
    turn = Rotation.from_quat(quaternion).as_matrix()
    rotations, shifts = poses(1, seed=6)
    turned = simulator(n=n, phantoms={"a": PHANTOM.posed(turn, np.zeros(3))})
    composed = (rotations @ turn).astype(np.float32)
    got = signal_images(turned, rotations, shifts)
    assert error(got, signal_images(simulator(n=n), composed, shifts)) < 0.02


@settings(max_examples=5, deadline=None)
@given(factor=st.floats(0.01, 100))
def test_the_scale_of_a_template_does_not_matter(factor: float) -> None:
    rotations, shifts = poses(1, seed=7)
    scaled = Simulator(
        {"a": PHANTOM.density(24) * np.float32(factor)}, FEW_A, voxel_size_A=VOXEL_A, seed=0
    )
    got = signal_images(scaled, rotations, shifts)
    np.testing.assert_allclose(got, signal_images(simulator(), rotations, shifts), atol=1e-3)


def test_volumes_are_as_documented() -> None:
    for n in (24, 25):
        made = simulator(n=n).particles("a", range(2))
        for volume in (made.signal, made.noise):
            assert volume.shape == (2, n, n, n)
            assert volume.dtype == torch.float32
            assert bool(torch.isfinite(volume).all())
        assert 0.2 < float(made.noise.std()) < 2
        assert made.variance_ratio.dtype == np.float32


def test_a_null_template_is_ignored() -> None:
    templates = {"a": PHANTOM.density(24), NULL_CLASS: PHANTOM.density(24)}
    simulate = Simulator(templates, FEW_A, voxel_size_A=VOXEL_A, seed=0)
    assert list(simulate.transforms) == ["a"]
    assert (simulate.particles(NULL_CLASS, [0]).signal == 0).all()


def test_unknown_class() -> None:
    with pytest.raises(ConfigError, match=r"unknown class 'b'; expected one of a, null"):
        simulator().particles("b", [0])


@pytest.mark.parametrize(
    "shapes", [[], [(24, 24, 24), (25, 25, 25)], [(24, 24, 25)], [(23,) * 3], [(65,) * 3]]
)
def test_wrong_boxes(shapes: list[tuple[int, ...]]) -> None:
    templates = {str(i): np.ones(shape, np.float32) for i, shape in enumerate(shapes)}
    with pytest.raises(ConfigError, match="box"):
        Simulator(templates, FEW_A, voxel_size_A=VOXEL_A, seed=0)


def test_a_shifted_large_particle_does_not_come_back_on_the_other_side() -> None:
    """Regression: the padding left no room for the shift."""
    box, shift, radius = 40, 8, 18
    r = np.arange(box) - box // 2
    distance = np.sqrt(r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2)
    ball = 1 / (1 + np.exp(2 * (distance - radius + 2)))
    no_optics = Acquisition(
        defocus_um=0, spherical_aberration_mm=0, amplitude_contrast=1, mtf="none"
    )
    simulator = Simulator(
        {"ball": ball.astype(np.float32)},
        no_optics,
        voxel_size_A=9.2,
        seed=0,
        max_shift_fraction=shift / box,
    )
    pose = np.eye(3, dtype=np.float32)[None], np.array([[0.0, shift, 0.0]], np.float32)
    with torch.inference_mode():
        images = simulator.tilt_images("ball", [0], *pose)
        tilts = torch.fft.irfft2(images.signal[0], s=(box, box))
    image = torch.fft.fftshift(tilts, dim=(-2, -1))[20]  # [x, y], untilted
    # The ball begins at y = 20 + 8 − 18 = 10 and leaves the box at the other end.
    assert image[:, :8].abs().max() < 0.03 * image.max()


def test_an_acquisition_without_contrast_is_refused() -> None:
    """Regression: it gave NaN in every shard."""
    blind = Acquisition(defocus_um=0, spherical_aberration_mm=0, amplitude_contrast=0)
    with pytest.raises(ConfigError, match="passes no signal"):
        Simulator({"x": np.ones((24, 24, 24), np.float32)}, blind, voxel_size_A=9.2, seed=0)


@pytest.mark.parametrize(
    ("n", "signal", "noise", "pose"),
    [
        (
            24,
            [0.470382, 1.22504, -0.0173125, -0.29931],
            [0.562647, 0.301789, -0.137222, 0.475333],
            [0.875468, 2.3723, 12.595],
        ),
        (
            25,
            [0.469416, 1.45148, 0.00374148, -0.324326],
            [0.566032, 1.25647, 1.04284, 0.128026],
            [0.875468, 2.47114, 12.7618],
        ),
    ],
)
def test_particles_are_those_of_the_first_simulator(
    n: int, signal: list[float], noise: list[float], pose: list[float]
) -> None:
    """Numbers of the version before envelope, exposure, thickness and neighbours (15386f8).

    Sets made by it are taken for sets of today's configuration with these at their defaults.
    """
    simulate = simulator(n=n, seed=3)
    made = simulate.particles("a", [5])
    for volume, expected in ((made.signal[0], signal), (made.noise[0], noise)):
        points = (volume[n // 2, n // 2, n // 2], volume[3, 8, 14], volume[20, 11, 5])
        got = [float(x) for x in (volume.std(), *points)]
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    got = [made.rotations[0, 0, 1], made.shifts[0, 2], made.variance_ratio[0]]
    np.testing.assert_allclose(got, pose, rtol=1e-3)
    null = simulate.particles(NULL_CLASS, [5])
    assert (null.signal == 0).all()
    assert float(null.noise.std()) == pytest.approx({24: 0.565166, 25: 0.56354}[n], rel=1e-3)


def test_an_envelope_that_leaves_nothing_is_refused() -> None:
    lost = Acquisition(defocus_um=5, b_factor_A2=5000)
    with pytest.raises(ConfigError, match=r"passes no signal.*B 5000"):
        Simulator({"x": np.ones((24, 24, 24), np.float32)}, lost, voxel_size_A=1.0, seed=0)
