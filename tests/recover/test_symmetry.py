"""Maps turned, and axes of symmetry found."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.recover.rotations import symmetry_group
from tomadapt.recover.symmetry import rotate_volume, symmetry_axes


@pytest.mark.parametrize("n", [32, 33])
def test_a_turned_map_is_the_map_of_the_turned_object(n):
    R, shift = Rotation.random(rng=1).as_matrix(), (1.0, 0.5, -1.25)
    turned = rotate_volume(phantom(n), R, shift)
    truth = phantom(n, R, shift)
    np.testing.assert_allclose(turned, truth - truth.mean(), atol=0.03)


def test_there_and_back():
    R = Rotation.random(rng=2).as_matrix()
    back = rotate_volume(rotate_volume(phantom(32), R), R.T)
    assert np.corrcoef(back.ravel(), phantom(32).ravel())[0, 1] > 0.995


def symmetric(name: str, n: int = 32) -> np.ndarray:
    return sum(phantom(n, g) for g in symmetry_group(name))


def symmetrised(volume: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.mean([rotate_volume(volume, g) for g in group], axis=0)


@pytest.mark.parametrize("name", ["C4", "D3", "O"])
def test_planted_axes_are_found(name):
    group = symmetry_group(name)
    hidden = rotate_volume(symmetric(name), Rotation.random(rng=3).as_matrix())
    axes, kept = symmetry_axes(hidden, group)
    found = rotate_volume(hidden, axes)
    assert kept > 0.95
    assert np.corrcoef(symmetrised(found, group).ravel(), found.ravel())[0, 1] > 0.95


def test_a_structure_without_symmetry_keeps_less():
    _, kept = symmetry_axes(phantom(32), symmetry_group("C4"))
    assert kept < 0.85


def test_without_symmetry_nothing_is_turned():
    axes, kept = symmetry_axes(phantom(24), symmetry_group("C1"))
    np.testing.assert_array_equal(axes, np.eye(3))
    assert kept == 1.0
