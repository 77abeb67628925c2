"""What the density says of places: whether particles are there, and exactly there."""

from __future__ import annotations

import re

import numpy as np
import pytest
from confusions import RADIUS_A, world

from tomadapt.data.tomogram import Tomogram
from tomadapt.tomograms.contrast import contrast_at
from tomadapt.tomograms.places import density_at, disjoint

R_A = 1.2 * RADIUS_A


@pytest.fixture(scope="module", params=range(3))
def here(request: pytest.FixtureRequest) -> tuple[Tomogram, np.ndarray]:
    drawn = world(np.random.default_rng(request.param))
    return drawn.tomogram, drawn.truth_A


def test_right_places_are_not_remarked(here: tuple[Tomogram, np.ndarray]) -> None:
    tomogram, truth_A = here
    found = contrast_at(tomogram, truth_A, radius_A=R_A)
    assert found.sign != 0
    assert found.doubts == ()


def test_regression_counted_from_one(here: tuple[Tomogram, np.ndarray]) -> None:
    """Voxels counted from one are one voxel off, which no size or extent shows."""
    tomogram, truth_A = here
    (told,) = contrast_at(tomogram, truth_A + tomogram.voxel_size_A, radius_A=R_A).doubts
    assert "one or zero" in told
    ends = np.reshape(re.findall(r"[+-]\d+\.\d", told), (2, 3)).astype(float)
    np.testing.assert_allclose(ends.mean(axis=0), -1, atol=0.5)


def test_regression_a_size_that_is_one_percent_off() -> None:
    """It is 1 % of the distance from the first voxel, and no place is far off."""
    drawn = world(np.random.default_rng(3))
    tomogram, truth_A = drawn.tomogram, drawn.truth_A
    (told,) = contrast_at(tomogram, truth_A * 1.015, radius_A=R_A).doubts
    assert "--voxel-size" in told


def test_regression_places_beside_particles_have_the_other_sign(
    here: tuple[Tomogram, np.ndarray],
) -> None:
    """In a volume cut at one side the shells lay on particles: dark was called bright."""
    tomogram, truth_A = here
    moved = truth_A + np.array([0, 0, 1.25 * R_A])
    told = contrast_at(tomogram, moved, radius_A=R_A).doubts
    assert any("if all were moved by" in text for text in told)


def test_regression_a_few_hits_by_chance_are_no_particles(
    here: tuple[Tomogram, np.ndarray],
) -> None:
    """A fifth of a wrong list lay on particles, and the mean was many errors from nothing."""
    tomogram, truth_A = here
    rng = np.random.default_rng(101)
    wrong = rng.uniform(0.1, 0.9, truth_A.shape) * tomogram.last_A
    wrong[: len(truth_A) // 5] = truth_A[: len(truth_A) // 5]
    found = contrast_at(tomogram, wrong, radius_A=R_A)
    assert found.sign == 0 or any("do not differ" in text for text in found.doubts)


def test_regression_overlapping_places_count_once(here: tuple[Tomogram, np.ndarray]) -> None:
    """Two hundred places on one bright spot were fourteen times as much evidence as one."""
    tomogram, truth_A = here
    jitter = np.random.default_rng(0).normal(scale=5, size=(200, 3))
    found = contrast_at(tomogram, truth_A[0] + jitter, radius_A=R_A)
    assert found.sign == 0
    assert "do not overlap" in found.text


def test_places_that_are_far_enough_from_one_another() -> None:
    places = np.array([[0, 0, 0], [5, 0, 0], [11, 0, 0], [np.nan, 0, 0], [20, 0, 0]])
    assert disjoint(places, 10).tolist() == [0, 2]


def test_moments_are_where_the_density_is() -> None:
    """Of one ball without noise, at any voxel size: fine voxels are averaged."""
    for size in (10.0, 2.5):
        n = int(300 / size)
        at = np.arange(n) * size
        centre = np.array([150.0, 140.0, 160.0])
        distance = np.sqrt(
            (at[:, None, None] - centre[2]) ** 2
            + (at[:, None] - centre[1]) ** 2
            + (at - centre[0]) ** 2
        )
        volume = np.clip(0.5 + (RADIUS_A - distance) / 10, 0, 1).astype(np.float32)
        tomogram = Tomogram(volume, size)
        shift = np.array([8.0, -5.0, 3.0])
        found = density_at(tomogram, (centre - shift)[None], radius_A=R_A)
        np.testing.assert_allclose(found.moment[0] / found.mass[0], shift, atol=1.0)


def test_places_without_voxels_are_left_out() -> None:
    volume = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
    volume[:, :, :15] = 0
    places = [[220.0, 150, 150], [40, 150, 150], [9000, 0, 0], [np.nan, 0, 0], [280, 150, 150]]
    found = density_at(Tomogram(volume, 10.0), np.array(places), radius_A=40.0)
    assert found.places_A[:, 0].tolist() == [220, 280]
    assert np.isnan(found.moment[1]).all()  # its surroundings reach out
