"""Picking: what was planted is found where it is, and nothing depends on how it was read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial import cKDTree

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.tomograms.background import random_background
from tomadapt.tomograms.picking import PickingConfig, Picks, pick, sigma_for_A

VOXEL_A = 10.0
SHAPE = (84, 91, 96)
SMALL = PickingConfig(sigma_A=25.0)
Floats = NDArray[np.float64]


def blobs(points_A: Floats, shape: tuple[int, ...], sigma_A: float) -> NDArray[np.float32]:
    """Gaussians of height 1 at x, y, z in Å."""
    volume = np.zeros(shape)
    for point in points_A:
        axes = [
            np.exp(-((np.arange(n) * VOXEL_A - c) ** 2) / (2 * sigma_A**2))
            for n, c in zip(shape, point[::-1], strict=True)
        ]
        volume += np.einsum("i,j,k->ijk", *axes)
    return volume.astype(np.float32)


def scattered(
    count: int, shape: tuple[int, ...], *, apart_A: float, border_A: float, seed: int = 0
) -> Floats:
    rng = np.random.default_rng(seed)
    last = (np.array(shape[::-1]) - 1) * VOXEL_A
    points = np.empty((0, 3))
    while len(points) < count:
        point = rng.uniform(border_A, last - border_A)
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > apart_A:
            points = np.vstack([points, point])
    return points


def balls_in_noise(shape: tuple[int, ...], count: int, *, snr: float) -> tuple[Floats, Tomogram]:
    """Balls of 17 nm; the SNR is their variance in a box of 32 voxels over the noise's."""
    points = scattered(count, shape, apart_A=180, border_A=60)

    def ball(centre: Floats, size: tuple[int, ...]) -> Any:
        axes = np.ogrid[tuple(map(slice, size))]
        squares = sum((a * VOXEL_A - c) ** 2 for a, c in zip(axes, centre[::-1], strict=True))
        return 1 / (1 + np.exp(((np.asarray(squares) ** 0.5) - 85.0) / 5))

    variance = ball(np.full(3, 160.0), (32, 32, 32)).var()
    volume = np.random.default_rng(1).normal(scale=(variance / snr) ** 0.5, size=shape)
    for point in points:
        volume += ball(point, shape)
    return points, Tomogram(volume.astype(np.float32), VOXEL_A)


def recall_precision(picks: Picks, points: Floats, tolerance_A: float = 85.0) -> tuple[float, ...]:
    near_pick = cKDTree(picks.coordinates_A).query(points)[0] <= tolerance_A
    near_point = cKDTree(points).query(picks.coordinates_A)[0] <= tolerance_A
    return float(near_pick.mean()), float(near_point.mean())


@pytest.fixture(scope="module")
def noisy() -> tuple[Floats, Tomogram]:
    return balls_in_noise(SHAPE, 20, snr=0.05)


@pytest.mark.parametrize("rule", ["robust", "lab"])
def test_planted_balls_are_found(noisy: tuple[Floats, Tomogram], rule: Any) -> None:
    points, tomogram = noisy
    picks = pick(tomogram, PickingConfig(rule=rule))
    recall, precision = recall_precision(picks, points)
    assert recall == 1.0
    assert precision >= (1.0 if rule == "robust" else 0.85)
    error = cKDTree(picks.coordinates_A).query(points)[0]
    assert np.median(error) < 0.6 * VOXEL_A


def test_a_crowd_does_not_raise_the_threshold_above_itself() -> None:
    """Regression: with the spread of all voxels, particles packed densely were the background."""
    points, tomogram = balls_in_noise((80, 80, 80), 38, snr=0.1)
    recall, precision = recall_precision(pick(tomogram, PickingConfig(border_A=20)), points)
    assert recall >= 0.95
    assert precision == 1.0


def test_few_picks_in_noise() -> None:
    noise = np.random.default_rng(3).normal(size=(96, 96, 96)).astype(np.float32)
    picks = pick(Tomogram(noise, VOXEL_A))
    assert len(picks) <= 4
    assert (picks.scores >= 4).all()


@pytest.mark.parametrize("shape", [(40, 41, 42), (41, 40, 39)])
def test_positions_to_parts_of_a_voxel(shape: tuple[int, ...]) -> None:
    point = np.array([[203.7, 184.1, 196.0]])
    picks = pick(Tomogram(blobs(point, shape, 30.0), VOXEL_A), SMALL)
    assert np.abs(picks.coordinates_A[0] - point[0]).max() < 0.2


def test_the_strongest_come_first() -> None:
    points = np.array([[350.0, 150, 150], [150, 150, 350], [150, 150, 150], [150, 350, 150]])
    volume = np.zeros((50, 50, 50), np.float32)
    for height, point in zip((2, 4, 1, 3), points, strict=True):
        volume += height * blobs(point[None], volume.shape, 30.0)
    picks = pick(Tomogram(volume, VOXEL_A), replace_rule(SMALL, "lab", threshold=1.0))
    np.testing.assert_allclose(picks.coordinates_A[:4], points[[1, 3, 0, 2]], atol=1)
    assert (np.diff(picks.scores) <= 0).all()


