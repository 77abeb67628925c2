"""Extraction: cubes hold what is at the position, at the size of voxels asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, OutputError
from tomadapt.tomograms.extraction import (
    BAD_VOXELS,
    CONSTANT,
    NOT_FINITE,
    OUTSIDE,
    REACHES_OUT,
    extract,
)

Floats = NDArray[np.float64]
RNG = np.random.default_rng(0)
NOISE = Tomogram(RNG.normal(size=(45, 48, 51)).astype(np.float32), 10.0)
MIDDLE = np.array([[250.0, 240.0, 220.0]])
# Gaussians that make up an object without symmetry: x, y, z, σ in Å and height.
PARTS = np.array(
    [[0, 0, 0, 35, 1.0], [60, 10, -20, 30, 0.8], [-30, 55, 25, 40, 0.6], [10, -45, 60, 32, -0.4]]
)


def sampled(
    shape: tuple[int, ...], voxel_A: float, at_A: Floats, *, blur_A: float = 0.0
) -> NDArray[np.float32]:
    """The object at ``at_A`` (x, y, z, Å from the first voxel), on a grid, blurred exactly."""
    volume = np.zeros(shape)
    for *offset, sigma, height in PARTS:
        wide = (sigma**2 + blur_A**2) ** 0.5
        axes = [
            np.exp(-((np.arange(n) * voxel_A - c) ** 2) / (2 * wide**2))
            for n, c in zip(shape, (at_A + offset)[::-1], strict=True)
        ]
        volume += height * (sigma / wide) ** 3 * np.einsum("i,j,k->ijk", *axes)
    return volume.astype(np.float32)


def directly(box: int, voxel_A: float, *, blur_A: float = 0.0) -> NDArray[np.float32]:
    return sampled((box,) * 3, voxel_A, np.full(3, box // 2 * voxel_A), blur_A=blur_A)


@pytest.mark.parametrize("box", [20, 21])
def test_whole_voxels_are_copied(box: int) -> None:
    found = extract(NOISE, MIDDLE, box=box, voxel_size_A=10.0)
    low = np.array([22, 24, 25]) - box // 2
    expected = NOISE.block(low.tolist(), (low + box).tolist())
    assert found.volumes.shape == (1, box, box, box)
    assert found.volumes.dtype == np.float32
    np.testing.assert_allclose(found.volumes[0], expected, atol=2e-6)
    assert found.inside.tolist() == [1.0]
    assert found.kept.tolist() == [0]
    assert found.dropped == {}
    assert found.voxel_size_A == 10.0


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("voxel_A", [7.0, 10.0, 13.68, 20.0])
def test_a_planted_object_at_another_voxel_size(box: int, voxel_A: float) -> None:
    """An object off the grid comes out as the one made at the new voxels, centred."""
    at = np.array([243.7, 251.2, 238.9])
    tomogram = Tomogram(sampled((50, 51, 49), 10.0, at), 10.0)
    cube = extract(tomogram, at[None], box=box, voxel_size_A=voxel_A).volumes[0]
    expected = directly(box, voxel_A)
    assert np.corrcoef(cube.ravel(), expected.ravel())[0, 1] > 0.9995
    assert np.abs(cube - expected).max() < 0.01


def test_shifts_by_parts_of_a_voxel_are_exact() -> None:
    """To 1/5000 of the object's height, which is what the Gaussians have beyond Nyquist."""
    for shift in ([3.3, 0, 0], [0, -4.9, 0], [1.1, 2.2, -3.3]):
        at = np.array([250.0, 240, 230]) + shift
        tomogram = Tomogram(sampled((48, 49, 50), 10.0, at), 10.0)
        cube = extract(tomogram, at[None], box=22, voxel_size_A=10.0).volumes[0]
        assert np.abs(cube - directly(22, 10.0)).max() < 2e-4


def test_noise_beyond_the_new_nyquist_frequency_is_gone() -> None:
    """White noise of variance 1 keeps the part of its band that is left, (1/2)³."""
    noise = Tomogram(np.random.default_rng(2).normal(size=(80, 80, 80)).astype(np.float32), 10.0)
    cube = extract(noise, np.full((1, 3), 400.0), box=28, voxel_size_A=20.0).volumes
    assert cube.var() == pytest.approx(1 / 8, rel=0.06)


def test_smoothing() -> None:
    at = np.array([244.0, 251.0, 239.0])
    tomogram = Tomogram(sampled((50, 51, 49), 10.0, at), 10.0)
    cube = extract(tomogram, at[None], box=24, voxel_size_A=10.0, smoothing_sigma_A=20.0)
    expected = directly(24, 10.0, blur_A=20.0)
    assert np.abs(cube.volumes[0] - expected).max() < 1e-3


def test_inverted_and_scaled_integers() -> None:
    inverted = replace(NOISE, density=-NOISE.density, sign=-1)
    points = np.concatenate([MIDDLE, MIDDLE + np.array([13.1, 7.7, -9.2])])
    cubes = extract(NOISE, points, box=16, voxel_size_A=12.0).volumes
    np.testing.assert_array_equal(
        extract(inverted, points, box=16, voxel_size_A=12.0).volumes, cubes
    )
    stored = Tomogram((NOISE.density * 1000 + 5000).astype(np.int16), 10.0)
    scaled = extract(stored, points, box=16, voxel_size_A=12.0).volumes
    np.testing.assert_allclose((scaled - 5000) / 1000, cubes, atol=2e-3)
    half = Tomogram(NOISE.density.astype(np.float16), 10.0)
    np.testing.assert_allclose(
        extract(half, points, box=16, voxel_size_A=12.0).volumes, cubes, atol=4e-3
    )


