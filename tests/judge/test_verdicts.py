"""Verdicts: labels, kinds and rates follow the evidence they are given."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from planted_cubes import balls, wanted

from tomadapt.judge.lead import ExpectedLeads
from tomadapt.judge.misfit import fit_with_fits
from tomadapt.judge.mixture import false_discovery_rates, tempered
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis, mirrors
from tomadapt.judge.verdicts import Verdicts, verdicts

TWO = wanted("alpha", "beta")
BALL = balls(((0.0, 0.0, 0.0, 2.0, 1.0),))
OTHERS = [
    Hypothesis("protein x", "protein", BALL),
    Hypothesis("flat membrane", "membrane", BALL),
    Hypothesis("sphere of 60 Å", "sphere", BALL),
]
HYPOTHESES = [*TWO, *mirrors(TWO), *OTHERS]
KINDS = ("alpha", "beta", "protein", "membrane", "sphere", "null")
COLUMN = {"alpha": 0, "beta": 1, "protein": 4, "membrane": 5, "sphere": 6}
LEADS = ExpectedLeads(np.full(2, 0.6), np.zeros((2, 2), dtype=bool))
EACH = 12
TRUE = np.repeat(KINDS, EACH)


@cache
def table(seed: int = 0, lead: float = 80.0) -> tuple[np.ndarray, Refined]:
    """Twelve particles of each kind, of which the evidence leaves no doubt, and their poses."""
    rng = np.random.default_rng(seed)
    n = len(TRUE)
    evidence = rng.normal(scale=1.0, size=(n, 7))
    for row, kind in enumerate(TRUE):
        if kind != "null":
            evidence[row, COLUMN[kind]] += lead
    evidence[:, 2:4] = evidence[:, :2] + 5.0  # mirror images: they do not compete
    amplitude = 3.0 * (1 + 0.05 * rng.normal(size=(n, 7)))
    amplitude[~np.isin(TRUE, KINDS[:2])] *= 0.3
    rotations = rng.normal(size=(n, 7, 3, 3)).astype(np.float32)
    shifts = rng.normal(size=(n, 7, 3)).astype(np.float32)
    return evidence, Refined(evidence, amplitude, rotations, shifts, np.ones(n), np.ones(n))


@cache
def usual() -> Verdicts:
    evidence, refined = table()
    residual_ratio = np.random.default_rng(1).normal(1, 0.05, size=len(TRUE))
    return verdicts(
        HYPOTHESES,
        evidence,
        refined,
        residual_ratio=residual_ratio,
        null_evidence=6.0,
        optics=None,
        expected=LEADS,
    )


def test_labels_and_kinds() -> None:
    found = usual()
    expected = np.select([TRUE == "alpha", TRUE == "beta"], [0, 1], -1)
    np.testing.assert_array_equal(found.label, expected)
    for kind, name in (
        ("alpha", "wanted"),
        ("beta", "wanted"),
        ("protein", "other"),
        ("membrane", "membrane"),
        ("sphere", "sphere"),
        ("null", "null"),
    ):
        assert set(found.kind[kind == TRUE]) == {name}


def test_mirror_images_do_not_compete() -> None:
    assert (usual().evidence[:, 2] > usual().evidence[:, 0]).all()
    assert not any("mirror" in name for name in usual().component_names)


def test_names_of_components() -> None:
    found = usual()
    assert found.wanted == ("alpha", "beta")
    assert found.component_names == (
        "alpha",
        "beta",
        "part of alpha",
        "part of beta",
        "protein x",
        "flat membrane",
        "sphere of 60 Å",
        "null",
    )
    assert found.mixture.posterior.shape == (len(TRUE), 8)
    assert 0 <= found.second.min() <= found.second.max() < 8


def test_the_second_is_not_the_first() -> None:
    found = usual()
    first = found.mixture.posterior.argmax(axis=1)
    assert (found.second != first).all()
    rows = np.arange(len(TRUE))
    others = found.mixture.posterior.copy()
    others[rows, first] = -1
    np.testing.assert_allclose(others.max(axis=1), found.mixture.posterior[rows, found.second])


def test_probabilities() -> None:
    found = usual()
    assert found.probabilities.shape == (len(TRUE), 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    labelled = found.label >= 0
    rows = np.arange(len(TRUE))
    np.testing.assert_allclose(
        found.score, found.probabilities[rows, np.where(labelled, found.label, 2)]
    )
    assert found.score.min() > 0.9


def test_rates_are_those_of_each_label() -> None:
    found = usual()
    np.testing.assert_array_equal(found.fdr[found.label < 0], 1.0)
    for label in (0, 1):
        rows = found.label == label
        expected = false_discovery_rates(found.score[rows], np.zeros(rows.sum(), dtype=int))
        np.testing.assert_allclose(found.fdr[rows], expected)
    assert found.fdr[found.label >= 0].max() < 0.1


def test_unknown_is_what_may_be_a_particle() -> None:
    unknown = usual().unknown
    assert unknown[np.isin(TRUE, ["protein", "sphere"])].min() > 0.9
    assert unknown[np.isin(TRUE, ["alpha", "beta", "membrane"])].max() < 0.1
    # What noise explains best may be a faint particle, but hardly is.
    assert unknown[TRUE == "null"].max() < 0.3


def test_poses_and_contrast_are_the_best_structures() -> None:
    found, (_, refined) = usual(), table()
    rows = np.arange(len(TRUE))
    np.testing.assert_array_equal(found.best[: 2 * EACH], np.repeat([0, 1], EACH))
    np.testing.assert_array_equal(found.rotations, refined.rotations[rows, found.best])
    np.testing.assert_array_equal(found.shifts, refined.shifts[rows, found.best])
    for label in (0, 1):
        assert np.median(found.amplitude[found.label == label]) == pytest.approx(1.0, abs=0.03)


def test_spare_evidence_is_noises() -> None:
    """What noise has by climbing must be beaten."""
    evidence, refined = table(lead=25.0)
    ones = np.ones(len(TRUE))
    low, high = (
        verdicts(
            HYPOTHESES,
            evidence,
            refined,
            residual_ratio=ones,
            null_evidence=null_evidence,
            optics=None,
            expected=LEADS,
        )
        for null_evidence in (6.0, 60.0)
    )
    assert (low.kind == "null").mean() == pytest.approx(1 / 6, abs=0.03)
    assert (high.kind == "null").all()
    assert (high.label == -1).all()


def test_what_was_not_compared_is_not_chosen() -> None:
    evidence, refined = table()
    some = evidence.copy()
    some[TRUE == "alpha", 4:] = -np.inf
    some[TRUE == "alpha", 1] = -np.inf
    ones = np.ones(len(TRUE))
    found = verdicts(
        HYPOTHESES,
        some,
        refined,
        residual_ratio=ones,
        null_evidence=6.0,
        optics=None,
        expected=LEADS,
    )
    assert (found.label[TRUE == "alpha"] == 0).all()
    assert np.isfinite(found.probabilities).all()
    np.testing.assert_array_equal(found.probabilities[TRUE == "alpha", 1], 0.0)


def test_order_of_particles() -> None:
    evidence, refined = table()
    rows = np.random.default_rng(3).permutation(len(TRUE))
    turned = Refined(
        refined.z[rows],
        refined.amplitude[rows],
        refined.rotations[rows],
        refined.shifts[rows],
        refined.energy[rows],
        refined.freedom[rows],
    )
    residual_ratio = np.random.default_rng(1).normal(1, 0.05, size=len(TRUE))[rows]
    found = verdicts(
        HYPOTHESES,
        evidence[rows],
        turned,
        residual_ratio=residual_ratio,
        null_evidence=6.0,
        optics=None,
        expected=LEADS,
    )
    np.testing.assert_array_equal(found.label, usual().label[rows])
    np.testing.assert_array_equal(found.kind, usual().kind[rows])
    np.testing.assert_allclose(found.score, usual().score[rows], atol=1e-6)


def test_evidence_is_tempered_before_it_is_mixed() -> None:
    """Evidence of a rival that scatters four times as much about what it should be."""
    evidence, refined = table()
    rng = np.random.default_rng(7)
    scattered = evidence.copy()
    rows = np.isin(TRUE, ["alpha", "beta"])
    own = np.where(TRUE[rows] == "alpha", 0, 1)
    scattered[rows, own] = 60.0
    scattered[rows, 1 - own] = 24.0 + rng.normal(0, (4 * 2 * 60 * 0.6 * 0.4) ** 0.5, rows.sum())
    # At the best poses, with as little else in the particles as makes z² / 2 of a likelihood ratio.
    refined = replace(
        refined,
        z=np.sqrt(2 * np.clip(scattered, 0, None)),
        energy=np.full(len(TRUE), 1e4),
        freedom=np.full(len(TRUE), 2e4),
    )
    ones = np.ones(len(TRUE))
    found = verdicts(
        HYPOTHESES,
        scattered,
        refined,
        residual_ratio=ones,
        null_evidence=6.0,
        optics=None,
        expected=LEADS,
    )
    assert 0.1 < found.temper < 0.6
    others = np.r_[0, 1, 4:7]
    mixed = np.concatenate([scattered[:, others], np.full((len(TRUE), 1), 6.0)], axis=1)
    decoys = np.array([True, False, True, False])
    trusted = tempered(mixed, found.temper, nothing=6.0)
    trusted[:, :2] = np.where(mixed[:, :2] > 6.0, trusted[:, :2], -np.inf)
    expected, _ = fit_with_fits(trusted, refined.amplitude[:, :2], ones, decoys, LEADS)
    np.testing.assert_allclose(found.mixture.posterior, expected.posterior)


def test_regression_what_noise_explains_as_well_has_no_name() -> None:
    """Without a CTF a faint class was a second noise, and all empty cubes had its name."""
    evidence, refined = table()
    faint = evidence.copy()
    faint[TRUE == "beta", 1] = 8.0
    faint[TRUE == "null", :] = 0.0
    ones = np.ones(len(TRUE))
    found = verdicts(
        HYPOTHESES,
        faint,
        refined,
        residual_ratio=ones,
        null_evidence=0.5,
        optics=None,
        expected=LEADS,
    )
    assert (found.label[TRUE == "null"] == -1).all()
    assert (found.label[TRUE == "alpha"] == 0).all()


class TestGold:
    """Wanted structures lead by some 80 nats in :func:`usual`, and by 40 here."""

    on_gold = np.arange(len(TRUE)) % 3 == 0

    @staticmethod
    def faint() -> Verdicts:
        return replace(usual(), evidence=usual().evidence / 2)

    def test_no_label_on_gold(self) -> None:
        found, before = self.faint().with_gold(self.on_gold), self.faint()
        assert (found.label[self.on_gold] == -1).all()
        assert set(found.kind[self.on_gold]) == {"gold"}
        np.testing.assert_array_equal(found.score[self.on_gold], 1.0)
        np.testing.assert_array_equal(found.fdr[self.on_gold], 1.0)
        np.testing.assert_array_equal(found.unknown[self.on_gold], 0.0)
        assert (before.label[self.on_gold] >= 0).any()

    def test_regression_bright_particles_keep_their_label(self) -> None:
        """Of eight bright apoferritins, which no shape explains as well, four were called gold."""
        half = np.where(np.arange(len(TRUE)) % 2, 1.0, 0.5)[:, None]
        before = replace(usual(), evidence=usual().evidence * half)
        found = before.with_gold(np.ones(len(TRUE), dtype=bool))
        stays = (before.label >= 0) & (half[:, 0] == 1)
        assert stays.any()
        np.testing.assert_array_equal(found.label, np.where(stays, before.label, -1))
        assert set(found.kind[stays]) == {"wanted"}
        assert set(found.kind[~stays]) == {"gold"}

    def test_the_others_stay(self) -> None:
        found, before = self.faint().with_gold(self.on_gold), self.faint()
        for name in ("label", "kind", "score", "unknown"):
            np.testing.assert_array_equal(
                getattr(found, name)[~self.on_gold], getattr(before, name)[~self.on_gold]
            )

    def test_rates_are_of_those_that_stay(self) -> None:
        found = usual().with_gold(self.on_gold)
        rates = false_discovery_rates(found.score, found.label)
        labelled = found.label >= 0
        np.testing.assert_array_equal(found.fdr[labelled], rates[labelled])
        stays = np.arange(len(TRUE)) % 2 == 0
        fewer = usual().with_rates(stays)
        np.testing.assert_array_equal(fewer.fdr[~stays], 1.0)

    def test_none(self) -> None:
        found = usual().with_gold(np.zeros(len(TRUE), dtype=bool))
        np.testing.assert_array_equal(found.label, usual().label)
        np.testing.assert_array_equal(found.kind, usual().kind)


def test_regression_the_second_is_not_what_gave_the_kind() -> None:
    """A particle without a label, whose most probable structure is a named one."""
    evidence, refined = table()
    unsure = evidence.copy()
    unsure[0] = [40.0, 0.0, 0.0, 0.0, 40.0, 0.0, 40.0]
    ones = np.ones(len(TRUE))
    found = verdicts(
        HYPOTHESES,
        unsure,
        refined,
        residual_ratio=ones,
        null_evidence=6.0,
        optics=None,
        expected=LEADS,
    )
    names = found.component_names
    for place in range(len(TRUE)):
        second = names[found.second[place]]
        if found.label[place] >= 0:
            assert second != found.wanted[found.label[place]]
        elif found.kind[place] == "other":
            assert second != "protein x"


def test_regression_decoys_that_do_not_compete_are_no_decoys() -> None:
    """Their proportion is next to nothing, and made that of relatives too small."""
    evidence, refined = table()
    more = [*HYPOTHESES, Hypothesis("protein alpha", "protein", BALL)]
    wider = np.column_stack([evidence, np.full(len(TRUE), -np.inf)])
    wide = replace(
        refined,
        z=np.column_stack([refined.z, np.full(len(TRUE), np.nan)]),
        amplitude=np.column_stack([refined.amplitude, np.full(len(TRUE), np.nan)]),
    )
    ones = np.ones(len(TRUE))
    parts = []
    for dropped in ((), (("protein alpha", "alpha"),)):
        found = verdicts(
            more,
            wider,
            wide,
            residual_ratio=ones,
            null_evidence=6.0,
            optics=None,
            expected=LEADS,
            dropped=dropped,
        )
        parts.append(found.mixture.proportions[2:4].sum())
    assert parts[1] > 1.2 * parts[0]


def test_regression_an_absent_class_takes_no_proteins() -> None:
    """No beta, and twelve unnamed proteins that it explains a little better than decoys do.

    Their contrast and residual scatter more than those of a class.

    All twelve had the name, with a false-discovery rate of 0.02: nothing but their own lead said
    how much beta leads.
    """
    evidence, refined = table()
    absent = evidence.copy()
    rows = TRUE == "beta"
    absent[rows, 1] = 60.0
    rng = np.random.default_rng(5)
    absent[rows, 4:] = 52.0 + rng.normal(size=(rows.sum(), 3))
    amplitude = refined.amplitude.copy()
    amplitude[rows] *= rng.uniform(0.6, 1.2, size=(rows.sum(), 1))
    refined = replace(refined, amplitude=amplitude)
    residual_ratio = np.where(rows, rng.uniform(0.9, 1.4, len(TRUE)), 1.0)
    labels = {}
    for expected in (0.5, 0.13):
        found = verdicts(
            HYPOTHESES,
            absent,
            refined,
            residual_ratio=residual_ratio,
            null_evidence=6.0,
            optics=None,
            expected=replace(LEADS, ratios=np.full(2, expected)),
        )
        labels[expected] = found.label
    assert (labels[0.5][rows] == 1).mean() < 0.2
    assert (labels[0.13][rows] == 1).mean() > 0.5  # of a structure like that, this is all
    assert (labels[0.5][TRUE == "alpha"] == 0).all()


def test_leads_are_those_of_the_best_structure() -> None:
    """Others have noise at most: nearly all evidence of a particle is lead."""
    found = usual()
    assert found.lead[np.isin(TRUE, ["alpha", "beta"])].min() > 0.9
    assert found.lead[np.isin(TRUE, ["protein", "membrane", "sphere"])].max() < 0
    np.testing.assert_array_equal(found.expected_leads, LEADS.ratios)
