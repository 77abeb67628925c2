"""A defocus that is stated wrong is found from the particles themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_cubes import BOX, STATED, STRUCTURES, VOXEL_A, balls, measured, planted, white

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.judge.acquisition import estimated_acquisition
from tomadapt.judge.rivals import Hypothesis

pytestmark = pytest.mark.usefixtures("one_thread")
SHARP = {
    name: tuple((*(0.6 * c for c in parts[:3]), 1.0, parts[4]) for parts in STRUCTURES[name])
    for name in ("alpha", "gamma")
}


TRUE = STATED.model_copy(update={"defocus_um": 9.0})
"""In voxels of 16 Å its CTF has zeros below the Nyquist frequency; that of 4 µm has none."""


@pytest.fixture(scope="module")
def cubes() -> Subtomograms:
    noise = white(measured())
    parts = [
        planted(SHARP[name], 16, noise, z=30.0, seed=seed, points=measured(TRUE)).cubes.volumes
        for seed, name in enumerate(SHARP)
    ]
    return Subtomograms(ArrayVolumes(torch.cat(parts).numpy(), VOXEL_A))


def wanted() -> list[Hypothesis]:
    return [Hypothesis(name, "wanted", balls(parts, box=BOX)) for name, parts in SHARP.items()]


def test_it_goes_to_the_true_defocus(cubes: Subtomograms) -> None:
    wrong = TRUE.model_copy(update={"defocus_um": 11.0})
    found = estimated_acquisition(cubes, wanted(), wrong)
    assert found.defocus_um == pytest.approx(TRUE.defocus_um, abs=0.75)
    assert found.model_copy(update={"defocus_um": 11.0}) == wrong


def test_a_true_one_stays(cubes: Subtomograms) -> None:
    assert estimated_acquisition(cubes, wanted(), TRUE).defocus_um == pytest.approx(9, abs=0.75)


def test_noise_alone_changes_nothing() -> None:
    noise = np.random.default_rng(0).normal(size=(24, BOX, BOX, BOX)).astype(np.float32)
    cubes = Subtomograms(ArrayVolumes(noise, VOXEL_A))
    assert estimated_acquisition(cubes, wanted(), STATED) == STATED
