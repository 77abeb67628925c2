"""A sign of a model's fitness that needs no labels, and what is chosen by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tomadapt.learn.consistency import consistency, mutual_information
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.learn.statistics import (
    TARGET_SHARES,
    PartialStatistics,
    TargetStatistics,
    blended,
    norm_layers,
)
from tomadapt.metrics import accuracy


class TestMutualInformation:
    def test_of_answers_that_agree_it_is_their_entropy(self):
        share = np.array([0.5, 0.3, 0.2])
        assert mutual_information(np.diag(100 * share)) == pytest.approx(
            -(share * np.log(share)).sum()
        )

    def test_of_unrelated_answers_it_is_nothing(self):
        assert mutual_information(np.outer([0.5, 0.5], [0.5, 0.5])) == pytest.approx(0, abs=1e-9)

    def test_of_one_answer_it_is_nothing(self):
        assert mutual_information(np.diag([1.0, 0.0, 0.0])) == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module")
def source_model(make_domain, fabric):
    options = SourceTraining(epochs=20, batch_size=16, seed=1)
    return train_source(make_domain(30, seed=0), options, fabric=fabric)[0]


def test_a_collapsed_model_says_nothing(source_model, make_domain, fabric):
    target = make_domain(12, seed=3).unlabelled()
    collapsed = source_model.copy()
    with torch.no_grad():
        collapsed.classifier.weight.zero_()
        collapsed.classifier.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    assert consistency(collapsed, target, fabric=fabric) < 0.02
    assert consistency(source_model, target, fabric=fabric) > 0.4


def test_it_is_the_same_again(source_model, make_domain, fabric):
    target = make_domain(6, seed=3).unlabelled()
    once, again = (consistency(source_model, target, fabric=fabric) for _ in range(2))
    assert once == again


class TestBlended:
    def test_the_ends_and_the_middle(self, source_model, make_domain, fabric):
        source, target = make_domain(12, seed=0), make_domain(12, seed=4, noise=3.0)
        whole = TargetStatistics(source_model, fabric).fit(source, target.unlabelled()).model
        models = {share: blended(source_model, whole, share) for share in (0.0, 0.5, 1.0)}
        layers = {k: norm_layers(m.extractor)[3].running_var for k, m in models.items()}
        torch.testing.assert_close(layers[0.0], norm_layers(source_model.extractor)[3].running_var)
        torch.testing.assert_close(layers[1.0], norm_layers(whole.extractor)[3].running_var)
        torch.testing.assert_close(layers[0.5], (layers[0.0] + layers[1.0]) / 2)

    def test_the_models_stay_as_they_were(self, source_model, make_domain, fabric):
        before = source_model.fingerprint
        whole = source_model.copy()
        blended(source_model, whole, 0.5)
        assert source_model.fingerprint == before


class TestPartialStatistics:
    def test_a_target_of_other_proportions(self, source_model, make_domain, fabric):
        """Whole statistics of a target that is nearly all noise destroy a good model."""
        source = make_domain(12, seed=0)
        target = make_domain(40, seed=6)
        rows = np.concatenate([np.arange(40), [45, 46, 90, 91]])
        target = target.subset(rows)
        right = {}
        for method in (TargetStatistics, PartialStatistics):
            model = method(source_model, fabric).fit(source, target.unlabelled()).model
            found = predict(model, target, fabric=fabric).labels
            right[method] = accuracy(found, target.labels)
        before = accuracy(predict(source_model, target, fabric=fabric).labels, target.labels)
        assert right[PartialStatistics] >= before - 0.03
        assert right[PartialStatistics] > right[TargetStatistics] + 0.1

    def test_the_card_says_what_was_tried(self, source_model, make_domain, fabric):
        source, target = make_domain(6, seed=0), make_domain(6, seed=4)
        model = PartialStatistics(source_model, fabric).fit(source, target.unlabelled()).model
        said = model.card.training["adaptation"]
        assert set(said["consistency"]) == {f"{share:g}" for share in TARGET_SHARES}
        assert said["consistency"][f"{said['share']:g}"] == max(said["consistency"].values())
        assert model.card.method == "partial_statistics"