def test_equal_scores_come_by_z_y_x() -> None:
    """A lattice of equal peaks: only the order of their places tells them apart."""
    volume = np.zeros((48, 48, 48), np.float32)
    volume[8::16, 8::16, 8::16] = 1000.0
    picks = pick(Tomogram(volume, VOXEL_A), PickingConfig(sigma_A=10.0, border_A=0.0))
    assert len(picks) == 27
    order = np.lexsort((*picks.coordinates_A.T, -picks.scores))
    np.testing.assert_array_equal(order, np.arange(27))


def replace_rule(config: PickingConfig, rule: str, **others: float) -> PickingConfig:
    return PickingConfig.model_validate(config.model_dump() | {"rule": rule} | others)


class TestBlocks:
    @pytest.mark.parametrize("chunk", [7, 32, 50])
    def test_the_result_does_not_depend_on_them(
        self, noisy: tuple[Floats, Tomogram], chunk: int
    ) -> None:
        part = Tomogram(noisy[1].density[:50, :45, :48], VOXEL_A)
        config = PickingConfig(sigma_A=18.0, threshold=2.0, border_A=0.0)
        whole, blocks = pick(part, config), pick(part, config, chunk=chunk, workers=2)
        assert len(whole) > 50
        np.testing.assert_array_equal(whole.coordinates_A, blocks.coordinates_A)
        np.testing.assert_array_equal(whole.scores, blocks.scores)
        assert whole.threshold == blocks.threshold

    def test_the_filter_is_scipys(self, noisy: tuple[Floats, Tomogram]) -> None:
        part = noisy[1].density[:40, :40, :40]
        dog = ndimage.gaussian_filter(part, 2.5) - ndimage.gaussian_filter(part, 2.75)
        picks = pick(Tomogram(part, VOXEL_A), SMALL, chunk=16)
        peaks = (ndimage.maximum_filter(dog, 3) == dog)[3:-3, 3:-3, 3:-3]
        best = dog[3:-3, 3:-3, 3:-3][peaks].max()
        x, y, z = np.round(picks.coordinates_A[0] / VOXEL_A).astype(int)
        assert dog[z, y, x] == pytest.approx(best, rel=1e-4)


class TestThresholdsAndDistances:
    def test_lab_rule(self, noisy: tuple[Floats, Tomogram]) -> None:
        every = pick(noisy[1], replace_rule(SMALL, "lab", threshold=0.0, distance_A=0.0))
        some = pick(noisy[1], replace_rule(SMALL, "lab", threshold=7.0, distance_A=0.0))
        low, high = every.scores.min(), every.scores.max()
        assert some.threshold == pytest.approx(low + 7 * (high - low) / 20)
        np.testing.assert_array_equal(some.scores, every.scores[every.scores >= some.threshold])

    def test_gold_hides_nothing_from_the_robust_rule(self, noisy: tuple[Floats, Tomogram]) -> None:
        points, tomogram = noisy
        density = tomogram.density.copy()
        density[40:44, 45:49, 44:48] += 500.0
        far = np.linalg.norm(points - [455.0, 465, 415], axis=1) > 200
        picks = pick(Tomogram(density, VOXEL_A))
        assert recall_precision(picks, points[far])[0] == 1.0
        assert len(pick(Tomogram(density, VOXEL_A), PickingConfig(rule="lab"))) < 5

    def test_distance(self, noisy: tuple[Floats, Tomogram]) -> None:
        near = pick(noisy[1], replace_rule(SMALL, "robust", threshold=2.0, distance_A=0.0))
        apart = pick(noisy[1], replace_rule(SMALL, "robust", threshold=2.0, distance_A=90.0))
        assert cKDTree(near.coordinates_A).query(near.coordinates_A, 2)[0][:, 1].min() < 90
        gaps = cKDTree(apart.coordinates_A).query(apart.coordinates_A, 2)[0][:, 1]
        assert gaps.min() >= 90
        # What is gone is near something stronger that stayed.
        for place, score in zip(near.coordinates_A, near.scores, strict=True):
            close = np.linalg.norm(apart.coordinates_A - place, axis=1) < 90
            assert apart.scores[close].max() >= score

    def test_border(self) -> None:
        points = np.array([[60.0, 200, 200], [200, 200, 200]])
        tomogram = Tomogram(blobs(points, (41, 41, 41), 30.0), VOXEL_A)
        lab = replace_rule(SMALL, "lab", border_A=0.0)
        assert len(pick(tomogram, lab)) >= 2
        inner = pick(tomogram, replace_rule(SMALL, "lab", border_A=80.0, threshold=15.0))
        np.testing.assert_allclose(inner.coordinates_A, points[1:], atol=1)


