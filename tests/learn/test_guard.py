"""The guard: each sign of collapse, and which model is used then."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from tomadapt.learn.adversarial import DEFAULT_RECIPE, AdversarialAdaptation, AdversarialOptions
from tomadapt.learn.guard import choose
from tomadapt.learn.method import Adaptation
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.learn.statistics import TargetStatistics

LN2 = math.log(2)


@pytest.fixture(scope="module")
def domains(make_domain):
    source = make_domain(16, seed=1)
    return source, make_domain(12, seed=2, scale=1.3, noise=1.0).unlabelled()


@pytest.fixture(scope="module")
def source_model(domains, fabric):
    options = SourceTraining(epochs=6, batch_size=8, validation_fraction=0.2)
    return train_source(domains[0], options, fabric=fabric)[0]


@pytest.fixture
def statistics(source_model, domains, fabric):
    return TargetStatistics(source_model, fabric).fit(*domains).model


def chosen(source_model, adapted, domains, fabric, *, feature_loss=LN2):
    return choose(source_model, adapted, *domains, feature_loss=feature_loss, fabric=fabric)


def test_nothing_speaks_against_a_sound_model(source_model, statistics, domains, fabric):
    choice = chosen(source_model, statistics.copy(), domains, fabric)
    assert choice.name == "ada"
    assert not choice.objections
    assert choice.signs["ada"].taken_for_source == pytest.approx(0.5)
    assert choice.signs["ada"].agreement == choice.signs["target_statistics"].agreement == 1


def test_one_class_for_all_is_collapse(source_model, statistics, domains, fabric):
    collapsed = statistics.copy()
    with torch.no_grad():
        collapsed.classifier.bias[1] += 1000
    choice = chosen(source_model, collapsed, domains, fabric)
    assert choice.name == "target_statistics"
    assert choice.signs["ada"].effective_classes == 1
    assert any("1.0 effective classes" in text for text in choice.objections["ada"])


def test_permuted_classes_are_collapse_though_all_are_used(
    source_model, statistics, domains, fabric
):
    permuted = statistics.copy()
    with torch.no_grad():
        for parameter in permuted.classifier.parameters():
            parameter.copy_(parameter.roll(1, dims=0))
    choice = chosen(source_model, permuted, domains, fabric)
    assert choice.name == "target_statistics"
    used = choice.signs["ada"].effective_classes
    assert used == pytest.approx(choice.signs["target_statistics"].effective_classes)
    assert any("kappa" in text for text in choice.objections["ada"])
    assert any("of source particles right" in text for text in choice.objections["ada"])


def test_the_most_frequent_class_for_all_is_no_source_accuracy(
    source_model, statistics, domains, fabric
):
    """A source thinned to a target's proportions: most of it is of one class."""
    source, target = domains
    others = np.flatnonzero(source.labels != 1)[::6]
    thinned = source.subset(np.sort(np.concatenate([np.flatnonzero(source.labels == 1), others])))
    collapsed = statistics.copy()
    with torch.no_grad():
        collapsed.classifier.bias[1] += 1000
    choice = chosen(source_model, collapsed, (thinned, target), fabric)
    assert choice.signs["ada"].source_accuracy == pytest.approx(1 / 3)
    assert any("of source particles right" in text for text in choice.objections["ada"])


def test_labels_changed_in_vain_are_no_adaptation(source_model, statistics, domains, fabric):
    # As many labels as a shift of the classifier's offsets changes.
    shifted = statistics.copy()
    changed = []
    for offset in (0.25, 0.5, 1.0, 2.0, 4.0):
        with torch.no_grad():
            shifted.classifier.bias[1] += offset
        changed.append(chosen(source_model, shifted, domains, fabric, feature_loss=1.75))
    in_between = [c for c in changed if 0.1 < c.signs["ada"].agreement < 0.7]
    assert in_between
    for choice in in_between:
        assert any("0.17, 0.5 if alike" in text for text in choice.objections["ada"])


def test_an_unfinished_adaptation_that_changed_nothing_is_used(
    source_model, statistics, domains, fabric
):
    choice = chosen(source_model, statistics.copy(), domains, fabric, feature_loss=1.75)
    assert choice.name == "ada"


def test_source_model_is_used_where_statistics_fail_too(source_model, domains, fabric, monkeypatch):
    source, target = domains
    broken = source_model.copy(method="target_statistics")
    with torch.no_grad():
        broken.classifier.weight.zero_()

    def fit(self, source, target):
        return Adaptation(broken)

    monkeypatch.setattr(TargetStatistics, "fit", fit)
    choice = choose(source_model, broken, source, target, feature_loss=LN2, fabric=fabric)
    assert choice.name == "source_only"
    assert set(choice.objections) == {"ada", "target_statistics"}
    assert choice.model is source_model


def test_learning_rate_times_100_falls_back(source_model, domains, fabric):
    recipe = {"epochs": 3, "batch_size": 8}
    sane = AdversarialAdaptation(source_model, AdversarialOptions(**recipe), fabric).fit(*domains)
    assert sane.warning is None
    rate = DEFAULT_RECIPE.learning_rate * 100
    options = AdversarialOptions(learning_rate=rate, **recipe)
    result = AdversarialAdaptation(source_model, options, fabric).fit(*domains)
    assert result.warning is not None
    guard = result.model.card.training["guard"]
    assert guard["chosen"] != "ada"
    assert guard["objections"]["ada"]
    safe = {
        "target_statistics": TargetStatistics(source_model, fabric).fit(*domains).model,
        "source_only": source_model,
    }[guard["chosen"]]
    expected = predict(safe, domains[1], fabric=fabric).labels
    assert (predict(result.model, domains[1], fabric=fabric).labels == expected).all()


def test_record_is_plain_data_with_every_sign(source_model, statistics, domains, fabric):
    choice = chosen(source_model, statistics.copy(), domains, fabric)
    record = choice.record()
    names = {field.name for field in dataclasses.fields(choice.signs["ada"])}
    assert set(record["signs"]) == {"ada", "target_statistics", "source_only"}
    assert all(set(signs) == names for signs in record["signs"].values())