class TestBorders:
    CORNER = np.array([[30.0, 240.0, 220.0]])

    def test_padding_with_the_mean_of_what_is_inside(self) -> None:
        shifted = Tomogram(NOISE.density + np.float32(70), 10.0)
        found = extract(shifted, self.CORNER, box=16, voxel_size_A=10.0)
        cube = found.volumes[0]
        np.testing.assert_allclose(
            cube[..., 5:], shifted.density[14:30, 16:32, :11], rtol=0, atol=1e-4
        )
        outside = cube[..., :5]
        assert np.ptp(outside) < 1e-3
        assert abs(outside.mean() - 70) < 0.1
        assert found.inside.tolist() == [11 / 16]

    def test_dropping(self) -> None:
        edge = np.array([[80.0, 80, 80], [79.9, 80, 80], [430, 400, 370], [430.1, 400, 370]])
        found = extract(NOISE, edge, box=16, voxel_size_A=10.0, border="drop")
        assert found.kept.tolist() == [0, 2]
        assert found.dropped == {1: REACHES_OUT, 3: REACHES_OUT}
        assert found.inside.tolist() == [1.0, 1.0]
        assert extract(NOISE, edge, box=16, voxel_size_A=10.0).kept.tolist() == [0, 1, 2, 3]

    def test_every_row_is_kept_or_has_a_reason(self) -> None:
        density = NOISE.density.copy()
        density[:, :, 30:] = 3.0
        density[40, 5, 5] = np.nan
        points = np.array(
            [
                [100.0, 240, 100],
                [np.nan, 240, 100],
                [-20.0, 240, 100],
                [100.0, 240, 1e9],
                [470.0, 240, 220],
                [60.0, 60, 380],
                [-4.0, 240, 100],
            ]
        )
        found = extract(Tomogram(density, 10.0), points, box=8, voxel_size_A=10.0)
        assert found.kept.tolist() == [0, 6]
        assert found.dropped == {
            1: NOT_FINITE,
            2: OUTSIDE,
            3: OUTSIDE,
            4: CONSTANT,
            5: BAD_VOXELS,
        }
        assert np.isfinite(found.volumes).all()

    def test_a_corner(self) -> None:
        found = extract(NOISE, np.zeros((1, 3)), box=8, voxel_size_A=10.0)
        assert found.inside.tolist() == [0.5**3]
        np.testing.assert_allclose(
            found.volumes[0, 4:, 4:, 4:], NOISE.density[:4, :4, :4], atol=1e-5
        )


class TestFiles:
    def test_written_cubes_are_the_same(self, tmp_path: Path) -> None:
        points = MIDDLE + RNG.uniform(-50, 50, (5, 3))
        points[2] = np.nan
        held = extract(NOISE, points, box=12, voxel_size_A=11.0)
        written = extract(NOISE, points, box=12, voxel_size_A=11.0, out=tmp_path / "c.npy")
        assert isinstance(written.volumes, np.memmap)
        np.testing.assert_array_equal(written.volumes, held.volumes)
        np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), held.volumes)
        assert written.kept.tolist() == [0, 1, 3, 4]

    def test_none_left(self, tmp_path: Path) -> None:
        nowhere = np.full((2, 3), -1e5)
        for out in (None, tmp_path / "c.npy"):
            found = extract(NOISE, nowhere, box=12, voxel_size_A=10.0, out=out)
            assert found.volumes.shape == (0, 12, 12, 12)
            assert len(found.dropped) == 2
        assert np.load(tmp_path / "c.npy").shape == (0, 12, 12, 12)

    def test_no_place(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="cannot write"):
            extract(NOISE, MIDDLE, box=12, voxel_size_A=10.0, out=tmp_path / "no" / "c.npy")


def test_arguments() -> None:
    with pytest.raises(ConfigError, match=r"\(n, 3\)"):
        extract(NOISE, np.zeros((2, 2)), box=12, voxel_size_A=10.0)
    with pytest.raises(ConfigError, match="voxel_size_A"):
        extract(NOISE, MIDDLE, box=12, voxel_size_A=0.0)
    with pytest.raises(ConfigError, match="box"):
        extract(NOISE, MIDDLE, box=0, voxel_size_A=10.0)
    with pytest.raises(ConfigError, match="larger than the tomogram"):
        extract(NOISE, MIDDLE, box=12, voxel_size_A=1000.0)
    with pytest.raises(ConfigError, match="smoothing"):
        extract(NOISE, MIDDLE, box=12, voxel_size_A=10.0, smoothing_sigma_A=-1.0)
    with pytest.raises(ConfigError, match="pad or drop"):
        extract(NOISE, MIDDLE, box=12, voxel_size_A=10.0, border="fill")  # type: ignore[arg-type]
