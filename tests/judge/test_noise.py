"""The noise of cubes: its power is measured as it was made, whatever its direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_cubes import BOX, Held, measured, white

from tomadapt.data.subtomograms import Indices
from tomadapt.judge.noise import Noise, smoothed, window
from tomadapt.recover.fourier import MeasuredPoints

POINTS = measured()


def white_cubes(count: int, sigma: float, *, box: int = BOX, seed: int = 0) -> Held:
    draws = np.random.default_rng(seed).normal(scale=sigma, size=(count, box, box, box))
    return Held(torch.from_numpy(draws.astype(np.float32)))


def uneven() -> Noise:
    """Twenty times stronger along the tilt axis than across it."""
    along = POINTS.k[:, 1].square() / POINTS.k.square().sum(dim=1)
    return Noise(POINTS, (0.1 + 1.9 * along.square()) * BOX**3, window(BOX))


@pytest.mark.parametrize("n", [20, 21])
def test_the_window_is_a_ball(n: int) -> None:
    shape = window(n)
    middle = n // 2
    assert shape[middle, middle, middle] == 1
    assert shape[0, 0, 0] == 0
    assert ((shape >= 0) & (shape <= 1)).all()
    torch.testing.assert_close(shape, shape.permute(2, 0, 1))
    line = shape[middle, middle, middle:]
    assert (line.diff() <= 1e-6).all()
    # Half of the way down at 2 voxels from the faces.
    assert line[round((n - 1) / 2 - 2)] == pytest.approx(0.5, abs=0.25)


def test_regression_gold_in_a_few_cubes_does_not_raise_the_noise() -> None:
    cubes = white_cubes(60, 1.0).volumes
    cubes[::8, 8:12, 8:12, 8:12] += 60.0
    relative = Noise.of(Held(cubes), POINTS).power.numpy() / BOX**3
    # Without a limit the mean at low frequencies would be above 100.
    assert relative.mean() == pytest.approx(1.0, abs=0.05)
    assert relative.max() < 2


@pytest.mark.parametrize("scatter", [0.0, 0.2, 0.4])
def test_regression_cubes_that_differ_in_noise_are_no_outliers(scatter: float) -> None:
    scales = np.exp(np.random.default_rng(1).normal(scale=scatter, size=200)).astype(np.float32)
    cubes = white_cubes(200, 1.0).volumes * torch.from_numpy(scales)[:, None, None, None]
    relative = Noise.of(Held(cubes), POINTS).power / BOX**3 / float(np.square(scales).mean())
    whole = float(relative[POINTS.shell >= 3].mean())
    assert whole == pytest.approx(1.0, abs=0.03 if scatter < 0.3 else 0.12)


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_white_noise_has_its_variance_at_each_point(sigma: float) -> None:
    noise = Noise.of(white_cubes(60, sigma), POINTS)
    relative = noise.power.numpy() / (sigma**2 * BOX**3)
    assert relative.mean() == pytest.approx(1.0, abs=0.03)
    assert np.abs(relative - 1).max() < 0.3


def test_the_power_of_an_odd_box() -> None:
    noise = Noise.of(white_cubes(40, 2.0, box=21), measured(box=21))
    assert float(noise.power.mean()) == pytest.approx(4 * 21**3, rel=0.03)


def test_a_constant_is_no_noise() -> None:
    cubes = white_cubes(20, 1.0)
    lifted = Held(cubes.volumes + 50.0)
    torch.testing.assert_close(
        Noise.of(cubes, POINTS).power, Noise.of(lifted, POINTS).power, rtol=1e-3, atol=1.0
    )


def test_the_window_keeps_its_mean_square() -> None:
    noise = white(POINTS)
    assert noise.kept == pytest.approx(float(window(BOX).square().mean()))
    x = noise.transforms(white_cubes(60, 1.0).volumes)
    energy = x.abs().square() @ noise.weight
    assert float(energy.mean()) == pytest.approx(noise.freedom(POINTS), rel=0.03)


def test_samples_have_the_power_they_were_drawn_from() -> None:
    planted = uneven()
    found = Noise.of(Held(planted.sample(150, seed=4)), POINTS)
    ratio = (found.power / planted.power).numpy()
    # The window mixes neighbours: nothing comes from the wedge, and far from the origin others are
    # alike.
    far = POINTS.shell.numpy() >= 4
    assert np.median(ratio[far]) == pytest.approx(1.0, abs=0.08)
    assert 0.5 < ratio[far].min() < ratio[far].max() < 1.8
    assert np.corrcoef(found.power[far].log(), planted.power[far].log())[0, 1] > 0.97


def test_samples_are_cubes_with_axes_z_y_x() -> None:
    """Noise that is strong along y changes most along y."""
    cubes = uneven().sample(10, seed=0).numpy()
    steps = [np.diff(cubes, axis=axis).var() for axis in (1, 2, 3)]
    assert steps[1] > 1.5 * steps[0]
    assert steps[1] > 1.5 * steps[2]


def test_samples_are_drawn_by_seed() -> None:
    noise = white(POINTS)
    torch.testing.assert_close(noise.sample(2, seed=1), noise.sample(2, seed=1))
    assert not torch.allclose(noise.sample(1, seed=1), noise.sample(1, seed=2))
    assert noise.sample(3, seed=1).shape == (3, BOX, BOX, BOX)


@pytest.mark.parametrize("points", [POINTS, MeasuredPoints.everywhere(15)])
def test_smoothing_leaves_a_constant(points: MeasuredPoints) -> None:
    got = smoothed(points, np.full(len(points.index), 7.0, np.float32))
    np.testing.assert_allclose(got, 7.0, rtol=1e-5)


def test_smoothing_evens_out() -> None:
    rough = np.random.default_rng(0).chisquare(2, size=len(POINTS.index)).astype(np.float32)
    even = smoothed(POINTS, rough)
    assert even.std() < 0.4 * rough.std()
    assert even.mean() == pytest.approx(rough.mean(), rel=0.05)


def test_smoothing_goes_over_neighbours_across_the_origin() -> None:
    """Points are stored unshifted: the neighbour of kz = −1 is kz = 0, not what lies beside it."""
    values = np.exp(-POINTS.k.square().sum(dim=1).numpy() / (2 * 0.25**2)).astype(np.float32)
    np.testing.assert_allclose(smoothed(POINTS, values), values, atol=0.1)


@pytest.mark.parametrize("shell", [3, 6])
def test_up_to_a_shell(shell: int) -> None:
    noise = uneven()
    low = noise.up_to(shell)
    inside = POINTS.shell <= shell
    torch.testing.assert_close(low.power, noise.power[inside])
    assert int(low.points.shell.max()) == shell
    assert noise.freedom(low.points) < noise.freedom(POINTS)
    x = noise.transforms(noise.sample(1, seed=0))
    torch.testing.assert_close(low.transforms(noise.sample(1, seed=0)), x[:, inside])


def test_a_point_without_power_does_not_weigh_infinitely() -> None:
    power = torch.full((len(POINTS.index),), 100.0)
    power[POINTS.shell < 6] = 0.0
    weight = Noise.from_power(power, POINTS).weight
    assert torch.isfinite(weight).all()


def test_no_more_cubes_are_read_than_asked_for() -> None:
    read: list[int] = []

    class Counted(Held):
        def read(self, indices: Indices) -> torch.Tensor:
            read.extend(np.asarray(indices).tolist())
            return super().read(indices)

    Noise.of(Counted(white_cubes(50, 1.0).volumes), POINTS, at_most=11)
    assert len(set(read)) == 11
    assert (read[0], read[-1]) == (0, 49)
    assert max(np.diff(sorted(set(read)))) <= 5
