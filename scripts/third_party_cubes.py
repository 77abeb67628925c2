"""Subtomograms by cryoJAX, which shares no code with tomadapt, to judge labels on.

It runs in its own environment, and nothing of tomadapt is imported:

    python3 -m venv /tmp/cryojax_env && /tmp/cryojax_env/bin/pip install cryojax==0.6.0 mrcfile
    cd scripts
    /tmp/cryojax_env/bin/python third_party_cubes.py --data DATA --out OUT --snr 0.1 --seed 1

cryoJAX reads the atoms, makes the potential, projects it and applies the CTF, at half the voxel
size and in a box twice as wide as the cubes, so that what the CTF spreads stays inside. Here the
images are cropped in Fourier space, given white noise and projected back with a ramp filter. The
CTF is not corrected.

Written are ``cubes.mrc`` (protein bright), ``truth.csv`` and ``classes.json`` (label → structure's
file below DATA). Axes and signs are those of docs/conventions.md. The SNR is *not*: it is the
variance of the projections before the CTF within the particle's box, over all tilts, divided by
that of the noise, which is added after the CTF. It is the same for every particle.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import cryojax.simulator as cxs
import equinox as eqx
import gemmi
import jax
import mmdf
import mrcfile
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating]

CLASSES = {
    "proteasome_20s": "models/3j9i.pdb.gz",
    "ribosome_30s": "models/4v4r_30S.pdb.gz",
    "ribosome_70s": "models/4v5d.cif.gz",
    "groel": "models/1mnf.pdb.gz",
    "apoferritin": "models/6z6u.pdb.gz",
    "rubisco": "models/1bxn.pdb.gz",
    "hsp90": "models/2cg9.pdb.gz",
    "clpb": "models/1qvr.pdb.gz",
}
NULL = "null"
B_FACTOR_A2 = 100.0
"""The same for all atoms: those of some files are zero or made up."""
POSE, SNRS = ("rot", "tilt", "psi", "shift_x", "shift_y", "shift_z"), ("before", "after")
COLUMNS = ("index", "label", *POSE, *(f"snr_{place}_ctf" for place in SNRS))


def read_atoms(path: Path) -> pd.DataFrame:
    """Atoms without hydrogen and water, copied by the operators of the first assembly, if any.

    All are copied: no file here has chains outside its assembly. Elements beyond zinc, of which
    cryoJAX has no scattering factors, are the heavy atoms of crystallographers (1qvr: platinum).
    """
    atoms = mmdf.read(path)
    atoms = atoms[atoms.atomic_number.between(2, 30) & (atoms.residue != "HOH")]
    copies = []
    for assembly in gemmi.read_structure(str(path)).assemblies[:1]:
        for operator in (o for g in assembly.generators for o in g.operators):
            turn, move = np.array(operator.transform.mat), np.array(operator.transform.vec.tolist())
            xyz = atoms[["x", "y", "z"]].to_numpy() @ turn.T + move
            copies.append(atoms.assign(x=xyz[:, 0], y=xyz[:, 1], z=xyz[:, 2]))
    return pd.concat(copies) if copies else atoms


def potential(atoms: pd.DataFrame, n: int, pixel_A: float) -> cxs.FourierVoxelGridVolume:
    """The potential on n³ voxels, centred on its mass, ready for slices."""
    mixture = cxs.load_tabulated_volume(
        atoms,
        output_type=cxs.GaussianMixtureVolume,
        include_b_factors=True,
        b_factor_fn=lambda b, _: np.full_like(b, B_FACTOR_A2),
    )
    spread = cxs.suggest_n_spread(mixture, pixel_A)
    render = cxs.GaussianMixtureRenderFn((n, n, n), pixel_A, n_spread=spread, n_batches=8)
    return cxs.render_voxel_volume(mixture, render, options={"interp": "cubic"})


@eqx.filter_jit
def tilt_images(
    volume: cxs.FourierVoxelGridVolume,
    transfer: cxs.ContrastTransferTheory,
    config: cxs.BasicImageConfig,
    quaternions: jax.Array,
    offsets_A: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Projections (t, n, n) without and with the CTF, of poses w, x, y, z (t, 4) and x, y (t, 2).

    The CTF of cryoJAX makes protein dark under focus.
    """

    def image(pose: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        where = cxs.QuaternionPose(pose[1][0], pose[1][1], pose[0])
        plain = cxs.ProjectionImageModel(volume, where, config)
        return plain.simulate(), cxs.LinearImageModel(volume, where, config, transfer).simulate()

    return jax.lax.map(image, (quaternions, offsets_A))


def fourier_crop(images: Floats, n: int) -> Floats:
    """Images (…, m, m) of the same field with n² pixels, n < m."""
    m = images.shape[-1]
    kept = slice(m // 2 - n // 2, m // 2 - n // 2 + n)
    spectrum = np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))[..., kept, kept]
    return np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real * (n / m) ** 2


