from __future__ import annotations

import itertools

import pytest
import torch

from tomadapt.learn.networks import (
    EXTRACTORS,
    PaperExtractor,
    classifier,
    discriminator,
    lecun_normal,
)


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("box", [24, 28, 33, 36, 40, 64])
def test_every_box_gives_features(name, box):
    extractor = EXTRACTORS[name](box).eval()
    with torch.inference_mode():
        features = extractor(torch.randn(2, 1, box, box, box))
    assert features.shape == (2, extractor.n_features)
    assert torch.isfinite(features).all()
    assert (features[0] != features[1]).any()


def test_paper_network_has_the_layers_of_figure_2():
    network = PaperExtractor(40)
    shapes = [tuple(m.weight.shape) for m in network.modules() if hasattr(m, "weight")]
    assert shapes == [
        (8, 1, 5, 5, 5),
        (16, 8, 5, 5, 5),
        (32, 16, 4, 4, 4),
        (64, 32, 4, 4, 4),
        (128, 64, 3, 3, 3),
        (128, 128, 3, 3, 3),
        (128, 128, 1, 1, 1),
        (256, 128, 1, 1, 1),
        (500, 256),
    ]


def test_paper_network_sizes_at_40():
    sizes = [40]
    network = PaperExtractor(40)
    for layer in network.convolutions:
        layer.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[-1]))
    network(torch.randn(1, 1, 40, 40, 40))
    changes = [b for a, b in itertools.pairwise(sizes) if a != b]
    assert changes == [36, 32, 16, 13, 10, 5, 3, 1]


def test_small_boxes_are_padded_about_their_centre():
    network = PaperExtractor(28).eval()
    x = torch.randn(1, 1, 28, 28, 28)
    at_40 = torch.zeros(1, 1, 40, 40, 40)
    at_40[..., 6:34, 6:34, 6:34] = x  # 28 // 2 = 14 lands on 40 // 2 = 20
    with torch.inference_mode():
        assert torch.equal(network(x), network.dropout(network.full(network.convolutions(at_40))))


def test_lecun_normal_keeps_the_variance():
    torch.manual_seed(0)
    layer = torch.nn.Linear(1000, 1000)
    lecun_normal(layer)
    out = layer(torch.randn(200, 1000))
    assert out.std().item() == pytest.approx(1.0, rel=0.02)
    assert (layer.bias == 0).all()


def test_classifier_and_discriminator_shapes():
    features = torch.randn(5, 128)
    assert classifier(128, 23)(features).shape == (5, 23)
    d = discriminator(128)
    assert d(features).shape == (5, 2)
    assert [m.negative_slope for m in d if isinstance(m, torch.nn.LeakyReLU)] == [0.2, 0.2]
