"""Particles of several recordings: each is compared with what its own let through."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from planted_cubes import (
    BOX,
    STRUCTURES,
    VOXEL_A,
    Held,
    measured,
    planted,
    wanted,
    white,
)

from tomadapt.errors import ConfigError
from tomadapt.judge.groups import (
    Group,
    Some,
    Transfers,
    groups_of,
    refined_by_group,
    values_by_group,
)
from tomadapt.judge.judge import JudgeOptions, judge
from tomadapt.judge.noise import Noise
from tomadapt.judge.refine import Refined, refine
from tomadapt.recover.fourier import MeasuredPoints

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = white(measured())
N = 12


def other() -> MeasuredPoints:
    """Where the low frequencies hardly come through, and the high ones better."""
    low = NOISE.points.shell < 4
    return replace(NOISE.points, transfer=torch.where(low, 0.1 * NOISE.points.transfer, 1.0))


def test_one_group_where_all_were_recorded_alike() -> None:
    (group,) = groups_of(NOISE, None, 5)
    np.testing.assert_array_equal(group.rows, np.arange(5))
    assert group.noise is NOISE


def test_groups_have_their_transfers_the_largest_first() -> None:
    transfer = torch.stack([NOISE.points.transfer, other().transfer, NOISE.points.transfer])
    groups = groups_of(NOISE, Transfers(np.array([1, 0, 1, 1]), transfer), 4)  # none is of group 2
    assert [g.rows.tolist() for g in groups] == [[0, 2, 3], [1]]
    torch.testing.assert_close(groups[0].noise.points.transfer, other().transfer)
    torch.testing.assert_close(groups[1].noise.points.transfer, NOISE.points.transfer)
    torch.testing.assert_close(groups[1].noise.power, NOISE.power)


def test_values_come_back_in_the_order_of_the_particles() -> None:
    groups = [Group(np.array([4, 0, 2]), NOISE), Group(np.array([3, 1]), NOISE)]
    np.testing.assert_array_equal(
        values_by_group(groups, lambda g: 10.0 * g.rows), np.arange(5) * 10
    )


def test_some_cubes() -> None:
    cubes = Held(torch.arange(5.0)[:, None, None, None].expand(-1, 2, 2, 2))
    some = Some(cubes, np.array([3, 1]))
    assert len(some) == 2
    assert some.read([1, 0])[:, 0, 0, 0].tolist() == [1.0, 3.0]


def test_transfers_of_other_particles_are_refused() -> None:
    transfer = NOISE.points.transfer.expand(2, -1)
    with pytest.raises(ConfigError, match="not described"):
        Transfers(np.array([0, 2]), transfer)
    with pytest.raises(ConfigError, match="of other particles"):
        groups_of(NOISE, Transfers(np.array([0, 1]), transfer), 3)


def test_noise_counts_those_that_measured_a_point() -> None:
    """One cube in four saw the high frequencies; there the others have nothing."""
    cubes = NOISE.sample(80, seed=9)
    wide = np.arange(80) % 4 == 0
    low = NOISE.points.shell < 6
    x = NOISE.points.transforms(cubes)
    x[~wide] *= low
    measured = low.expand(80, -1) | torch.from_numpy(wide)[:, None]
    found = Noise.of(Held(NOISE.points.volumes(x)), NOISE.points, measured=measured.__getitem__)
    high = NOISE.points.shell > 7  # farther than smoothing reaches
    ratio = found.power[high].mean() / NOISE.power[high].mean()
    assert float(ratio) == pytest.approx(1.0, abs=0.15)
    assert float(Noise.of(Held(NOISE.points.volumes(x)), NOISE.points).power[high].mean()) < float(
        0.4 * NOISE.power[high].mean()
    )


def test_regression_what_noise_has_is_counted_where_a_recording_measured() -> None:
    """Its energy was held against all points of all recordings: gold had to be 20 % stronger."""
    low = NOISE.points.shell < 6
    seen = NOISE.points.transfer.abs().clamp_min(1e-3)
    transfers = Transfers(np.repeat([0, 1], 40), torch.stack([seen, seen * low]))
    x = NOISE.points.transforms(NOISE.sample(80, seed=4))
    x[40:] *= low
    cubes = Held(NOISE.points.volumes(x))
    none = np.zeros((80, 1), dtype=bool)
    some = SimpleNamespace(rotations=np.zeros((80, 1, 1, 3, 3)), shifts=np.zeros((80, 1, 1, 3)))

    def energies(group: Group) -> Refined:
        empty: Any = SimpleNamespace(
            rotations=some.rotations[group.rows], shifts=some.shifts[group.rows]
        )
        return refine(
            group.of(cubes), empty, none[group.rows], [], group.noise, shell=4, reach_voxels=1
        )

    found = refined_by_group(groups_of(NOISE, transfers, 80), energies)
    ratio = found.energy / found.freedom
    # The way to cubes and back costs either a tenth.
    assert ratio[:40].mean() == pytest.approx(0.9, abs=0.05)
    assert ratio[40:].mean() == pytest.approx(ratio[:40].mean(), rel=0.1)
    assert found.freedom[40:].max() < 0.6 * found.freedom[0]


class TestTwoRecordings:
    def cubes(self) -> torch.Tensor:
        usual = planted(STRUCTURES["beta"], N, NOISE, z=20.0, seed=1)
        others = planted(STRUCTURES["beta"], N, NOISE, z=20.0, seed=2, points=other())
        mixed = torch.stack([usual.cubes.volumes, others.cubes.volumes], dim=1).flatten(0, 1)
        return torch.cat([mixed, NOISE.sample(6, seed=3)])  # usual, other, usual, …, noise

    def evidence(self, transfers: Transfers | None) -> np.ndarray:
        """(N, 2) of the usual and the other particles."""
        found = judge(
            Held(self.cubes()),
            wanted("beta", "gamma"),
            NOISE,
            acquisition=None,
            voxel_size_A=VOXEL_A,
            transfers=transfers,
            options=JudgeOptions(rivals=False),
        )
        assert (found.label[-6:] == -1).all()
        nothing = np.where(np.isfinite(found.evidence), found.evidence, 0.0)
        return nothing[: 2 * N, 0].reshape(N, 2)

    def test_each_is_compared_with_its_own(self) -> None:
        group = np.array([0, 1] * N + [0] * 6)
        known = Transfers(group, torch.stack([NOISE.points.transfer, other().transfer]))
        usual, others = self.evidence(known).T
        assert np.median(others) == pytest.approx(np.median(usual), rel=0.3)
        _, wrong = self.evidence(None).T
        assert np.median(others) > 1.3 * np.median(wrong)

    def test_groups_do_not_change_what_is_alike(self) -> None:
        """Two groups of the same transfer are one."""
        cubes = self.cubes()[[0, 2, 4, 6, 8, 10, -1, -2]]
        same = Transfers(np.array([0, 1] * 4), NOISE.points.transfer.expand(2, -1))
        found = [
            judge(
                Held(cubes),
                wanted("beta", "gamma"),
                NOISE,
                acquisition=None,
                voxel_size_A=VOXEL_A,
                transfers=transfers,
                options=JudgeOptions(rivals=False),
            )
            for transfers in (None, same)
        ]
        np.testing.assert_array_equal(found[0].label, found[1].label)
        finite = np.isfinite(found[0].evidence)
        np.testing.assert_array_equal(finite, np.isfinite(found[1].evidence))
        np.testing.assert_allclose(found[0].evidence[finite], found[1].evidence[finite], atol=0.05)


class TestPointsOfATransfer:
    def half(self, n: int) -> np.ndarray:
        """An even function of k that differs along the axes, [kz, ky, kx ≥ 0]."""
        k = np.fft.fftfreq(n, 1 / n)
        z, y, x = np.meshgrid(k, k, np.arange(n // 2 + 1), indexing="ij")
        return (1 + np.cos(z / 3 + y / 5 + x / 7) ** 2 + 0.01 * np.abs(x)).astype(np.float32)

    @pytest.mark.parametrize("n", [BOX, BOX - 1])
    def test_values_are_those_of_the_function(self, n: int) -> None:
        points = MeasuredPoints.of_transfer(self.half(n))
        x, y, z = (points.k * n).numpy().T
        expected = 1 + np.cos(z / 3 + y / 5 + x / 7) ** 2 + 0.01 * np.abs(x)
        np.testing.assert_allclose(points.transfer.numpy(), expected, rtol=1e-4)
        np.testing.assert_allclose(
            points.values_of(2 * self.half(n)).numpy(), 2 * expected, rtol=1e-4
        )

    def test_where_nothing_was_let_through_is_no_point(self) -> None:
        half = self.half(BOX)
        full = MeasuredPoints.of_transfer(half)
        half[:, 0] = 0  # ky = 0
        without = MeasuredPoints.of_transfer(half)
        assert (without.k[:, 1] != 0).all()
        assert len(without.k) == int((full.k[:, 1] != 0).sum())