class TestTheSameTomogramOtherwise:
    def test_inverted(self, noisy: tuple[Floats, Tomogram]) -> None:
        inverted = replace(noisy[1], density=-noisy[1].density, sign=-1)
        np.testing.assert_array_equal(pick(inverted).coordinates_A, pick(noisy[1]).coordinates_A)

    @pytest.mark.parametrize(("kind", "scale", "offset"), [("i2", 900, 9000), ("f2", 1, 3)])
    def test_stored_otherwise(
        self, tmp_path: Path, noisy: tuple[Floats, Tomogram], kind: str, scale: float, offset: float
    ) -> None:
        stored = (noisy[1].density * scale + offset).astype(kind)
        with mrcfile.new(tmp_path / "a.mrc") as mrc:
            mrc.set_data(stored)
            mrc.voxel_size = VOXEL_A
        picks = pick(open_tomogram(tmp_path / "a.mrc", contrast="positive"))
        expected = pick(noisy[1])
        assert len(picks) == len(expected)
        gaps = cKDTree(expected.coordinates_A).query(picks.coordinates_A)[0]
        assert gaps.max() < 0.1 * VOXEL_A
        np.testing.assert_allclose(picks.scores, expected.scores, rtol=0.01)

    def test_a_large_offset_costs_no_precision(self, noisy: tuple[Floats, Tomogram]) -> None:
        density = noisy[1].density * np.float32(100) + np.float32(30000)
        picks, expected = pick(Tomogram(density, VOXEL_A)), pick(noisy[1])
        np.testing.assert_allclose(picks.coordinates_A, expected.coordinates_A, atol=0.5)

    def test_zeros_around_it(self, noisy: tuple[Floats, Tomogram]) -> None:
        """Most of it constant: the spread is still that of the part that varies."""
        density = np.zeros((130, 130, 130), np.float32)
        density[:84, :91, :96] = noisy[1].density
        picks = pick(Tomogram(density, VOXEL_A))
        assert recall_precision(picks, noisy[0])[0] == 1.0
        assert len(picks) <= 1.5 * len(noisy[0])


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, bad: float) -> None:
        volume = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
        volume[13, 4, 7] = bad
        with pytest.raises(InputError, match="NaN or infinite"):
            pick(Tomogram(volume, VOXEL_A), SMALL)

    @pytest.mark.parametrize("value", [0.0, 7.3])
    def test_constant(self, value: float) -> None:
        with pytest.raises(InputError, match="constant"):
            pick(Tomogram(np.full((30, 30, 30), value, np.float32), VOXEL_A), SMALL)

    def test_arguments(self) -> None:
        tomogram = Tomogram(np.zeros((20, 20, 20), np.float32), VOXEL_A)
        with pytest.raises(ConfigError, match=r"too small.*at least 7 Å"):
            pick(tomogram, PickingConfig(sigma_A=5.0))
        with pytest.raises(ConfigError, match="borders leave nothing"):
            pick(tomogram, PickingConfig(border_A=100.0))
        for wrong in ({"chunk": 0}, {"workers": 0}):
            with pytest.raises(ConfigError, match="at least 1"):
                pick(tomogram, SMALL, **wrong)
        for fields in ({"sigma_A": 0}, {"ratio": 1.0}, {"threshold": float("nan")}, {"k": 1}):
            with pytest.raises(ValidationError):
                PickingConfig.model_validate(fields)

    def test_sigma_for_a_ball(self) -> None:
        """σ = diameter / (2 √3) answers most among its neighbours."""
        axis = np.arange(61) - 30
        radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) ** 0.5
        ball = (1 / (1 + np.exp((radius - 10) / 0.5))).astype(np.float32)
        best = sigma_for_A(20.0)
        answers = [
            (ndimage.gaussian_filter(ball, s) - ndimage.gaussian_filter(ball, 1.1 * s))[30, 30, 30]
            for s in (0.8 * best, best / 1.1**0.5, 1.25 * best)
        ]
        assert np.argmax(answers) == 1


class TestRandomBackground:
    TOMOGRAM = Tomogram(np.zeros((40, 50, 60), np.float32), VOXEL_A)

    def test_distances(self) -> None:
        picks = np.random.default_rng(0).uniform(0, [590, 490, 390], (20, 3))
        found = random_background(
            self.TOMOGRAM, picks, count=100, distance_A=80, border_A=30, seed=1
        )
        assert found.shape == (100, 3)
        assert cKDTree(picks).query(found)[0].min() >= 80
        assert (found >= 30).all()
        assert (found <= [560, 460, 360]).all()

    def test_seed(self) -> None:
        def draw(seed: int) -> Floats:
            return random_background(
                self.TOMOGRAM, np.empty((0, 3)), count=10, distance_A=50, seed=seed
            )

        np.testing.assert_array_equal(draw(3), draw(3))
        assert not np.array_equal(draw(3), draw(4))

    def test_no_room(self) -> None:
        with pytest.raises(ConfigError, match="too little room"):
            random_background(self.TOMOGRAM, np.array([[300, 250, 200]]), count=1, distance_A=900)
        for wrong in ({"count": -1}, {"distance_A": -1.0}, {"border_A": 300.0}):
            arguments: dict[str, Any] = {"count": 1, "distance_A": 1.0} | wrong
            with pytest.raises(ConfigError, match="no particle"):
                random_background(self.TOMOGRAM, np.empty((0, 3)), **arguments)
