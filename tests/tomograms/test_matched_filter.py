"""Matched filters: what was planted through the CTF is found, with the right sign of density."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import tomadapt.tomograms.matched_filter as module
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError
from tomadapt.simulate.tomogram import (
    PlantedTomogram,
    TomogramConfig,
    common_templates,
    simulate_tomogram,
)
from tomadapt.tomograms.matched_filter import (
    Candidates,
    Level,
    find_candidates,
    noise_power,
    profile,
)

pytestmark = pytest.mark.usefixtures("one_thread")

VOXEL_A = 13.8
NAMES = ("ribosome_50s", "ribosome_30s")
SETTINGS: dict[str, Any] = {
    "classes": list(NAMES),
    "counts": {"ribosome_50s": 5, "ribosome_30s": 3},
    "acquisition": {
        "defocus_um": 5.0,
        "tilt_angles_deg": {"first": -60, "last": 60, "step": 4},
    },
    "shape_zyx": (40, 64, 72),
    "snr": 0.5,
    "seed": 3,
    "box": 24,
    "voxel_size_A": VOXEL_A,
    "resolution_A": 25.0,
    "gap_A": 40.0,
}
CONFIG = TomogramConfig.model_validate(SETTINGS)


@pytest.fixture(autouse=True)
def _fewer_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough of them for tomograms as small as these."""
    monkeypatch.setattr(module, "_PSD_BLOCKS", 100)


@cache
def planted() -> PlantedTomogram:
    return simulate_tomogram(CONFIG)


@cache
def templates() -> Mapping[str, NDArray[np.float32]]:
    return common_templates(CONFIG)


def candidates(tomogram: Tomogram, names: tuple[str, ...] = NAMES, **others: Any) -> Any:
    radii = dict(zip(planted().class_names, planted().radii_A.tolist(), strict=True))
    arguments: dict[str, Any] = {"acquisition": CONFIG.acquisition, "level": Level.of(tomogram)}
    return find_candidates(
        tomogram,
        {name: templates()[name] for name in names},
        radii,
        density_voxel_A=VOXEL_A,
        **(arguments | others),
    )


@cache
def bright() -> dict[int, Candidates]:
    return candidates(Tomogram(planted().density, VOXEL_A))


def distances_A(found: Candidates) -> NDArray[np.float64]:
    """Of each planted particle to the next candidate; infinite when there is none."""
    if not len(found):
        return np.full(len(planted().labels), np.inf)
    return np.asarray(cKDTree(found.coordinates_A).query(planted().coordinates_A)[0])


class TestPlanted:
    def test_bright_particles_are_found(self) -> None:
        assert distances_A(bright()[1]).max() < 3.5 * VOXEL_A
        assert np.median(distances_A(bright()[1])) < 2 * VOXEL_A
        # The strongest are particles.
        strongest = bright()[1].coordinates_A[:6]
        assert cKDTree(planted().coordinates_A).query(strongest)[0].max() < 3.5 * VOXEL_A

    def test_the_other_sign_has_none_of_them(self) -> None:
        assert distances_A(bright()[-1]).min() > 5 * VOXEL_A
        assert bright()[1].scores[:5].min() > 1.2 * bright()[-1].scores.max()

    def test_dark_particles_are_found_with_the_other_sign(self) -> None:
        dark = candidates(Tomogram(-planted().density, VOXEL_A))
        for sign in (1, -1):
            np.testing.assert_allclose(
                dark[sign].coordinates_A, bright()[-sign].coordinates_A, atol=1e-6
            )
            np.testing.assert_allclose(dark[sign].scores, bright()[-sign].scores, rtol=1e-3)

    def test_a_stated_sign_is_honoured(self) -> None:
        dark = candidates(Tomogram(-planted().density, VOXEL_A, sign=-1))
        np.testing.assert_allclose(dark[1].coordinates_A, bright()[1].coordinates_A, atol=1e-6)

    def test_scale_and_offset_do_not_matter(self) -> None:
        scaled = candidates(Tomogram(300 * planted().density + np.float32(900), VOXEL_A))
        assert len(scaled[1]) == len(bright()[1])
        np.testing.assert_allclose(scaled[1].coordinates_A, bright()[1].coordinates_A, atol=1e-6)
        np.testing.assert_allclose(scaled[1].scores, bright()[1].scores, rtol=0.02)

    def test_a_tomogram_that_was_focused_elsewhere_answers_less(self) -> None:
        """The filter knows the CTF: with overfocus all signs are wrong."""
        over = CONFIG.acquisition.model_copy(update={"defocus_um": -5.0})
        found = candidates(Tomogram(planted().density, VOXEL_A), acquisition=over)
        assert np.median(distances_A(found[-1])) < 3 * VOXEL_A
        assert np.median(distances_A(found[1])) > 3 * VOXEL_A

    @pytest.mark.parametrize("threshold", [6.0, 8.0])
    def test_threshold(self, threshold: float) -> None:
        found = candidates(Tomogram(planted().density, VOXEL_A), threshold=threshold)
        every = bright()[1]
        assert found[1].scores.min() >= threshold
        assert 0 < len(found[1]) < len(every)
        # Those that remain are the same.
        assert cKDTree(every.coordinates_A).query(found[1].coordinates_A)[0].max() == 0

    def test_strongest_first_and_apart(self) -> None:
        found = bright()[1]
        assert (np.diff(found.scores) <= 0).all()
        gaps = cKDTree(found.coordinates_A).query(found.coordinates_A, 2)[0][:, 1]
        assert gaps.min() >= module.APART_VOXELS * VOXEL_A
        assert set(found.names) <= set(NAMES)
        assert len(found) == len(found.scores) == len(found.names) == len(found.coordinates_A)

    def test_one_structure_alone(self) -> None:
        found = candidates(Tomogram(planted().density, VOXEL_A), ("ribosome_30s",))[1]
        assert set(found.names) == {"ribosome_30s"}
        radius = float(planted().radii_A[1])
        gaps = cKDTree(found.coordinates_A).query(found.coordinates_A, 2)[0][:, 1]
        assert gaps.min() >= 0.6 * radius


