"""The noise of particles, measured in the particles themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_cubes import BOX, STATED, STRUCTURES, VOXEL_A, Held, measured, planted, wanted, white

from tomadapt.judge.judge import JudgeOptions
from tomadapt.judge.noise import Noise
from tomadapt.judge.particles import EvenCubes, judge_particles, noise_share, particle_noise

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


def residual_noise(cubes: Held) -> Noise:
    first = Noise.of(cubes, NOISE.points)
    return particle_noise(cubes, wanted(), first, voxel_size_A=VOXEL_A, reach_voxels=BOX / 16)[1]


def test_particles_do_not_count_as_noise() -> None:
    cubes = Held(strong_particles())
    with_particles = low(Noise.of(cubes, NOISE.points))
    noise = residual_noise(cubes)
    # What particles add to the noise's power.
    assert with_particles - 1 > 4
    assert low(noise) - 1 < (with_particles - 1) / 8
    high = noise.points.shell > noise.points.shell.max() // 2
    assert float((noise.power / NOISE.power)[high].mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["particles", "none"])
def test_the_share_of_noise_in_the_power_of_whole_cubes(name: str) -> None:
    """Against noise that was planted: particles lie inside the window, and noise everywhere."""
    cubes = Held(strong_particles() if name == "particles" else NOISE.sample(len(TRUE), seed=3))
    first = Noise.of(cubes, NOISE.points)
    even, noise = particle_noise(
        cubes, wanted(), first, voxel_size_A=VOXEL_A, reach_voxels=BOX / 16
    )
    share = noise_share(even, noise)
    assert share.shape == (BOX // 2 + 1,)
    shell = NOISE.points.shell
    whole = NOISE.points.transforms(even.read(np.arange(len(even)))).abs().square().mean(dim=0)
    own = float(even.factor.square().mean())  # of the planted noise, in cubes of this scale
    ratio = [
        share[k] * float(whole[shell == k].mean()) / (own * float(NOISE.power[shell == k].mean()))
        for k in range(4, BOX // 2 - 1)
    ]
    assert np.array(ratio) == pytest.approx(np.ones(len(ratio)), abs=0.35)
    if name == "particles":
        assert share[2:5].mean() < 0.7


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
    scaled = Held(strong_particles() * scales[:, None, None, None])
    found = judge_particles(
        scaled,
        wanted(),
        Noise.of(scaled, NOISE.points),
        acquisition=STATED,
        voxel_size_A=VOXEL_A,
        options=JudgeOptions(rivals=False),
    )
    assert [found.wanted[label] for label in found.label] == TRUE.tolist()
    assert (1 - found.score).mean() < 0.02


@pytest.mark.parametrize("scatter", [0.0, 0.3])
def test_noise_alone_stays_noise(scatter: float) -> None:
    """Subtracting the best pose in pure noise takes next to nothing away."""
    scales = np.exp(np.random.default_rng(6).normal(scale=scatter, size=80)).astype(np.float32)
    drawn = NOISE.sample(80, seed=5)
    as_drawn = Noise.of(Held(drawn), NOISE.points)
    noise = residual_noise(Held(drawn * torch.from_numpy(scales)[:, None, None, None]))
    ratio = (noise.power / as_drawn.power).numpy()
    assert ratio.mean() == pytest.approx(1, abs=0.05)  # the scatter is undone
    for shells in ((2, 4), (5, 9)):
        here = (noise.points.shell >= shells[0]) & (noise.points.shell <= shells[1])
        assert ratio[here].mean() / ratio.mean() == pytest.approx(1, abs=0.04)


def test_regression_gold_with_sharp_edges_does_not_set_its_cubes_scale() -> None:
    """The mean power of its cube is 60 times that of noise, even in the highest shells."""
    volumes = NOISE.sample(40, seed=7)
    gold = np.arange(0, 40, 8)
    volumes[gold, 10:14, 10:14, 10:14] += 60.0
    cubes = Held(volumes)
    even = EvenCubes.of(cubes, Noise.of(cubes, NOISE.points))
    others = np.delete(np.arange(40), gold)
    usual = even.factor[others].median()
    assert even.factor[others].numpy() == pytest.approx(np.full(35, usual), rel=0.1)
    assert even.factor[gold].min() > 0.18 * usual  # by the mean it was 0.12


def test_regression_a_blank_cube_stays_blank() -> None:
    volumes = NOISE.sample(20, seed=8)
    volumes[3] = 0.0
    volumes[4] *= 1e-4  # nearly blank
    cubes = Held(volumes)
    even = EvenCubes.of(cubes, Noise.of(cubes, NOISE.points))
    assert even.factor[[3, 4]].tolist() == [1.0, 1.0]
    assert torch.isfinite(even.factor).all()


def test_regression_low_passed_cubes_are_scaled_by_their_noise() -> None:
    """Beyond the cut there is nothing but what the window smears."""
    white_noise = NOISE.sample(30, seed=9)
    n = BOX
    k = torch.cartesian_prod(torch.fft.fftfreq(n), torch.fft.fftfreq(n), torch.fft.rfftfreq(n))
    passed = (k.norm(dim=1) < 0.2).reshape(n, n, n // 2 + 1)
    volumes = torch.fft.irfftn(torch.fft.rfftn(white_noise, dim=(1, 2, 3)) * passed, s=(n, n, n))
    volumes[::5, 6:18, 6:18, 6:18] += 0.5  # edges reach beyond the cut
    cubes = Held(volumes)
    even = EvenCubes.of(cubes, Noise.of(cubes, NOISE.points))
    assert even.factor.numpy() == pytest.approx(np.full(30, even.factor.median()), rel=0.5)