def back_projector(box: int, n: int, tilts_deg: Floats) -> Floats:
    """What makes a slice z, x (box², t n) from the lines x of t images of n pixels.

    A point is seen at x cos θ + z sin θ; there the line is read by its Fourier series, after a ramp
    filter that leaves a quarter of the first frequency's weight to the mean.
    """
    z, x = np.meshgrid(*[np.arange(box) - box // 2] * 2, indexing="ij")
    k = np.arange(n // 2)  # without Nyquist
    weight = np.maximum(k, 0.25) / n * np.where(k, 2, 1) / n
    line = np.exp(-2j * np.pi / n * np.outer(k, np.arange(n) - n // 2))
    parts = []
    for tilt in np.deg2rad(tilts_deg):
        seen = (x * np.cos(tilt) + z * np.sin(tilt)).ravel()
        parts.append(((np.exp(2j * np.pi / n * np.outer(seen, k)) * weight) @ line).real)
    return np.hstack(parts)


def inner(box: int) -> slice:
    """The box pixels about the centre of 2 box."""
    return slice(box - box // 2, 2 * box - box // 2)


def reconstruct(images: Floats, projector: Floats, box: int) -> Floats:
    """The cube (box, box, box), z, y, x, from images twice as wide, y, x; the tilt axis is y."""
    lines = images[:, inner(box)].transpose(0, 2, 1).reshape(-1, box)
    return (projector @ lines).reshape(box, box, box).transpose(0, 2, 1)


def box_variance(images: Floats, box: int) -> float:
    """Variance within the central box² of each image twice as wide, mean over the images."""
    return float(images[:, inner(box), inner(box)].var(axis=(1, 2)).mean())


def write_set(
    folder: Path,
    cubes: list[Floats],
    rows: list[list[str]],
    classes: dict[str, str],
    *,
    seed: int,
    voxel_A: float,
) -> None:
    """Write cubes in random order, their truth, and which structure is whose."""
    order = np.random.default_rng(seed).permutation(len(cubes))
    folder.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(folder / "cubes.mrc", overwrite=True) as file:
        file.set_data(np.stack([cubes[i] for i in order]))
        file.voxel_size = voxel_A
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([index, *rows[i]] for index, i in enumerate(order))
    structures = json.dumps(classes, indent=2)
    (folder / "classes.json").write_text(structures + "\n", encoding="utf-8")


def counts_of(options: argparse.Namespace) -> dict[str, int]:
    """How many of each class, in the table's order."""
    counts = {name: options.per_class for name in options.classes.split(",")}
    if options.counts:
        pairs = [pair.split("=") for pair in options.counts.split(",")]
        counts = {name: int(number) for name, number in pairs}
    if unknown := set(counts) - {*CLASSES, NULL}:
        raise SystemExit(f"no such class: {', '.join(unknown)}; there are {', '.join(CLASSES)}")
    return {name: counts[name] for name in (*CLASSES, NULL) if counts.get(name)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with models/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--snr", type=float, required=True, help="before the CTF; inf: no noise")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--per-class", type=int, default=12)
    parser.add_argument("--classes", default=",".join((*CLASSES, NULL)))
    parser.add_argument("--counts", help="NAME=N,… instead of --classes and --per-class")
    parser.add_argument("--voxel-size", type=float, default=9.2, help="Å")
    parser.add_argument("--box", type=int, default=40, help="voxels")
    parser.add_argument("--max-shift", type=float, default=2.0, help="voxels along each axis")
    parser.add_argument("--defocus", type=float, default=5.0, help="µm, positive = underfocus")
    parser.add_argument("--cs", type=float, default=2.7, help="mm")
    parser.add_argument("--voltage", type=float, default=300.0, help="kV")
    parser.add_argument("--amplitude-contrast", type=float, default=0.07)
    parser.add_argument("--tilt-range", type=float, nargs=2, default=(-60.0, 60.0))
    parser.add_argument("--tilt-step", type=float, default=3.0)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    box, fine, pixel_A = options.box, 4 * options.box, options.voxel_size / 2
    first, last = options.tilt_range
    tilts = np.arange(first, last + options.tilt_step / 2, options.tilt_step)
    turns = Rotation.from_rotvec(np.outer(tilts, [0, 1, 0]), degrees=True)
    projector = back_projector(box, 2 * box, tilts)
    config = cxs.BasicImageConfig((fine, fine), pixel_A, options.voltage)
    ctf = cxs.AstigmaticCTF(options.defocus * 1e4, spherical_aberration_in_mm=options.cs)
    transfer = cxs.ContrastTransferTheory(ctf, amplitude_contrast_ratio=options.amplitude_contrast)
    noise_scale, signal_snr = (1, options.snr) if np.isfinite(options.snr) else (0, 1)
    cubes, rows = [], []
    for label, count in counts_of(options).items():
        if label != NULL:
            atoms = read_atoms(options.data / CLASSES[label])
            kda = atoms.atomic_weight.sum() / 1e3
            print(f"{label}: {len(atoms)} atoms, {kda:.0f} kDa, {count} cubes", flush=True)
            volume = potential(atoms, fine, pixel_A)
        for i in range(count):
            rng = np.random.default_rng([options.seed, [*CLASSES, NULL].index(label), i])
            images = noise_scale * rng.normal(size=(len(tilts), 2 * box, 2 * box))
            row = [np.nan] * 6 + [0.0, 0.0]
            if label != NULL:
                rotation = Rotation.random(rng=rng)
                shift = rng.uniform(-options.max_shift, options.max_shift, 3)
                at_A = turns.apply(shift * options.voxel_size)[:, :2]
                quaternions = (turns * rotation).as_quat(scalar_first=True)
                seen = tilt_images(volume, transfer, config, quaternions, at_A)
                plain, imaged = (fourier_crop(np.asarray(part, float), 2 * box) for part in seen)
                scale = np.sqrt(signal_snr / box_variance(plain, box))
                noise = box_variance(images, box) if noise_scale else np.nan
                snrs = [scale**2 * box_variance(part, box) / noise for part in (plain, imaged)]
                row = [*rotation.inv().as_euler("ZYZ", degrees=True), *shift, *snrs]
                images -= scale * imaged  # protein bright
            cubes.append(reconstruct(images, projector, box).astype(np.float32))
            rows.append([label, *(f"{value:.5f}" for value in row)])
    write_set(options.out, cubes, rows, CLASSES, seed=options.seed, voxel_A=options.voxel_size)


if __name__ == "__main__":
    main()