class TestGold:
    centre = (8, 12, 52)  # z, y, x, where no particle is

    def with_gold(self) -> Tomogram:
        density = planted().density.copy()
        bead = tuple(slice(c - 2, c + 3) for c in self.centre)
        density[bead] += 100 * density.std()
        return Tomogram(density, VOXEL_A)

    def test_no_candidate_on_gold(self) -> None:
        tomogram = self.with_gold()
        at_A = np.array(self.centre[::-1]) * VOXEL_A
        assert np.linalg.norm(planted().coordinates_A - at_A, axis=1).min() > 150
        found = candidates(tomogram)
        for sign in (1, -1):
            assert np.linalg.norm(found[sign].coordinates_A - at_A, axis=1).min() > 4 * VOXEL_A

    def test_particles_are_found_beside_it(self) -> None:
        assert distances_A(candidates(self.with_gold())[1]).max() < 3.5 * VOXEL_A

    def test_it_is_recognised(self) -> None:
        tomogram = self.with_gold()
        strong = Level.of(tomogram).is_strong(tomogram.block((0, 0, 0), tomogram.shape))
        assert strong[self.centre]
        assert strong.sum() < 1000
        plain = Level.of(Tomogram(planted().density, VOXEL_A))
        assert not plain.is_strong(planted().density).any()

    def test_cleaned_has_neither_gold_nor_outliers(self) -> None:
        tomogram = self.with_gold()
        level = Level.of(tomogram)
        block = tomogram.block((0, 0, 0), tomogram.shape)
        clean = level.cleaned(block.copy())
        assert clean[self.centre] == 0
        assert np.abs(clean).max() <= module.CLIP * level.deviation * (1 + 1e-6)
        # What is usual stays as it was, but for the median.
        usual = ~level.is_strong(block) & (clean != 0) & (np.abs(clean) < level.deviation)
        assert usual.mean() > 0.5
        np.testing.assert_allclose(clean[usual], block[usual] - level.median, rtol=1e-4, atol=1e-6)


