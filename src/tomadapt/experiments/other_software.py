"""The same particles aligned by other programs, where they are installed: acryo and RELION."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists.model import rotations_from
from tomadapt.io.star import StarDocument, loop_of, read_star, write_star_document
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.rotations import rotation_grid

Cubes = NDArray[np.float32]

ACRYO_STEP_DEG = 30.0
"""As fine a grid as its speed allows: 15° takes eight times as long."""


@dataclass(frozen=True)
class Aligned:
    """What a program found: (n, 3, 3) rotations and (n, 3) shifts in voxels, xyz, and seconds."""

    rotations: NDArray[np.floating]
    shifts: NDArray[np.floating]
    seconds: float


def by_acryo(cubes: Cubes, template: Cubes, *, max_shift: float) -> Aligned | None:
    """ZNCC with a missing wedge of ±60° over all rotations of a grid; None without acryo."""
    try:
        from acryo.alignment import ZNCCAlignment
    except ImportError:
        return None
    swap = np.eye(3)[::-1]  # its axes are z, y, x
    grid = Rotation.from_matrix(swap @ rotation_grid(ACRYO_STEP_DEG) @ swap)
    model = ZNCCAlignment(template, rotations=grid, tilt=(-60, 60))
    started = time.perf_counter()
    found = [model.align(cube, max_shifts=(max_shift,) * 3) for cube in cubes]
    seconds = time.perf_counter() - started
    rotations = swap @ Rotation.from_quat([f.quat for f in found]).as_matrix() @ swap
    # It turns about (n - 1) / 2, and an even box's centre here lies half a voxel beyond that.
    centre = np.full(3, cubes.shape[-1] // 2 - (cubes.shape[-1] - 1) / 2)
    shifts = np.array([f.shift for f in found])[:, ::-1] + rotations @ centre - centre
    return Aligned(rotations, shifts, seconds)


def by_relion(
    cubes: Cubes,
    template: Cubes,
    acquisition: Acquisition,
    folder: Path,
    *,
    voxel_size_A: float,
    max_shift: float,
) -> Aligned | None:
    """One iteration of ``relion_refine``, 15° refined to 7.5°, with the 3D CTF of the wedge.

    Its seconds include reading, the reference's preparation and the average that it makes; None
    where the program is not installed (Debian: ``relion``, version 3.1).
    """
    program = shutil.which("relion_refine")
    if program is None:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    n = cubes.shape[-1]
    write_mrc(folder / "reference.mrc", template, voxel_size_A=voxel_size_A)
    points = MeasuredPoints.of(acquisition, n=n, voxel_size_A=voxel_size_A)
    write_mrc(folder / "ctf.mrc", _full_transfer(points), voxel_size_A=voxel_size_A)
    names = [f"particle{i:04d}.mrc" for i in range(len(cubes))]
    for name, cube in zip(names, cubes, strict=True):
        write_mrc(folder / name, cube, voxel_size_A=voxel_size_A)
    optics = {
        "rlnOpticsGroup": ["1"],
        "rlnOpticsGroupName": ["all"],
        "rlnVoltage": [f"{acquisition.voltage_kv:g}"],
        "rlnSphericalAberration": [f"{acquisition.spherical_aberration_mm:g}"],
        "rlnAmplitudeContrast": [f"{acquisition.amplitude_contrast:g}"],
        "rlnImagePixelSize": [f"{voxel_size_A:g}"],
        "rlnImageSize": [str(n)],
        "rlnImageDimensionality": ["3"],
    }
    particles = {
        "rlnImageName": names,
        "rlnCtfImage": ["ctf.mrc"] * len(names),
        "rlnMicrographName": ["tomogram"] * len(names),
        "rlnOpticsGroup": ["1"] * len(names),
    }
    tables = (loop_of("optics", optics), loop_of("particles", particles))
    parts = ("data_optics", "", tables[0], "", "data_particles", "", tables[1])
    write_star_document(folder / "particles.star", StarDocument(parts))
    options = (
        "--i particles.star --ref reference.mrc --o out/run --iter 1 --K 1 --ctf --healpix_order 2 "
        f"--oversampling 1 --offset_range {max_shift + 1:g} --offset_step 2 --offset 25 --pad 2 "
        f"--particle_diameter {0.9 * n * voxel_size_A:g} --norm --scale --j 1 --dont_check_norm"
    ).split()
    started = time.perf_counter()
    done = subprocess.run(
        [program, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"relion_refine failed: {done.stderr[-500:]}")
    table = read_star(folder / "out" / "run_it001_data.star").table("particles")
    assert table is not None
    order = np.argsort([Path(name).name for name in table.column("rlnImageName")])
    angles = [table.column(f"rlnAngle{a}") for a in ("Rot", "Tilt", "Psi")]
    origins = [table.column(f"rlnOrigin{a}Angst") for a in "XYZ"]
    rotations = rotations_from(np.array(angles, float).T[order], "ZYZ")
    assert rotations is not None
    shifts = -np.array(origins, float).T[order] / voxel_size_A
    return Aligned(rotations.as_matrix(), shifts, seconds)


def _full_transfer(points: MeasuredPoints) -> Cubes:
    """The transfer at all frequencies, (n, n, n) [kz, ky, kx] with zero frequency at n // 2."""
    n = points.n
    full = torch.zeros(n, n, n)
    kx, ky, kz = (points.k * n).round().long().T
    for sign in (1, -1):
        full[(sign * kz) % n, (sign * ky) % n, (sign * kx) % n] = points.transfer
    return np.asarray(torch.fft.fftshift(full).numpy())
