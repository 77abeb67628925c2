"""What a model says of half-turns, one by one and together."""

from __future__ import annotations

import numpy as np
import torch

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.prediction import predict
from tomadapt.learn.turned import over_half_turns, turned_probabilities


def new_model() -> Model:
    torch.manual_seed(0)
    card = ModelCard(
        class_names=("a", "b", "c"), box=24, voxel_size_A=10.0, network="default", acquisition=None
    )
    model = Model.new(card)
    model.extractor.eval()
    return model


def test_particles_as_they_are_have_the_predictions_probabilities(make_domain, fabric):
    data, model = make_domain(3).unlabelled(), new_model()
    still = np.zeros((len(data), 2), dtype=int), np.zeros((len(data), 3), dtype=int)
    found = turned_probabilities(model, data, *still, turns=(True, True), fabric=fabric)
    np.testing.assert_allclose(found, predict(model, data, fabric=fabric).probabilities, atol=1e-6)


def test_half_turns_of_a_particle_are_said_the_same_of(make_domain, fabric):
    """A half-turn about y, which is always allowed, changes each view and not their mean."""
    data, model = make_domain(3).unlabelled(), new_model()

    class Turned:
        def __getattr__(self, name):
            return getattr(data.source, name)

        def __len__(self):
            return len(data.source)

        def read(self, rows):
            # About y both z and x change sign; of an even box voxel 0 stays where it is.
            return torch.roll(data.source.read(rows).flip(1, 3), (1, 1), (1, 3))

    turned = Subtomograms(Turned())
    one = predict(model, data, fabric=fabric).probabilities
    other = predict(model, turned, fabric=fabric).probabilities
    assert np.abs(one - other).max() > 1e-4
    means = [over_half_turns(model, d, fabric=fabric) for d in (data, turned)]
    np.testing.assert_allclose(means[0], means[1], atol=1e-6)
    np.testing.assert_allclose(means[0].sum(axis=1), 1)
