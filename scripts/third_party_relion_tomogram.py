"""A whole tomogram whose images RELION projected and scikit-image projected back.

It needs what third_party_relion.py needs, and scikit-image:

    /tmp/cryojax_env/bin/python third_party_relion_tomogram.py --data DATA --out OUT --seed 61

Planted are particles of ``DATA/maps_10A`` whose densities hardly overlap, vesicles, filaments and
gold. Each image is a projection by ``relion_project`` with its CTF; here it gets white noise, a
detector's falloff and an error of alignment. The variance of noise grows as 1/cos(tilt), as fewer
electrons pass. The CTF is not corrected. Nothing of tomadapt is imported.

Written are ``tomogram.mrc``, ``acquisition.json`` and, as DATA/independent/evaluate.py reads them,
``truth.csv`` and ``label.npz``. Two SNRs are printed for each class: the variance of its
projections within its box after and before the CTF, over that of the noise, as means over tilts.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import third_party_relion as relion
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.transform import iradon
from third_party_cubes import box_variance

Floats = NDArray[np.floating]

WANTED = {"6qzp": 30, "2uv8": 25, "1f4a": 45, "3cf3": 45}
UNLISTED = {"4v4r": 12, "3j9i": 25, "7n4y": 25, "1qvr": 25, "2cg9": 25, "8tux": 8}
GOLD, FILAMENTS, VESICLE_RADII = 10, 3, (30, 22, 17)
GOLD_DENSITY, MEMBRANE_DENSITY = 12.0, 0.6
SIDE, DEPTH, BOX = 256, 100, 48
SHRINK = 0.92
"""Particles lie within this part of the volume: images end at its border."""


def particle(path: Path) -> Floats:
    """A map in the box, its mass at the centre, of mean 1 within."""
    density = relion.centred(path, BOX)
    level = np.quantile(density[density > 0.05], 0.995)
    return density / density[density > 0.3 * level].mean()


def radius_of(density: Floats) -> float:
    """Voxels from the centre that hold 95 % of the mass."""
    r = np.linalg.norm(np.indices(density.shape) - BOX // 2, axis=0).ravel()
    order = np.argsort(r)
    mass = np.cumsum(density.ravel()[order])
    return float(r[order][np.searchsorted(mass, 0.95 * mass[-1])])


def rotated(density: Floats, pose: Rotation, offset: Floats) -> Floats:
    """The density turned by a pose that acts on x, y, z, then moved by voxels x, y, z."""
    matrix = pose.as_matrix()[::-1, ::-1].T  # on z, y, x, from the output to the input
    centre = np.full(3, BOX // 2)
    start = centre - matrix @ (centre + offset[::-1])
    return ndimage.affine_transform(density, matrix, start, order=3)


def junk(rng: np.random.Generator) -> tuple[Floats, NDArray[np.int8], list[list[object]]]:
    """Vesicles, filaments and gold: their density, what each voxel holds, and rows of the truth."""
    density = np.zeros((DEPTH, SIDE, SIDE))
    label = np.zeros(density.shape, dtype=np.int8)
    z, y, x = np.ogrid[:DEPTH, :SIDE, :SIDE]
    rows: list[list[object]] = []
    for radius in VESICLE_RADII:
        cx, cy = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2)
        r = np.sqrt((z - DEPTH / 2) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) - radius
        sheet = np.exp(-0.5 * ((np.abs(r) - 2) / 0.8) ** 2)  # two leaflets, 40 Å apart
        density += MEMBRANE_DENSITY * sheet
        label[np.abs(r) < 4] = 2
        rows.append(["vesicle", "membrane", cx, cy, DEPTH / 2, radius])
    for _ in range(FILAMENTS):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3 * SIDE, 0.3 * SIDE)
        height = rng.uniform(0.35, 0.65) * DEPTH
        along = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle)
        away = (y - SIDE / 2) * np.cos(angle) - (x - SIDE / 2) * np.sin(angle) - offset
        r = np.sqrt(away**2 + (z - height) ** 2)
        density += np.exp(-0.5 * (r / 2.5) ** 2) * (1 + 0.4 * np.cos(2 * np.pi * along / 5.5))
        label[(r < 6) & (label == 0)] = 4  # the evaluation knows no filaments: what it calls ice
        rows.append(["filament", "ice", SIDE / 2, SIDE / 2, height, 6.0])
    for _ in range(GOLD):
        at = rng.uniform([0.1 * SIDE, 0.1 * SIDE, 12], [0.9 * SIDE, 0.9 * SIDE, DEPTH - 12])
        r = np.sqrt((z - at[2]) ** 2 + (y - at[1]) ** 2 + (x - at[0]) ** 2)
        density += GOLD_DENSITY / (1 + np.exp(np.clip((r - 5) / 0.3, -50, 50)))
        label[r < 6] = 3
        rows.append(["gold", "gold", *at, 5.0])
    return density, label, rows


def planted(
    maps: dict[str, Floats], rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int8], list[list[object]]]:
    """All particles without overlap, the largest first, beside the junk."""
    density, label, rows = junk(rng)
    free = ndimage.distance_transform_edt(label == 0)
    counts = {**WANTED, **UNLISTED}
    for name in sorted(counts, key=lambda name: -radius_of(maps[name])):
        radius = radius_of(maps[name])
        for _ in range(counts[name]):
            for _attempt in range(5000):
                low = np.array([SIDE * (1 - SHRINK) / 2 + radius] * 2 + [radius + 6])
                at = rng.uniform(low, np.array([SIDE, SIDE, DEPTH]) - low)
                nearest = tuple(np.round(at[::-1]).astype(int))
                if free[nearest] > radius + 1:
                    break
            else:
                raise SystemExit(f"no room for another {name}")
            pose = Rotation.random(rng=rng)
            corner = np.array(nearest) - BOX // 2
            part = rotated(maps[name], pose, at - np.array(nearest[::-1]))
            at_volume = [slice(max(c, 0), c + BOX) for c in corner]
            shape = [density[s].shape[0] for s in at_volume[:1]]
            shape += [len(range(*s.indices(SIDE))) for s in at_volume[1:]]
            cut = tuple(
                slice(max(-c, 0), max(-c, 0) + n) for c, n in zip(corner, shape, strict=True)
            )
            density[tuple(at_volume)] += part[cut]
            z, y, x = np.ogrid[:DEPTH, :SIDE, :SIDE]
            away = np.sqrt((z - at[2]) ** 2 + (y - at[1]) ** 2 + (x - at[0]) ** 2) - radius
            free = np.minimum(free, away)
            kind = "wanted" if name in WANTED else "distractor"
            rows.append([name, kind, *at, radius, *pose.inv().as_euler("ZYZ", degrees=True)])
    return density, label, rows


def detector(n: int) -> Floats:
    """Falloff of a detector's answer, and of beam-induced movement, to 0.6 at Nyquist."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
    return np.exp(np.log(0.6) * (k / 0.5) ** 2)


