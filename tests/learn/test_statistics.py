from __future__ import annotations

import numpy as np
import pytest
import torch

from tomadapt.learn.engine import evaluation_batches
from tomadapt.learn.method import SourceOnly
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.networks import PaperExtractor
from tomadapt.learn.statistics import TargetStatistics, norm_layers, re_estimate_statistics


def test_first_layer_has_the_targets_mean_and_variance(make_domain, fabric):
    target = make_domain(8, scale=1.5)
    torch.manual_seed(0)
    card = ModelCard(
        class_names=("a",), box=24, voxel_size_A=10.0, network="default", acquisition=None
    )
    model = Model.new(card)
    result = TargetStatistics(model, fabric).fit(target, target.unlabelled()).model
    with torch.inference_mode():
        x = torch.cat(list(evaluation_batches(target, fabric)))
        out = result.extractor.stem[0](x)
    layer = norm_layers(result.extractor)[0]
    torch.testing.assert_close(layer.running_mean, out.mean((0, 2, 3, 4)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer.running_var, out.var((0, 2, 3, 4)), rtol=1e-3, atol=1e-6)
    assert norm_layers(model.extractor)[0].running_mean.abs().max() == 0  # the original is as new
    assert layer.momentum == pytest.approx(0.1)


def test_networks_without_normalisation_are_left_alone(make_domain, fabric):
    network = PaperExtractor(24).train()
    before = [p.clone() for p in network.parameters()]
    re_estimate_statistics(network, make_domain(2), fabric)
    assert network.training
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_source_only_gives_the_source_model_back(make_domain):
    card = ModelCard(
        class_names=("a",), box=24, voxel_size_A=10.0, network="default", acquisition=None
    )
    model = Model.new(card)
    data = make_domain(2)
    assert SourceOnly(model).fit(data, data.unlabelled()).model is model


@pytest.mark.parametrize("n", [64, 65])
def test_statistics_do_not_depend_on_how_the_target_is_sorted(make_domain, fabric, n):
    """Regression: a last batch of one particle counted as much as one of 64."""
    target = make_domain(25, scale=1.5).subset(range(n))
    card = ModelCard(
        class_names=("a",), box=24, voxel_size_A=10.0, network="default", acquisition=None
    )
    torch.manual_seed(0)
    model = Model.new(card)
    orders = [np.arange(n), np.arange(n)[::-1], np.roll(np.arange(n), 7)]
    variances = []
    for order in orders:
        result = TargetStatistics(model, fabric).fit(target, target.subset(order)).model
        variances.append(norm_layers(result.extractor)[-1].running_var)
    for other in variances[1:]:
        torch.testing.assert_close(other, variances[0], rtol=0.15, atol=0)
