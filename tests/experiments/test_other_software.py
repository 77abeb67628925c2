"""Another program's poses, in our conventions."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.acquisition import BATCH_A
from tomadapt.experiments import other_software
from tomadapt.experiments.other_software import by_acryo, by_relion
from tomadapt.recover.rotations import angular_distance_deg


def test_acryo_finds_a_planted_pose(monkeypatch):
    pytest.importorskip("acryo")
    planted, shift = Rotation.random(rng=6).as_matrix(), (2.0, -1.0, 1.0)
    others = Rotation.random(5, rng=7).as_matrix()
    grid = np.concatenate([others, planted[None]])
    monkeypatch.setattr(other_software, "rotation_grid", lambda _: grid)
    cube = phantom(28, planted, shift)
    found = by_acryo(cube[None], phantom(28), max_shift=3.0)
    assert found is not None
    assert angular_distance_deg(found.rotations, planted[None])[0] < 1
    np.testing.assert_allclose(found.shifts[0], shift, atol=0.5)


def test_a_program_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cubes = phantom(24)[None]
    found = by_relion(cubes, cubes[0], BATCH_A, tmp_path / "r", voxel_size_A=9.2, max_shift=2.0)
    assert found is None
    assert not (tmp_path / "r").exists()