class TestBlocks:
    def test_particles_do_not_depend_on_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scores do a little: spectra of small blocks wrap round sooner."""
        monkeypatch.setattr(module, "_CORE", 24)
        found = candidates(Tomogram(planted().density, VOXEL_A))[1]
        assert distances_A(found).max() < 3.5 * VOXEL_A
        gap, at = cKDTree(found.coordinates_A).query(bright()[1].coordinates_A[:6])
        assert gap.max() < 2.5 * VOXEL_A
        assert np.median(gap) < 0.5 * VOXEL_A
        np.testing.assert_allclose(found.scores[at], bright()[1].scores[:6], rtol=0.3)

    def test_each_voxel_is_in_one_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_CORE", 24)
        covered = np.zeros((40, 64, 72), int)
        for low, high in module.blocks_of((40, 64, 72), module._CORE):
            read_low, read_high = module._read_around(low, high, (40, 64, 72))
            covered[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] += 1
            for i, n in enumerate(covered.shape):
                assert read_low[i] == max(low[i] - module._MARGIN, 0)
                assert read_high[i] == min(high[i] + module._MARGIN, n)
        assert (covered == 1).all()


class TestLevel:
    NOISE = np.random.default_rng(0).normal(7.0, 3.0, size=(40, 50, 60)).astype(np.float32)

    def test_of_noise(self) -> None:
        level = Level.of(Tomogram(self.NOISE, VOXEL_A))
        assert level.median == pytest.approx(7.0, abs=0.1)
        assert level.deviation == pytest.approx(3.0, rel=0.02)
        # Smoothing with 1 voxel divides the deviation of white noise by (4π)^(3/4).
        expected = module.STRONG * 3.0 / (4 * np.pi) ** 0.75
        assert level.strong == pytest.approx(expected, rel=0.1)

    def test_gold_changes_nothing(self) -> None:
        density = self.NOISE.copy()
        density[10:15, 20:25, 20:25] += 1000
        level, before = (Level.of(Tomogram(d, VOXEL_A)) for d in (density, self.NOISE))
        assert level.deviation == pytest.approx(before.deviation, rel=0.05)
        assert level.strong == pytest.approx(before.strong, rel=0.1)

    @pytest.mark.parametrize("value", [0.0, 7.3])
    def test_constant(self, value: float) -> None:
        with pytest.raises(InputError, match="constant"):
            Level.of(Tomogram(np.full((30, 30, 30), value, np.float32), VOXEL_A))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, bad: float) -> None:
        density = self.NOISE.copy()
        density[20, 3, 5] = bad
        with pytest.raises(InputError, match="NaN or infinite"):
            Level.of(Tomogram(density, VOXEL_A, name="bad"))


class TestNoisePower:
    def test_white_noise_is_flat(self) -> None:
        tomogram = Tomogram(TestLevel.NOISE, VOXEL_A)
        power = noise_power(tomogram, Level.of(tomogram))
        side = power.shape[0]
        assert power.shape == (side, side, side // 2 + 1)
        line = np.hanning(side + 2)[1:-1]
        expected = 9.0 * (line**2).sum() ** 3
        f = np.fft.fftfreq(side)
        radius = np.sqrt(f[:, None, None] ** 2 + f[:, None] ** 2 + np.fft.rfftfreq(side) ** 2)
        for low, high in ((0.1, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 0.9)):
            shell = (radius >= low) & (radius < high)
            # A little less: the quieter half counts.
            assert power[shell].mean() == pytest.approx(0.97 * expected, rel=0.08)

    def test_particles_are_not_noise(self) -> None:
        """Blocks with much in them are left out: bright balls in a corner change little."""
        density = TestLevel.NOISE.repeat(2, axis=2)
        with_balls = density.copy()
        with_balls[:, :, 85:] += 6 * (np.indices((40, 50, 35)).sum(axis=0) // 4 % 2)
        powers = [
            noise_power(Tomogram(d, VOXEL_A), Level.of(Tomogram(d, VOXEL_A)))[4:-4, 4:-4, 4:]
            for d in (density, with_balls)
        ]
        assert powers[1].mean() == pytest.approx(powers[0].mean(), rel=0.15)


class TestProfile:
    K = np.linspace(0, 1 / 40, 60)

    @pytest.mark.parametrize("n", [40, 41])
    def test_a_gaussian_stays_one(self, n: int) -> None:
        voxel_A, sigma_A = 8.0, 30.0
        r = (np.arange(n) - n // 2) * voxel_A
        squares = r[:, None, None] ** 2 + r[:, None] ** 2 + r**2
        got = profile(np.exp(-squares / (2 * sigma_A**2)).astype(np.float32), voxel_A, self.K)
        expected = np.exp(-2 * (np.pi * sigma_A * self.K) ** 2)
        np.testing.assert_allclose(got / got[0], expected, atol=0.01)

    def test_a_ball_has_its_first_zero(self) -> None:
        """3 (sin x − x cos x) / x³ with x = 2π k a: zero at x = 4.493."""
        r = (np.arange(48) - 24) * 5.0
        radius = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
        ball = 1 / (1 + np.exp((radius - 70) / 1.5))
        got = profile(ball.astype(np.float32), 5.0, self.K)
        crossing = self.K[np.flatnonzero(np.signbit(got))[0]]
        assert crossing == pytest.approx(4.493 / (2 * np.pi * 70), rel=0.06)

    def test_only_the_spherical_average_counts(self) -> None:
        density = templates()["ribosome_30s"]
        turned = np.ascontiguousarray(np.rot90(density[1:, 1:, 1:], axes=(0, 2)))
        np.testing.assert_allclose(
            profile(turned, VOXEL_A, self.K),
            profile(np.ascontiguousarray(density[1:, 1:, 1:]), VOXEL_A, self.K),
            rtol=1e-4,
            atol=1e-3,
        )


def test_noise_has_few_candidates() -> None:
    noise = np.random.default_rng(8).normal(size=(40, 64, 72)).astype(np.float32)
    found = candidates(Tomogram(noise, VOXEL_A))
    assert len(found[1]) + len(found[-1]) <= 3
