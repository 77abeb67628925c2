"""Files of poses: CSV, npz, or STAR with RELION's angles and origins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError
from tomadapt.io.extracted import SUBTOMOGRAM
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.io.star import StarDocument, loop_of, write_star_document
from tomadapt.recover.poses import Poses
from tomadapt.runs.atomic import atomic_path, write_rows

SUFFIXES = (".csv", ".npz", ".star")
_MATRIX = [f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)]
_SHIFT = ["shift_x_voxels", "shift_y_voxels", "shift_z_voxels"]


def require_pose_file(path: Path) -> None:
    """Raise when a file's extension is not one of :data:`SUFFIXES`.

    Raises
    ------
    ConfigError
        Naming the extension.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"cannot tell the format of {path}",
            expected=", ".join(SUFFIXES),
            got=path.suffix or "no extension",
            remedy="name the output with one of these",
        )


def write_poses(
    path: Path,
    poses: Poses,
    *,
    voxel_size_A: float,
    rows: NDArray[np.integer] | None = None,
    halves: NDArray[np.integer] | None = None,
) -> None:
    """Write the best pose of each particle, one row per particle, in order.

    A ``.csv`` has ``index``, the matrix row by row (``r11`` … ``r33``, acting on x, y, z), the
    shift in voxels, the ``score`` and, where there are half maps, ``half`` (1 or 2); an ``.npz``
    arrays ``index`` (n,), ``rotations`` (n, 3, 3), ``shifts`` (n, 3) voxels and ``scores`` (n,); a
    ``.star`` RELION's ZYZ angles in degrees, ``rlnOriginX/Y/ZAngst``, which is minus the shift in
    Å, and ``tomadaptSubtomogram``, which is ``index`` + 1.

    Parameters
    ----------
    path
        The file.
    poses
        Of all particles.
    voxel_size_A
        Å.
    rows
        (n,) ``index`` of each particle, from 0; 0 … n − 1 when None.
    halves
        (n,) the half set of each, 0 or 1; written to a ``.csv`` only.

    Raises
    ------
    ConfigError
        For another extension.
    OutputError
        When the file cannot be written.
    """
    require_pose_file(path)
    rotations, shifts, scores = poses.rotations[:, 0], poses.shifts[:, 0], poses.scores[:, 0]
    index = np.arange(len(scores)) if rows is None else np.asarray(rows)
    if path.suffix == ".npz":
        with atomic_path(path) as temporary:
            np.savez(temporary, index=index, rotations=rotations, shifts=shifts, scores=scores)
    elif path.suffix == ".csv":
        rows_of_text: list[list[object]] = []
        for i, (R, s, score) in enumerate(zip(rotations, shifts, scores, strict=True)):
            numbers = [*(f"{v:.6f}" for v in R.flat), *(f"{v:.4f}" for v in s), f"{score:.5f}"]
            half = [] if halves is None else [str(int(halves[i]) + 1)]
            rows_of_text.append([int(index[i]), *numbers, *half])
        header = ["index", *_MATRIX, *_SHIFT, "score", *([] if halves is None else ["half"])]
        write_rows(path, header, rows_of_text)
    else:
        angles = relion_angles_deg(Rotation.from_matrix(rotations))
        names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
        columns = {name: [f"{a:.4f}" for a in angles[:, i]] for i, name in enumerate(names)}
        for axis, name in enumerate("XYZ"):
            origin_A = -shifts[:, axis] * voxel_size_A
            columns[f"rlnOrigin{name}Angst"] = [f"{o:.4f}" for o in origin_A]
        columns[SUBTOMOGRAM] = [str(int(i) + 1) for i in index]
        columns["tomadaptScore"] = [f"{score:.5f}" for score in scores]
        table = loop_of("particles", columns)
        write_star_document(path, StarDocument(("data_particles", "", table)))
