"""Grids of rotations and point groups."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError
from tomadapt.recover.rotations import angular_distance_deg, rotation_grid, symmetry_group


def test_no_rotation_is_far_from_the_grid():
    grid = rotation_grid(20.0)
    assert len(grid) == int(np.ceil(8 * np.pi**2 / np.radians(20) ** 3))
    some = Rotation.random(200, rng=1).as_matrix()
    cosines = (np.einsum("aij,bij->ab", some, grid) - 1) / 2
    nearest = np.degrees(np.arccos(np.clip(cosines.max(axis=1), -1, 1)))
    assert nearest.max() < 20.0
    assert 5.0 < nearest.mean() < 11.0


def test_the_grid_has_rotations_only():
    grid = rotation_grid(30.0).astype(np.float64)
    np.testing.assert_allclose(
        grid @ grid.transpose(0, 2, 1), np.eye(3)[None] + 0 * grid, atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(grid), 1.0, atol=1e-6)


@pytest.mark.parametrize("step", [1.0, 91.0, float("nan")])
def test_steps_beyond_reason_are_refused(step):
    with pytest.raises(ConfigError, match="2 to 90"):
        rotation_grid(step)


@pytest.mark.parametrize(
    ("name", "order"),
    [("C1", 1), ("C4", 4), ("D7", 14), ("T", 12), ("O", 24), ("I", 60), ("o", 24)],
)
def test_groups_are_closed(name, order):
    group = symmetry_group(name).astype(np.float64)
    assert len(group) == order
    for product in (group[1 % order] @ group[-1], group[order // 2].T):
        assert np.abs(group - product).sum(axis=(1, 2)).min() < 1e-5


@pytest.mark.parametrize("name", ["C0", "X", "D", "C4 ", "I2", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="unknown symmetry"):
        symmetry_group(name)


def test_distances_are_angles_of_the_rotation_between():
    R = Rotation.random(5, rng=2)
    turned = R * Rotation.from_rotvec(np.radians([[0, 0, 30]] * 5))
    np.testing.assert_allclose(angular_distance_deg(R.as_matrix(), turned.as_matrix()), 30.0)