def main() -> None:
    """Write the tomogram and its truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with maps_10A/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--noise",
        type=float,
        default=4.0,
        help="its standard deviation at 0° over protein's density in a voxel",
    )
    parser.add_argument("--defocus", type=float, default=3.2, help="µm")
    parser.add_argument("--tilts", type=float, nargs=3, default=(-54, 60, 3), help="low high step")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    tilts = np.arange(options.tilts[0], options.tilts[1] + 0.1, options.tilts[2])
    maps = {n: particle(options.data / f"maps_10A/{n}.mrc") for n in (*WANTED, *UNLISTED)}
    density, label, rows = planted(maps, rng)
    cube = np.zeros((SIDE,) * 3, dtype=np.float32)
    low = SIDE // 2 - DEPTH // 2
    cube[low : low + DEPTH] = density
    variances = options.noise**2 / np.cos(np.deg2rad(tilts))
    turns = Rotation.from_rotvec(np.outer(tilts, [0, 1, 0]), degrees=True)
    relion.DEFOCUS_UM = options.defocus
    angles = turns.inv().as_euler("ZYZ", degrees=True)
    with tempfile.TemporaryDirectory() as folder:
        images = relion.projected(cube, angles, Path(folder), ctf=True)
        for name, part in maps.items():
            wide = np.pad(part, BOX // 2)
            seen = [relion.projected(wide, angles, Path(folder), ctf=c) for c in (False, True)]
            before, after = (box_variance(p, BOX) / variances.mean() for p in seen)
            print(f"{name}: SNR {after:.4f} after the CTF ({before:.4f} before it)", flush=True)
    images = relion.shifted(images, rng.normal(scale=0.5, size=(len(tilts), 2)))
    noise = rng.normal(size=images.shape) * np.sqrt(variances)[:, None, None]
    images = np.fft.ifft2(np.fft.fft2(images + noise) * detector(SIDE)).real
    slices = [
        iradon(images[:, y].T, theta=tilts, output_size=SIDE, circle=False) for y in range(SIDE)
    ]
    # Rows of a slice by iradon run against z, about the same central row.
    volume = np.roll(np.stack(slices, axis=1)[::-1], 1, axis=0)
    seen, wanted = (ndimage.gaussian_filter(v, 2) for v in (volume[low : low + DEPTH], density))
    print(
        f"correlation with what was planted: {np.corrcoef(seen.ravel(), wanted.ravel())[0, 1]:.2f}"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(options.out / "tomogram.mrc", overwrite=True) as file:
        file.set_data(volume[low : low + DEPTH].astype(np.float32))
        file.voxel_size = relion.VOXEL_A
    with (options.out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "kind", "x", "y", "z", "radius", "rot", "tilt", "psi"])
        writer.writerows([*row, *[""] * (9 - len(row))] for row in rows)
    np.savez_compressed(options.out / "label.npz", label=label)
    stated = {"name": "stated", "defocus_um": options.defocus, "tilt_angles_deg": tilts.tolist()}
    stated |= {"voltage_kv": relion.VOLTAGE_KV, "spherical_aberration_mm": relion.CS_MM}
    stated |= {"amplitude_contrast": relion.AMPLITUDE_CONTRAST}
    (options.out / "acquisition.json").write_text(json.dumps(stated) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
