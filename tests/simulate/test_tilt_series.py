"""Tilt images of many particles: against exact projections, and against what sets are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from forward_model import VOXEL_A, correlation, error, images_of, poses, projections, recorded
from numpy.typing import NDArray

import tomadapt.simulate.tilt_series as module
from tomadapt.acquisition import BATCH_A, PSEUDO_EXPERIMENTAL, Acquisition, tilt_range
from tomadapt.errors import ConfigError
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.radiation import relative_noise_variance
from tomadapt.simulate.reconstruction import SlabInversion
from tomadapt.simulate.simulator import Simulator
from tomadapt.simulate.tilt_series import TiltSeries, image_particles

FEW = tilt_range(-60, 60, 15)
NO_OPTICS = Acquisition(
    defocus_um=0,
    spherical_aberration_mm=0,
    amplitude_contrast=1,
    mtf="none",
    tilt_angles_deg=FEW,
)
FEW_A = BATCH_A.model_copy(update={"tilt_angles_deg": FEW})
PHANTOMS = {
    "a": GaussianPhantom.random(7, radius=4, sigma=1.3),
    "b": GaussianPhantom.random(8, radius=5.5, sigma=1.3),
}
SHAPES = [(44, 60, 52), (45, 59, 53)]
PLACES = np.array([(-17.3, 19.25, -13.0), (16.5, -20.0, 13.75), (0.4, 3.0, 1.0)])
NAMES = ["a", "b", "a"]
Array = NDArray[np.floating]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def simulator(acquisition: Acquisition, *, box: int = 24, seed: int = 0) -> Simulator:
    templates = {name: phantom.density(box) for name, phantom in PHANTOMS.items()}
    return Simulator(
        templates, acquisition, voxel_size_A=VOXEL_A, seed=seed, max_shift_fraction=0.0
    )


def imaged(
    simulate: Simulator, shape: tuple[int, int, int], count: int = 3, *, places: Array = PLACES
) -> tuple[TiltSeries, Array]:
    rotations, _ = poses(3, seed=1)
    return image_particles(
        simulate, NAMES[:count], places[:count], rotations[:count], shape_zyx=shape
    )


def posed() -> list[GaussianPhantom]:
    rotations, _ = poses(3, seed=1)
    return [PHANTOMS[n].posed(r, p) for n, r, p in zip(NAMES, rotations, PLACES, strict=True)]


def slab_of(
    simulate: Simulator, series: TiltSeries, shape: tuple[int, int, int], *, noise: bool = False
) -> NDArray[np.float32]:
    invert = SlabInversion.for_tilts(simulate.tilts, shape, n=series.grid.n, thickness=simulate.box)
    images = series.noise if noise else series.signal
    return invert(images(tilt) for tilt in range(len(simulate.tilts)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("box", [24, 25])
def test_projections_are_those_of_the_independent_model(
    shape: tuple[int, int, int], box: int
) -> None:
    series, _ = imaged(simulator(NO_OPTICS, box=box), shape)
    n = series.grid.n
    found = images_of(torch.fft.rfft2(series.projections))
    expected = sum(projections(p, NO_OPTICS, n) for p in posed())
    assert error(found, expected) < 0.02
    transposed = sum(
        projections(GaussianPhantom(p.centres[:, [1, 0, 2]], p.sigma), NO_OPTICS, n)
        for p in posed()
    )
    assert error(found, transposed) > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_images_are_those_of_the_independent_model(shape: tuple[int, int, int]) -> None:
    series, _ = imaged(simulator(FEW_A), shape)
    n = series.grid.n
    found = images_of(torch.stack([series.signal(tilt) for tilt in range(len(FEW))]))
    expected = sum(recorded(p, FEW_A, n, wide=n) for p in posed())
    assert error(found, expected) < 0.03


@pytest.mark.parametrize("acquisition", [FEW_A, PSEUDO_EXPERIMENTAL])
def test_each_variance_is_that_of_the_particle_in_its_images(acquisition: Acquisition) -> None:
    """The numerator of the SNR, measured in the images where the particle lies."""
    simulate = simulator(acquisition)
    _, variances = imaged(simulate, SHAPES[0])
    # A whole number of voxels along y and, untilted or not, a particle on the tilt axis.
    places = np.array([(0, 7, 0), (0, -12, 0), (0, 0, 0)])
    rotations, _ = poses(3, seed=1)
    for row in range(3):
        series, alone = image_particles(
            simulate,
            NAMES[row : row + 1],
            places[row : row + 1],
            rotations[row : row + 1],
            shape_zyx=SHAPES[0],
        )
        assert alone == pytest.approx(variances[row : row + 1], rel=1e-5)
        images = images_of(torch.stack([series.signal(t) for t in range(len(simulate.tilts))]))
        y, x = series.grid.n // 2 + places[row, 1] - 12, series.grid.n // 2 - 12
        assert images[:, y : y + 24, x : x + 24].var() == pytest.approx(alone[0], rel=0.01)


@pytest.mark.parametrize("acquisition", [BATCH_A, PSEUDO_EXPERIMENTAL])
def test_noise_has_variance_one_over_the_tilts_and_grows_with_tilt(
    acquisition: Acquisition,
) -> None:
    series, _ = imaged(simulator(acquisition), SHAPES[0], 0)
    count = len(acquisition.tilt_angles_deg)
    images = images_of(torch.stack([series.noise(tilt) for tilt in range(count)]))
    of_tilt = images.var(axis=(1, 2))
    assert of_tilt.mean() == pytest.approx(1, abs=0.02)
    growth = relative_noise_variance(acquisition).numpy()
    np.testing.assert_allclose(of_tilt, growth, rtol=0.12)
    assert (growth.max() > 1.2) == (acquisition is PSEUDO_EXPERIMENTAL)
    assert not series.projections.any()


def test_noise_is_keyed_by_seed_and_tilt_alone() -> None:
    first, _ = imaged(simulator(FEW_A, seed=4), SHAPES[0])
    without, _ = imaged(simulator(FEW_A, seed=4), SHAPES[0], 0)
    other, _ = imaged(simulator(FEW_A, seed=5), SHAPES[0], 0)
    backwards = [without.noise(tilt) for tilt in (3, 2)]
    assert torch.equal(first.noise(2), backwards[1])
    assert torch.equal(first.noise(3), backwards[0])
    for unlike in (first.noise(2), other.noise(3)):
        assert abs(correlation(images_of(unlike), images_of(first.noise(3)))) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("corner", [1.0, -1.0])
def test_images_are_wide_enough(
    shape: tuple[int, int, int], corner: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A particle in a corner does not come back on the other side, nor its CTF's fringes."""
    rotations, _ = poses(1)
    # The sphere of 7 voxels touches three faces.
    place = corner * (np.array(shape[::-1]) / 2 - 7.5)
    simulate = simulator(BATCH_A.model_copy(update={"defocus_um": 10.0}))

    def slab(times: int) -> NDArray[np.float32]:
        with monkeypatch.context() as patch:
            usual = module.next_fast_len
            patch.setattr(module, "next_fast_len", lambda n: usual(times * n))
            series, _ = image_particles(
                simulate, ["b"], place[None], rotations[:1], shape_zyx=shape
            )
        return slab_of(simulate, series, shape)

    usual, huge = slab(1), slab(3)
    assert error(usual, huge) < 0.003
    _, y, x = np.indices(shape)
    beside = (np.abs(x - shape[2] // 2 - place[0]) > shape[2] / 2) | (
        np.abs(y - shape[1] // 2 - place[1]) > shape[1] / 2
    )
    assert beside.sum() > 0.5 * usual.size
    assert np.abs(usual[beside]).max() < 0.05 * usual.max()


def test_images_and_slabs_are_sums_of_those_of_each_particle() -> None:
    simulate, shape = simulator(FEW_A), SHAPES[1]
    rotations, _ = poses(3, seed=1)
    together, variances = imaged(simulate, shape)
    alone = [
        image_particles(simulate, [NAMES[i]], PLACES[[i]], rotations[[i]], shape_zyx=shape)
        for i in range(3)
    ]
    parts = [slab_of(simulate, series, shape) for series, _ in alone]
    found = slab_of(simulate, together, shape)
    np.testing.assert_allclose(found, sum(parts), rtol=0, atol=1e-4 * found.max())
    np.testing.assert_allclose(variances, [v[0] for _, v in alone])


# --- the same physics as the sets


def power(volumes: Array) -> Array:
    """Mean power of (b, n, n, n) in the middle of the box, by shell, (8,)."""
    n = volumes.shape[-1]
    w = np.clip(np.cos(np.pi * (np.arange(n) - n // 2) / (0.7 * n)), 0, None) ** 2
    window = w[:, None, None] * w[:, None] * w
    spectra = np.abs(np.fft.fftn(volumes * window, axes=(1, 2, 3))) ** 2
    k = np.fft.fftfreq(n)
    shell = (np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) * 20).astype(int)
    summed = np.bincount(shell.ravel(), spectra.mean(axis=0).ravel())
    return np.asarray((summed / np.bincount(shell.ravel()))[1:9])


@pytest.mark.parametrize(
    ("acquisition", "box", "shape"),
    [(BATCH_A, 24, (60, 60, 60)), (PSEUDO_EXPERIMENTAL, 40, (60, 59, 61))],
)
def test_a_centred_particle_is_that_of_a_set(
    acquisition: Acquisition, box: int, shape: tuple[int, int, int]
) -> None:
    simulate = simulator(acquisition, box=box)
    rotations, _ = poses(32, seed=2)
    centred = np.zeros((32, 3), np.float32)
    images = simulate.tilt_images("b", range(32), rotations, centred)
    of_set, set_noise = (
        simulate.reconstruct(part).numpy() for part in (images.signal[:1], images.noise)
    )
    series, variances = image_particles(
        simulate, ["b"], centred[:1], rotations[:1], shape_zyx=shape
    )
    assert variances[0] == pytest.approx(float(images.scale[0]) ** -2, rel=1e-5)
    first = [s // 2 - box // 2 for s in shape]
    cut = tuple(slice(f, f + box) for f in first)
    # A set's signal has variance 1 in the images; its inversion multiplies by √n.
    factor = float(images.scale[0]) * box**0.5
    planted = slab_of(simulate, series, shape)[cut] * factor
    noise = [
        box**0.5 * slab_of(simulate, replace(series, seed=seed), shape, noise=True)
        for seed in range(3)
    ]
    r = np.arange(box) - box // 2
    inside = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2) < 8
    assert correlation(planted[inside], of_set[0][inside]) > 0.96
    mirrored = np.roll(of_set[0][:, :, ::-1], 1 - box % 2, axis=2)
    assert correlation(planted[inside], mirrored[inside]) < 0.8
    slope = planted[inside] @ of_set[0][inside] / np.square(of_set[0][inside]).sum()
    assert slope == pytest.approx(0.93, abs=0.05)
    # Noise of a set fades towards the faces, as gridding does that is not divided out. In the
    # middle both have one signal and one noise for all frequencies that the optics pass well.
    parts = [
        volume[z : z + box, y : y + box, x : x + box]
        for volume in noise
        for z in range(0, shape[0] - box + 1, 12)
        for y in range(0, shape[1] - box + 1, 12)
        for x in range(0, shape[2] - box + 1, 12)
    ]
    here = power(planted[None]) / power(np.stack(parts))
    there = power(of_set) / power(set_noise)
    strong = there > 0.03 * there.max()
    assert strong.sum() >= 3
    np.testing.assert_allclose(here[strong] / there[strong], 1, atol=0.25)


def test_noise_in_a_slab_is_the_same_everywhere() -> None:
    """That of a set's box is not; see the test above."""
    simulate, shape = simulator(BATCH_A), (32, 60, 60)
    series, _ = imaged(simulate, shape, 0)
    squares = np.square(slab_of(simulate, series, shape, noise=True))
    for axis in range(3):
        profile = squares.mean(axis=tuple({0, 1, 2} - {axis})) / squares.mean()
        thirds = [part.mean() for part in np.array_split(profile, 3)]
        np.testing.assert_allclose(thirds, 1, atol=0.12)


def test_a_class_without_a_template_is_refused() -> None:
    rotations, _ = poses(1)
    with pytest.raises(ConfigError, match="unknown class 'c'"):
        image_particles(simulator(NO_OPTICS), ["c"], PLACES[:1], rotations[:1], shape_zyx=SHAPES[0])
