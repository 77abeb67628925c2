"""The sign of the density: planted balls of either sign, noise, gold, and what is stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.tomograms.contrast import (
    DECISIVE_ERRORS,
    ContrastMeasure,
    blob_contrast,
    contrast_at,
    decide_sign,
)

VOXEL_A = 10.0
RADIUS_A = 80.0


def balls(
    shape: tuple[int, int, int] = (60, 90, 97), *, noise: float = 1.0, seed: int = 0
) -> tuple[Tomogram, NDArray[np.float64]]:
    """Balls on a jittered lattice, 1 inside, in white noise."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(scale=noise, size=shape).astype(np.float32)
    axes = np.ogrid[tuple(map(slice, shape))]
    points = []
    for z in range(12, shape[0] - 12, 24):
        for y in range(12, shape[1] - 12, 24):
            for x in range(12, shape[2] - 12, 24):
                centre = np.array([z, y, x]) + rng.uniform(-2, 2, 3)
                squares = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
                volume += np.asarray(squares) ** 0.5 * VOXEL_A < RADIUS_A
                points.append(centre[::-1] * VOXEL_A)
    return Tomogram(volume, VOXEL_A, name="balls"), np.array(points)


def test_regression_random_places_among_packed_balls_decide_nothing() -> None:
    """One list in thirty was called bright where particles are dark, or dark where they are bright.

    Only the noise's scatter counted, and not that random places lie on particles and beside them.
    """
    tomogram, _ = balls(noise=0.3, seed=1)
    rng = np.random.default_rng(101)
    sides_A = np.array(tomogram.shape[::-1]) * VOXEL_A
    for _ in range(40):
        places = rng.uniform(0.15, 0.85, (30, 3)) * sides_A
        assert contrast_at(tomogram, places, radius_A=RADIUS_A).sign == 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-4, 3), (3000, -2e6)])
def test_blobs_of_either_sign(sign: int, scale: float, offset: float) -> None:
    """Neither scale nor offset of the density matters, and the sign that a tomogram has counts."""
    tomogram, _ = balls()
    density = (np.asarray(tomogram.density, np.float64) * sign * scale + offset).astype(np.float32)
    measured = blob_contrast(replace(tomogram, density=density), sigma_A=45)
    assert measured.sign == sign
    assert blob_contrast(replace(tomogram, density=density, sign=-1), sigma_A=45).sign == -sign


@pytest.mark.parametrize("seed", range(4))
def test_noise_decides_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(64, 80, 96)).astype(np.float32)
    assert blob_contrast(Tomogram(noise, VOXEL_A), sigma_A=45).sign == 0


def test_a_few_gold_beads_do_not_outvote_the_particles() -> None:
    """Gold is dark where particles are bright only by mistake, but it must not count by height."""
    tomogram, _ = balls()
    density = np.array(tomogram.density)
    for z, y, x in [(24, 24, 24), (36, 60, 60), (24, 60, 24)]:
        density[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = -60
    assert blob_contrast(replace(tomogram, density=density), sigma_A=45).sign == 1


def test_large_tomograms_are_read_in_blocks() -> None:
    small, _ = balls((60, 60, 60))
    tiled = np.tile(np.asarray(small.density), (1, 6, 6))  # 60 × 360 × 360
    measured = blob_contrast(Tomogram(-tiled, VOXEL_A), sigma_A=45)
    assert measured.sign == -1


@pytest.mark.parametrize("sign", [1, -1])
def test_density_at_positions(sign: int) -> None:
    tomogram, points = balls(noise=3.0)
    measured = contrast_at(replace(tomogram, sign=sign), points, radius_A=RADIUS_A)
    assert measured.sign == sign
    assert abs(measured.strength) > DECISIVE_ERRORS
    assert "standard errors" in measured.text


@pytest.mark.parametrize("sign", [1, -1])
def test_hollow_particles_are_not_taken_for_their_cavities(sign: int) -> None:
    """Shells as thick as apoferritin's, whose cavity is no denser than what is around them."""
    tomogram, points = balls(noise=1.0)
    density = np.array(tomogram.density)
    axes = np.ogrid[tuple(map(slice, density.shape))]
    for point in points:
        squares = sum((a - c / VOXEL_A) ** 2 for a, c in zip(axes, point[::-1], strict=True))
        # A little less than the surroundings, as the contrast transfer's fringes make it.
        density -= 1.2 * (np.asarray(squares) ** 0.5 * VOXEL_A < 0.6 * RADIUS_A)
    hollow = replace(tomogram, density=density, sign=sign)
    assert contrast_at(hollow, points, radius_A=RADIUS_A).sign == sign


def test_filled_blocks_of_a_large_tomogram_are_passed_over() -> None:
    """The corner of a turned tomogram may be all filling: that is no constant tomogram."""
    small, _ = balls((60, 60, 60))
    tiled = np.tile(np.asarray(small.density), (1, 7, 7))
    tiled[:, :200, :200] = 0
    assert blob_contrast(Tomogram(tiled, VOXEL_A), sigma_A=45).sign == 1


def test_positions_of_nothing_decide_nothing() -> None:
    noise = np.random.default_rng(1).normal(size=(64, 80, 96)).astype(np.float32)
    points = np.random.default_rng(2).uniform(150, 450, size=(40, 3))
    assert contrast_at(Tomogram(noise, VOXEL_A), points, radius_A=RADIUS_A).sign == 0
    one = contrast_at(Tomogram(noise, VOXEL_A), points[:1], radius_A=RADIUS_A)
    assert (one.sign, one.text) == (0, "undecided: 1 particles")


class TestDecision:
    path = Path("t.mrc")

    def test_measured(self) -> None:
        for sign in (1, -1):
            decided = decide_sign("measure", ContrastMeasure(sign, 9.0, "clear"), self.path)
            assert (decided.sign, decided.warning) == (sign, None)

    def test_undecided_must_be_stated(self) -> None:
        with pytest.raises(ConfigError, match=r"t\.mrc cannot be measured.*--contrast negative"):
            decide_sign("measure", ContrastMeasure(0, 1.0, "unclear"), self.path)
        decided = decide_sign("negative", ContrastMeasure(0, 1.0, "unclear"), self.path)
        assert (decided.sign, decided.warning) == (-1, None)

    def test_stated_against_measured_warns(self) -> None:
        decided = decide_sign("positive", ContrastMeasure(-1, 0.1, "dark"), self.path)
        assert decided.sign == 1
        assert decided.warning is not None
        assert "looks otherwise: dark" in decided.warning
