"""The judge, end to end on small planted sets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_cubes import (
    BOX,
    STATED,
    STRUCTURES,
    VOXEL_A,
    Held,
    measured,
    planted,
    seen,
    wanted,
    white,
    whitened_norm,
)
from scipy.spatial.transform import Rotation

from tomadapt.judge.judge import JudgeOptions, _not_a_rivals, judge
from tomadapt.judge.rivals import Hypothesis, mirror_image
from tomadapt.judge.screen import Screen, search_shell
from tomadapt.judge.verdicts import GOLD_NATS, Verdicts
from tomadapt.recover.rotations import angular_distance_deg

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = white(measured())
EACH, Z = 10, 22.0
NAMES = tuple(STRUCTURES)
TRUE = np.repeat([*NAMES, "noise", "membrane"], EACH)
PARTICLES = {
    name: planted(STRUCTURES[name], EACH, NOISE, z=Z, seed=seed) for seed, name in enumerate(NAMES)
}


def slab(R: NDArray[np.float64]) -> NDArray[np.float32]:
    """A bilayer through the whole box, 4 nm thick."""
    r = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(r, r, r, indexing="ij")
    above_A = (x * R[0, 2] + y * R[1, 2] + z * R[2, 2]) * VOXEL_A
    return np.exp(-((abs(above_A) - 20) ** 2) / (2 * 8.0**2)).astype(np.float32)


@cache
def all_cubes() -> torch.Tensor:
    planes = [seen(slab(R), NOISE.points) for R in Rotation.random(EACH, rng=3).as_matrix()]
    planes = [p * np.float32(Z / whitened_norm(p, NOISE)) for p in planes]
    membranes = torch.from_numpy(np.stack(planes)) + NOISE.sample(EACH, seed=78)
    particles = [p.cubes.volumes for p in PARTICLES.values()]
    return torch.cat([*particles, NOISE.sample(EACH, seed=77), membranes])


def judged(
    cubes: torch.Tensor,
    structures: list[Hypothesis],
    told: list[tuple[str, int, int]] | None = None,
    **options: object,
) -> Verdicts:
    return judge(
        Held(cubes),
        structures,
        NOISE,
        acquisition=STATED,
        voxel_size_A=VOXEL_A,
        options=JudgeOptions(**options),  # type: ignore[arg-type]
        progress=(lambda *_: None) if told is None else lambda *a: told.append(a),
    )


@cache
def everything() -> tuple[Verdicts, list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []
    return judged(all_cubes(), wanted(), told), told


def test_alone_nothing_is_expected_of_the_lead() -> None:
    """One structure without rivals leads by all its evidence."""
    rows = np.isin(TRUE, ["beta", "noise"])
    found = judged(all_cubes()[rows], wanted("beta"), rivals=False)
    np.testing.assert_array_equal(found.expected_leads, [1.0])
    assert (found.label[TRUE[rows] == "beta"] == 0).mean() >= 0.9


@cache
def without_rivals() -> Verdicts:
    rows = np.isin(TRUE, ["beta", "gamma", "noise"])
    return judged(all_cubes()[rows], wanted("beta", "gamma"), rivals=False)


class TestAgainstRivals:
    @pytest.mark.parametrize("name", NAMES)
    def test_structures_are_named(self, name: str) -> None:
        found, _ = everything()
        mine = name == TRUE
        assert (found.label[mine] == NAMES.index(name)).mean() >= 0.9
        assert (found.label[~mine] != NAMES.index(name)).all()
        assert set(found.kind[found.label >= 0]) == {"wanted"}

    def test_noise_is_noise(self) -> None:
        found, _ = everything()
        assert (found.label[TRUE == "noise"] == -1).all()
        # Some look a little like one of many proteins.
        assert (found.kind[TRUE == "noise"] == "null").mean() >= 0.7
        assert (found.label[TRUE == "noise"] == -1).all()

    def test_a_membrane_is_not_wanted(self) -> None:
        found, _ = everything()
        membranes = TRUE == "membrane"
        assert (found.label[membranes] == -1).all()
        assert (found.kind[membranes] == "membrane").sum() >= 3
        assert (found.kind[~membranes] != "membrane").all()

    def test_poses(self) -> None:
        found, _ = everything()
        for name, true in PARTICLES.items():
            rows = name == TRUE
            assert np.median(angular_distance_deg(found.rotations[rows], true.rotations)) < 6
            moved = np.linalg.norm(found.shifts[rows] - true.shifts, axis=1)
            assert np.median(moved) < 0.4

    def test_rates_and_optics(self) -> None:
        found, _ = everything()
        assert found.hand == 1
        assert found.fdr[found.label >= 0].max() < 0.05
        assert found.optics is not None
        assert found.optics.b_factor_A2 <= 1500
        assert found.optics.particles >= 20
        assert 0.1 <= found.temper <= 1.0
        assert found.dropped == ()

    def test_leads_are_about_what_correlations_tell(self) -> None:
        """Each is one minus the square of the largest correlation with any other structure."""
        found, _ = everything()
        others = [h for h in found.hypotheses if h.kind != "mirror"]
        screen = Screen(others, NOISE, shell=search_shell(NOISE, wanted()), reach_voxels=BOX / 16)
        for place, name in enumerate(NAMES):
            similar = np.delete(screen.similarity(found.hypotheses[place]), place)
            assert found.expected_leads[place] == pytest.approx(1 - similar.max() ** 2, abs=0.1)
            measured = np.median(found.lead[(name == TRUE) & (found.label == place)])
            assert measured > 0.8 * found.expected_leads[place]

    def test_progress(self) -> None:
        _, told = everything()
        assert [s for s in dict.fromkeys(stage for stage, _, _ in told)] == ["screen", "refine"]
        for stage in ("screen", "refine"):
            done = [d for s, d, _ in told if s == stage]
            totals = {t for s, _, t in told if s == stage}
            assert (np.diff(done) > 0).all()
            assert totals == {done[-1]}

    def test_hypotheses(self) -> None:
        found, _ = everything()
        kinds = [h.kind for h in found.hypotheses]
        assert kinds[:6] == ["wanted"] * 3 + ["mirror"] * 3
        assert set(kinds[6:]) >= {"sphere", "membrane", "protein", "filament"}
        assert found.evidence.shape == (len(TRUE), len(kinds))
        # Of each particle a few are compared: two wanted and those close to the best, one mirror
        # image, three rivals.
        compared = np.isfinite(found.evidence)
        few = compared[:, :3].sum(axis=1)
        assert few.min() == 2  # of what is clear
        assert (few[TRUE == "noise"] == 3).all()
        assert (compared[:, 3:6].sum(axis=1) == 1).all()
        assert (compared[:, 6:].sum(axis=1) == 3).all()


def test_a_rival_that_is_a_wanted_structure_does_not_compete() -> None:
    """With a built-in protein among the wanted, the protein of that name is left out."""
    from tomadapt.judge.rivals import proteins

    tric = next(h for h in proteins(BOX, VOXEL_A) if h.name == "protein tric")
    mine = Hypothesis("mine", "wanted", tric.density)
    found = judged(NOISE.sample(9, seed=4), [mine])
    assert ("protein tric", "mine") in found.dropped
    column = [h.name for h in found.hypotheses].index("protein tric")
    assert np.isneginf(found.evidence[:, column]).all()


class TestWithoutRivals:
    def test_labels(self) -> None:
        found = without_rivals()
        np.testing.assert_array_equal(found.label, np.repeat([0, 1, -1], EACH))
        assert {h.kind for h in found.hypotheses} == {"wanted", "mirror"}

    def test_order_of_particles_does_not_matter(self) -> None:
        before = without_rivals()
        rows = np.random.default_rng(0).permutation(3 * EACH)
        cubes = all_cubes()[np.isin(TRUE, ["beta", "gamma", "noise"])]
        found = judged(cubes[rows], wanted("beta", "gamma"), rivals=False)
        np.testing.assert_array_equal(found.label, before.label[rows])
        np.testing.assert_array_equal(found.kind, before.kind[rows])
        np.testing.assert_allclose(found.score, before.score[rows], atol=0.01)
        assert found.optics is not None
        assert before.optics is not None
        assert found.optics.b_factor_A2 == before.optics.b_factor_A2
        assert found.optics.defocus_um == before.optics.defocus_um
        assert found.optics.defocus_nats == pytest.approx(before.optics.defocus_nats, abs=0.1)

    def test_order_of_structures_does_not_matter(self) -> None:
        before = without_rivals()
        cubes = all_cubes()[np.isin(TRUE, ["beta", "gamma", "noise"])]
        found = judged(cubes, wanted("gamma", "beta"), rivals=False)
        np.testing.assert_array_equal(found.label, np.array([1, 0, -1])[before.label])

    def test_mirrored_particles_are_found_with_the_other_hand(self) -> None:
        rows = np.isin(TRUE, ["beta", "gamma", "noise"])
        before = without_rivals()
        mirrored = [
            Hypothesis(h.name, "wanted", mirror_image(h.density)) for h in wanted("beta", "gamma")
        ]
        found = judged(all_cubes()[rows], mirrored, rivals=False)
        assert (before.hand, found.hand) == (1, -1)
        np.testing.assert_array_equal(found.label, before.label)
        assert found.wanted == ("beta", "gamma")
        # What was compared is the mirror image of what was given, so poses are as before.
        for h, true in zip(found.hypotheses[:2], wanted("beta", "gamma"), strict=True):
            np.testing.assert_allclose(h.density, true.density, atol=1e-6)
        particles = found.label >= 0
        turned = angular_distance_deg(found.rotations[particles], before.rotations[particles])
        assert np.median(turned) < 1.0

    @pytest.mark.parametrize("seed", range(4))
    def test_regression_strangers_do_not_turn_the_hand(self, seed: int) -> None:
        """Five particles that nobody named once outvoted all others, or had no one to outvote."""
        strangers = planted(STRUCTURES["alpha"], 5, NOISE, z=40.0, seed=20 + seed).cubes.volumes
        alone = torch.cat([strangers, NOISE.sample(6, seed=seed)])
        right = PARTICLES["beta"].cubes.volumes
        for cubes in (alone, torch.cat([alone, right])):
            assert judged(cubes, wanted("beta", "gamma"), rivals=False).hand == 1

    def test_noise_alone_is_of_either_hand_and_no_structure(self) -> None:
        found = judged(NOISE.sample(16, seed=11), wanted("beta", "gamma"), rivals=False)
        assert found.hand == 1
        assert (found.label == -1).mean() >= 0.9
        assert found.optics is None

    def test_gold(self) -> None:
        on_gold = np.zeros(3 * EACH, dtype=bool)
        on_gold[[0, 25]] = True
        before = without_rivals()
        faint = before.evidence.max() / GOLD_NATS * 1.1  # no particle leads by so much then
        found = replace(before, evidence=before.evidence / faint).with_gold(on_gold)
        np.testing.assert_array_equal(found.label[on_gold], -1)
        assert (found.label[1:EACH] == 0).all()


@pytest.mark.parametrize(
    ("box", "given", "reach"), [(32, None, 2.0), (20, None, 1.25), (20, 3.0, 3.0)]
)
def test_reach(box: int, given: float | None, reach: float) -> None:
    assert JudgeOptions(reach_voxels=given).reach(box) == reach


class TestMostlyNoise:
    """Noise that outnumbered the particles once taught a class what its contrast is."""

    @pytest.mark.parametrize("rivals", [False, True])
    def test_regression_many_empty_positions(self, rivals: bool) -> None:
        particles = [PARTICLES[name].cubes.volumes for name in ("alpha", "beta")]
        cubes = torch.cat([*particles, NOISE.sample(70, seed=5)])
        found = judged(cubes, wanted("alpha", "beta"), rivals=rivals)
        np.testing.assert_array_equal(found.label[: 2 * EACH], np.repeat([0, 1], EACH))
        assert (found.label[2 * EACH :] >= 0).sum() <= 1

    def test_regression_nothing_but_noise(self) -> None:
        found = judged(NOISE.sample(60, seed=4), wanted("alpha", "beta"), rivals=False)
        assert ((found.label >= 0) & (found.fdr <= 0.05)).sum() <= 1
        assert (found.label >= 0).sum() <= 6

    def test_regression_a_class_of_few(self) -> None:
        """Fewer than eight particles say nothing of a class's contrast, and are labelled still."""
        few = PARTICLES["beta"].cubes.volumes[:4]
        cubes = torch.cat([PARTICLES["alpha"].cubes.volumes, few, NOISE.sample(10, seed=6)])
        found = judged(cubes, wanted("alpha", "beta"))
        np.testing.assert_array_equal(found.label[EACH : EACH + 4], 1)
        assert (found.score[EACH : EACH + 4] > 0.9).all()


def test_particles_that_a_rival_explains_do_not_stand_in_for_sure_ones() -> None:
    """Ten that the hand is certain of, two of which are more like a protein that nobody named."""
    kinds = np.array(["wanted", "mirror", "protein", "dropped"])
    evidence = np.tile([8.0, 9.0, 3.0, 20.0], (10, 1))
    evidence[[2, 5], 2] = 12.0
    sure = np.arange(10), np.zeros(10, dtype=np.int64)
    rows, columns = _not_a_rivals(sure, evidence, kinds)
    np.testing.assert_array_equal(rows, [0, 1, 3, 4, 6, 7, 8, 9])
    np.testing.assert_array_equal(columns, 0)
    evidence[7, 2] = 12.0  # seven are too few
    assert len(_not_a_rivals(sure, evidence, kinds)[0]) == 0
