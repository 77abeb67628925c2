"""Two maps compared."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.symmetry import rotate_volume


@pytest.mark.parametrize("n", [28, 29])
def test_a_turned_map_is_laid_back(n):
    R, shift = Rotation.random(rng=8).as_matrix(), (1.0, -2.0, 0.5)
    known = phantom(n)
    found = MapComparison(known, voxel_size_A=10.0)(rotate_volume(known, R, shift))
    assert found.correlation > 0.97
    inside = slice(4, -4), slice(4, -4), slice(4, -4)
    assert np.corrcoef(found.aligned[inside].ravel(), known[inside].ravel())[0, 1] > 0.98
    assert found.discrepancy_nm < 3.0


def test_noise_beyond_a_shell_is_the_discrepancy():
    n = 32
    known = np.random.default_rng(0).normal(size=(n, n, n)).astype(np.float32)
    other = np.random.default_rng(1).normal(size=(n, n, n)).astype(np.float32)
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    low = np.where(radius <= 8, np.fft.fftn(known), np.fft.fftn(other))
    mixed = np.fft.ifftn(low).real.astype(np.float32)
    found = MapComparison(known, voxel_size_A=10.0, max_shift_voxels=0.0)(mixed)
    assert found.discrepancy_nm == pytest.approx(32 / 8.5, abs=0.4)


def test_maps_without_likeness_have_the_worst_discrepancy():
    known = phantom(24)
    noise = np.random.default_rng(2).normal(size=(24, 24, 24)).astype(np.float32)
    found = MapComparison(known, voxel_size_A=10.0)(noise)
    assert found.discrepancy_nm >= 4.0
    assert found.correlation < 0.6


def test_many_at_once_are_as_one_by_one():
    one = MapComparison(phantom(24), voxel_size_A=10.0)
    maps = [rotate_volume(phantom(24), R) for R in Rotation.random(3, rng=1).as_matrix()]
    together = one.correlations(maps)
    np.testing.assert_allclose(together, [one(m).correlation for m in maps], atol=1e-3)
