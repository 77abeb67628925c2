"""Every method by its name: made with its own options, and the source model left as it was."""

from __future__ import annotations

import pytest
import torch

from tomadapt.learn.adversarial import PAPER_RECIPE, AdversarialAdaptation
from tomadapt.learn.catalogue import METHODS, default_options, with_seed
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.statistics import norm_layers, re_estimate_statistics


@pytest.fixture(scope="module")
def model(make_domain, fabric) -> Model:
    data = make_domain(8)
    torch.manual_seed(0)
    card = ModelCard(
        class_names=data.class_names,
        box=data.box,
        voxel_size_A=data.voxel_size_A,
        network="default",
        acquisition=None,
    )
    model = Model.new(card)
    re_estimate_statistics(model.extractor, data, fabric)  # the source's, as training leaves them
    return model


def test_names():
    assert list(METHODS) == [
        "source_only", "target_statistics", "partial_statistics", "ie", "sc",
        "ie_target_statistics", "sc_target_statistics", "ada", "most_consistent",
        "ada_paper_recipe",
    ]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_each_fits_and_leaves_the_source_model_alone(name, model, make_domain, fabric):
    source, target = make_domain(8), make_domain(8, seed=1, scale=1.3).unlabelled()
    options = default_options(name, seed=3)
    if hasattr(options, "epochs"):
        options = options.model_copy(update={"epochs": 1, "batch_size": 8})
    before = model.fingerprint
    adapted = METHODS[name](model, options, fabric).fit(source, target).model
    assert model.fingerprint == before
    assert adapted.card.class_names == model.card.class_names
    own = {k for k, v in model.state().items() if not torch.equal(v, adapted.state()[k])}
    keeps_statistics = name in ("source_only", "ie", "sc", "ada_paper_recipe")
    if name not in ("partial_statistics", "most_consistent"):  # which may keep the source's
        assert any("running_mean" in k for k in own) != keeps_statistics
    assert any(k.startswith("classifier") for k in own) == name.startswith(("ie", "sc"))


def test_target_statistics_are_those_of_the_target(model, make_domain, fabric):
    source, target = make_domain(8), make_domain(8, seed=1, scale=1.3).unlabelled()
    options = default_options("sc_target_statistics", seed=0)
    one = METHODS["sc_target_statistics"](model, options, fabric).fit(source, target).model
    other = METHODS["target_statistics"](model, None, fabric).fit(source, target).model
    for a, b in zip(norm_layers(one.extractor), norm_layers(other.extractor), strict=True):
        assert torch.equal(a.running_mean, b.running_mean)


def test_options():
    assert default_options("source_only", seed=1) is None
    assert default_options("ie", seed=5).seed == 5
    assert default_options("ada_paper_recipe", seed=2) == with_seed(PAPER_RECIPE, 2)
    assert default_options("sc", seed=1) == default_options("sc", seed=2)  # it draws nothing
    assert default_options("sc_target_statistics", seed=0).statistics == "target"


def test_the_literal_recipe_does_not_fall_back(model, fabric):
    literal = METHODS["ada_paper_recipe"](model, default_options("ada", seed=0), fabric)
    default = METHODS["ada"](model, default_options("ada", seed=0), fabric)
    assert isinstance(literal, AdversarialAdaptation)
    assert isinstance(default, AdversarialAdaptation)
    assert (literal.fall_back, default.fall_back) == (False, True)
