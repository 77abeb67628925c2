"""Subtomograms whose images RELION projected, to judge labels on.

It needs ``relion_project`` (Debian's package relion, 3.1) and the environment of
third_party_cubes.py, of which it borrows the noise and the back-projection:

    /tmp/cryojax_env/bin/python third_party_relion.py --data DATA --out OUT --snr 0.05 --seed 21

Maps are those of ``DATA/maps_10A``, centred on their mass, at their own 10 Å. RELION projects them
with its own interpolation and CTF; what is written is as there.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from third_party_cubes import NULL, back_projector, box_variance, reconstruct, write_set

Floats = NDArray[np.floating]

CLASSES = {
    "proteasome_20s": "maps_10A/3j9i.mrc",
    "ribosome_70s": "maps_10A/4v4r.mrc",
    "ribosome_50s": "maps_10A/4v4r_50S.mrc",
    "p97": "maps_10A/3cf3.mrc",
    "beta_galactosidase": "maps_10A/1f4a.mrc",
    "clpb": "maps_10A/1qvr.mrc",
    "hsp90": "maps_10A/2cg9.mrc",
    "cand1": "maps_10A/1u6g.mrc",
}
"""Names are for reading; what a file holds is what its entry says."""
VOXEL_A, DEFOCUS_UM, CS_MM, VOLTAGE_KV, AMPLITUDE_CONTRAST = 10.0, 5.0, 2.7, 300.0, 0.07
BOX = 40
OPTICS = ("OpticsGroup", "OpticsGroupName", "Voltage", "SphericalAberration", "AmplitudeContrast")
OPTICS += ("ImagePixelSize", "ImageSize", "ImageDimensionality")
PARTICLE = ("AngleRot", "AngleTilt", "AnglePsi", "DefocusU", "DefocusV", "DefocusAngle")
PARTICLE += ("OpticsGroup", "ImageName")


def loop(name: str, columns: tuple[str, ...], rows: list[str]) -> str:
    """A table of a STAR file."""
    header = [f"_rln{column} #{i + 1}" for i, column in enumerate(columns)]
    return "\n".join([f"data_{name}", "", "loop_", *header, *rows, "", ""])


def centred(path: Path, n: int) -> NDArray[np.float32]:
    """A map in a box of n³ voxels, its mass at voxel n // 2."""
    density = np.array(mrcfile.read(path), dtype=np.float32)
    density = np.where(density > 0.05 * density.max(), density, 0) / density.max()
    padded = np.zeros((n, n, n), dtype=np.float32)
    low = [max(0, (s - n) // 2) for s in density.shape]
    part = density[tuple(slice(a, a + n) for a in low)]
    padded[tuple(slice(0, s) for s in part.shape)] = part
    move = n // 2 - np.array(ndimage.center_of_mass(padded))
    return ndimage.shift(padded, move, order=1).astype(np.float32)


def projected(volume: Floats, angles: Floats, folder: Path, *, ctf: bool) -> Floats:
    """RELION's projections (t, n, n) at Euler angles (t, 3)."""
    with mrcfile.new(folder / "map.mrc", overwrite=True) as file:
        file.set_data(volume)
        file.voxel_size = VOXEL_A
    optics = [1, "all", VOLTAGE_KV, CS_MM, AMPLITUDE_CONTRAST, VOXEL_A, len(volume), 2]
    defocus = f"{DEFOCUS_UM * 1e4} {DEFOCUS_UM * 1e4} 0 1"
    rows = [
        f"{rot:.6f} {tilt:.6f} {psi:.6f} {defocus} {number + 1:06d}@none.mrcs"
        for number, (rot, tilt, psi) in enumerate(angles)
    ]
    star = loop("optics", OPTICS, [" ".join(map(str, optics))]) + loop("particles", PARTICLE, rows)
    (folder / "angles.star").write_text(star, encoding="utf-8")
    command = ["relion_project", "--i", "map.mrc", "--o", "seen", "--ang", "angles.star"]
    command += ["--angpix", str(VOXEL_A), *(["--ctf"] if ctf else [])]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return np.array(mrcfile.read(folder / "seen.mrcs"), dtype=float)


def shifted(images: Floats, offsets: Floats) -> Floats:
    """Images (t, n, n) moved by (t, 2) pixels x, y."""
    k = np.fft.fftfreq(images.shape[-1])
    turn = offsets[:, 0, None, None] * k + offsets[:, 1, None, None] * k[:, None]
    return np.fft.ifft2(np.fft.fft2(images) * np.exp(-2j * np.pi * turn)).real


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with maps_10A/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--snr", type=float, required=True, help="before the CTF")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--per-class", type=int, default=12)
    options = parser.parse_args()
    tilts = np.arange(-60.0, 61.0, 3.0)
    turns = Rotation.from_rotvec(np.outer(tilts, [0, 1, 0]), degrees=True)
    projector = back_projector(BOX, 2 * BOX, tilts)
    cubes, rows = [], []
    for number, label in enumerate((*CLASSES, NULL)):
        print(label, flush=True)
        rng = np.random.default_rng([options.seed, number])
        poses = Rotation.random(options.per_class, rng=rng)
        shifts = rng.uniform(-2, 2, (options.per_class, 3))
        if label != NULL:
            matrices = np.concatenate([(turns * pose).as_matrix() for pose in poses])
            angles = Rotation.from_matrix(matrices).inv().as_euler("ZYZ", degrees=True)
            volume = centred(options.data / CLASSES[label], 2 * BOX)
            with tempfile.TemporaryDirectory() as folder:
                seen = [projected(volume, angles, Path(folder), ctf=c) for c in (False, True)]
            plain, imaged = (
                part.reshape(len(poses), len(tilts), 2 * BOX, 2 * BOX) for part in seen
            )
        for i in range(options.per_class):
            images = rng.normal(size=(len(tilts), 2 * BOX, 2 * BOX))
            row = [np.nan] * 6 + [0.0, 0.0]
            if label != NULL:
                at = turns.apply(shifts[i])[:, :2]
                scale = np.sqrt(options.snr / box_variance(plain[i], BOX))
                snrs = [scale**2 * box_variance(p[i], BOX) for p in (plain, imaged)]
                row = [*poses[i].inv().as_euler("ZYZ", degrees=True), *shifts[i], *snrs]
                images += scale * shifted(imaged[i], at)
            cubes.append(reconstruct(images, projector, BOX).astype(np.float32))
            rows.append([label, *(f"{value:.5f}" for value in row)])
    write_set(options.out, cubes, rows, CLASSES, seed=options.seed, voxel_A=VOXEL_A)


if __name__ == "__main__":
    main()
