"""Of several adaptations the most consistent is used."""

from __future__ import annotations

import pytest
import torch

from tomadapt.learn import most_consistent
from tomadapt.learn.adversarial import AdversarialOptions
from tomadapt.learn.method import Adaptation
from tomadapt.learn.most_consistent import MostConsistent
from tomadapt.learn.source import SourceTraining, train_source


@pytest.fixture(scope="module")
def source_model(make_domain, fabric):
    options = SourceTraining(epochs=20, batch_size=16, seed=1)
    return train_source(make_domain(30, seed=0), options, fabric=fabric)[0]


def collapsed(model):
    twin = model.copy(method="ada")
    with torch.no_grad():
        twin.classifier.weight.zero_()
    return twin


@pytest.mark.parametrize(("good", "chosen"), [(False, "partial_statistics"), (True, "ada")])
def test_which_is_used(source_model, make_domain, fabric, monkeypatch, good, chosen):
    """A collapsed adaptation is not; its warning goes with it."""
    source, target = make_domain(8, seed=0), make_domain(12, seed=3).unlabelled()
    adapted = source_model.copy(method="ada") if good else collapsed(source_model)
    monkeypatch.setattr(
        most_consistent.AdversarialAdaptation,
        "fit",
        lambda self, *_args, **_options: Adaptation(adapted, [], "it may be wrong"),
    )
    if good:
        partial = Adaptation(collapsed(source_model).copy(method="partial_statistics"))
        monkeypatch.setattr(
            most_consistent.PartialStatistics, "fit", lambda self, *_args, **_options: partial
        )
    found = MostConsistent(source_model, AdversarialOptions(epochs=1), fabric).fit(source, target)
    said = found.model.card.training["most_consistent"]
    assert said["chosen"] == chosen
    assert said["consistency"][chosen] == max(said["consistency"].values())
    assert found.warning == ("it may be wrong" if chosen == "ada" else None)
    assert found.model.card.method == "most_consistent"
