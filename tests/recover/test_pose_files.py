"""Poses written, and read back by other readers."""

import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError
from tomadapt.io.particle_lists.model import rotations_from
from tomadapt.io.star import read_star
from tomadapt.recover.pose_files import write_poses
from tomadapt.recover.poses import Poses


@pytest.fixture
def poses() -> Poses:
    rng = np.random.default_rng(0)
    R = Rotation.random(5, rng=rng).as_matrix().astype(np.float32)
    shifts = rng.uniform(-3, 3, (5, 1, 3)).astype(np.float32)
    scores = rng.uniform(0, 1, (5, 1)).astype(np.float32)
    return Poses(R[:, None], shifts, scores, scores)


def test_csv_has_a_row_a_particle(poses, tmp_path):
    write_poses(tmp_path / "p.csv", poses, voxel_size_A=10.0)
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["0", "1", "2", "3", "4"]
    matrix = [[float(r[f"r{i}{j}"]) for i in (1, 2, 3) for j in (1, 2, 3)] for r in rows]
    np.testing.assert_allclose(np.reshape(matrix, (5, 3, 3)), poses.rotations[:, 0], atol=1e-5)
    shifts = [[float(r[f"shift_{a}_voxels"]) for a in "xyz"] for r in rows]
    np.testing.assert_allclose(shifts, poses.shifts[:, 0], atol=1e-4)


def test_star_has_relions_angles_and_origins(poses, tmp_path):
    write_poses(tmp_path / "p.star", poses, voxel_size_A=10.0)
    table = read_star(tmp_path / "p.star").table("particles")
    assert table is not None
    names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    angles = np.array([table.column(name) for name in names], float).T
    back = rotations_from(angles, "ZYZ")
    np.testing.assert_allclose(back.as_matrix(), poses.rotations[:, 0], atol=1e-4)
    origin = [float(v) for v in table.column("rlnOriginXAngst")]
    np.testing.assert_allclose(origin, -10.0 * poses.shifts[:, 0, 0], atol=1e-3)


def test_npz_has_arrays(poses, tmp_path):
    write_poses(tmp_path / "p.npz", poses, voxel_size_A=10.0)
    with np.load(tmp_path / "p.npz") as content:
        np.testing.assert_array_equal(content["rotations"], poses.rotations[:, 0])
        np.testing.assert_array_equal(content["scores"], poses.scores[:, 0])


def test_other_formats_are_refused(poses, tmp_path):
    with pytest.raises(ConfigError, match="cannot tell the format"):
        write_poses(tmp_path / "p.txt", poses, voxel_size_A=10.0)
    assert not list(tmp_path.iterdir())


def test_regression_every_file_of_poses_says_whose_they_are(poses, tmp_path):
    """Only the .csv had a key: the others were joined to the particles by their order."""
    rows = np.array([7, 0, 3, 2, 9])
    for name in ("p.csv", "p.npz", "p.star"):
        write_poses(tmp_path / name, poses, voxel_size_A=10.0, rows=rows)
    with (tmp_path / "p.csv").open() as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == rows.tolist()
    with np.load(tmp_path / "p.npz") as content:
        np.testing.assert_array_equal(content["index"], rows)
    table = read_star(tmp_path / "p.star").table("particles")
    assert table is not None
    assert [int(n) - 1 for n in table.column("tomadaptSubtomogram")] == rows.tolist()
