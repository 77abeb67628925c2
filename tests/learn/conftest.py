"""Small labelled particles in two domains, made of blobs rather than simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.learn.engine import make_fabric

MakeDomain = Callable[..., LabelledSubtomograms]


@pytest.fixture(scope="session")
def fabric():
    torch.set_num_threads(1)
    return make_fabric("cpu")


@pytest.fixture(scope="session")
def make_domain() -> MakeDomain:
    """Two classes (one blob, two blobs) and noise; `scale` widens blobs: the domain shift."""

    def make(
        per_class: int = 12, *, box: int = 24, seed: int = 0, noise: float = 0.5, scale: float = 1.0
    ) -> LabelledSubtomograms:
        rng = np.random.default_rng(seed)
        r = np.arange(box) - box // 2
        labels = np.repeat(np.arange(3), per_class)
        cubes = []
        for label in labels:
            cube = rng.normal(scale=noise, size=(box,) * 3)
            for _ in range(label):
                c = rng.uniform(-box / 5, box / 5, 3)
                g = [np.exp(-0.5 * ((r - ci) / (box / 12 * scale)) ** 2) for ci in c]
                cube += 3 * np.einsum("z,y,x->zyx", *g)
            cubes.append(cube)
        source = ArrayVolumes(np.asarray(cubes, np.float32), 10.0)
        return LabelledSubtomograms(source, labels=labels, class_names=("null", "one", "two"))

    return make
