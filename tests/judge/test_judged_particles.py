"""The noise of particles, measured in the particles themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_cubes import BOX, STATED, STRUCTURES, VOXEL_A, Held, measured, planted, wanted, white

from tomadapt.judge.judge import JudgeOptions
from tomadapt.judge.noise import Noise
from tomadapt.judge.particles import EvenCubes, judge_particles, particle_noise

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = white(measured())
EACH, Z = 12, 25.0
NAMES = tuple(STRUCTURES)
TRUE = np.repeat(NAMES, EACH)


def strong_particles() -> torch.Tensor:
    parts = [
        planted(STRUCTURES[name], EACH, NOISE, z=Z, seed=seed).cubes.volumes
        for seed, name in enumerate(NAMES)
    ]
    return torch.cat(parts)


def low(noise: Noise) -> float:
    """Mean power of the lowest shells, over that of the planted noise."""
    shells = (noise.points.shell >= 2) & (noise.points.shell <= 4)
    return float((noise.power / NOISE.power)[shells].mean())


def test_particles_do_not_count_as_noise() -> None:
    cubes = Held(strong_particles())
    with_particles = low(Noise.of(cubes, NOISE.points))
    _, noise = particle_noise(
        cubes, wanted(), NOISE.points, voxel_size_A=VOXEL_A, reach_voxels=BOX / 16
    )
    # What particles add to the noise's power.
    assert with_particles - 1 > 4
    assert low(noise) - 1 < (with_particles - 1) / 8
    high = noise.points.shell > noise.points.shell.max() // 2
    assert float((noise.power / NOISE.power)[high].mean()) == pytest.approx(1, abs=0.05)


def test_cubes_of_any_scale_get_the_same_noise() -> None:
    scales = torch.linspace(0.2, 5, len(TRUE))
    cubes = Held(strong_particles() * scales[:, None, None, None])
    even = EvenCubes.of(cubes, Noise.of(cubes, NOISE.points))
    assert len(even) == len(cubes)
    evened = (even.factor * scales).numpy()
    assert evened == pytest.approx(np.full(len(cubes), evened.mean()), rel=0.1)
    row = np.array([3])
    torch.testing.assert_close(even.read(row), cubes.read(row) * even.factor[3])


def test_particles_are_named_whatever_their_scale() -> None:
    scales = torch.linspace(0.2, 5, len(TRUE))
    found = judge_particles(
        Held(strong_particles() * scales[:, None, None, None]),
        wanted(),
        NOISE.points,
        acquisition=STATED,
        voxel_size_A=VOXEL_A,
        options=JudgeOptions(rivals=False),
    )
    assert [found.wanted[label] for label in found.label] == TRUE.tolist()
    assert (1 - found.score).mean() < 0.02


def test_noise_alone_stays_noise() -> None:
    cubes = Held(NOISE.sample(40, seed=5))
    _, noise = particle_noise(
        cubes, wanted(), NOISE.points, voxel_size_A=VOXEL_A, reach_voxels=BOX / 16
    )
    assert low(noise) == pytest.approx(1, abs=0.3)
