r"""Picks and labels the independent test tomogram by template matching with pyTME, to compare with.

pyTME (``pip install pytme==0.3.6``, GPL) is run as a program from an environment of its own; it is
no dependency. The tomogram is inverted, gold is cut to a few σ, and both it and the templates are
taken at the same coarser voxels; pyTME compares with missing wedge, CTF and whitening. Correlations
with different templates compare neither as z-scores over the tomogram, which favour the large ones,
nor relative to each template's own best peaks, which favour the small ones: the score is the
geometric mean of both. The template that scores best names a position.

    D=../shared/data; python scripts/compare_template_matching.py --data $D \
        --tomogram $D/independent/tomogram_dose3.mrc --out RUN --pytme-bin PYTME_ENV/bin
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.structures import Template, template

Array = NDArray[np.float32]
STRUCTURES = {
    "ribosome": "maps_10A/4v4r.mrc",
    "proteasome": "models/3j9i.pdb.gz",
    "tric": "independent/tric.mrc",
    "rubisco": "models/1bxn.pdb.gz",
}
VOXEL_A, TEMPLATE_BOX, EDGE = 10.0, 40, 2  # the last in coarser voxels
CUT, GOLD, GOLD_VOXELS, GOLD_MARGIN_A = 4.0, 6.0, 8, 90.0  # σ, σ, voxels, Å
BEST_PEAKS, LEAST_Z, USUAL_Z = 20, 4.5, 10.0
OPTIONS = (
    "-n 1 --tilt-angles tilts.tlt --whiten-spectrum --defocus 40000 --acceleration-voltage 300 "
    "--spherical-aberration 2.7e7 --amplitude-contrast 0.07 --ctf-correction raw"
)


def cpu_seconds() -> float:
    """CPU seconds that this process and its finished children have taken."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def write_mrc(path: Path, volume: NDArray[np.floating], voxel_size_A: float) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume.astype(np.float32))
        file.voxel_size = voxel_size_A


def coarser(volume: Array, shape: tuple[int, ...]) -> Array:
    """The volume at ``shape`` voxels, its Fourier transform cut; voxel 0 stays where it is."""
    spectrum = np.fft.fftshift(np.fft.fftn(volume))
    starts = [n // 2 - m // 2 for n, m in zip(volume.shape, shape, strict=True)]
    part = tuple(slice(a, a + m) for a, m in zip(starts, shape, strict=True))
    cut = np.fft.ifftn(np.fft.ifftshift(spectrum[part])).real
    return (cut * (cut.size / volume.size)).astype(np.float32)


def bright_without_gold(tomogram: Array) -> tuple[Array, NDArray[np.float64]]:
    """Tomogram with bright density in robust σ, cut at ``CUT``, and distances to gold in voxels."""
    bright = np.median(tomogram) - tomogram
    bright /= 1.4826 * np.median(np.abs(bright))
    groups, n = ndimage.label(np.abs(bright) > GOLD)
    large = np.bincount(groups.ravel(), minlength=n + 1) >= GOLD_VOXELS
    large[0] = False
    distances = ndimage.distance_transform_edt(~large[groups])
    return np.clip(bright, -CUT, CUT), distances if large.any() else np.full(bright.shape, np.inf)


def match(folder: Path, name: str, model: Template, angle: float, program: Path) -> Array:
    """Best normalised correlation over all rotations at each voxel, z, y, x, by pyTME."""
    z, y, x = np.ogrid[tuple(slice(-(n // 2), n - n // 2) for n in model.density.shape)]
    radius = model.radius_A / model.voxel_size_A + 1.5
    sphere = np.clip(radius - np.sqrt(z**2 + y**2 + x**2), 0, 1)
    write_mrc(folder / f"{name}.mrc", model.density, model.voxel_size_A)
    write_mrc(folder / f"{name}_mask.mrc", sphere, model.voxel_size_A)
    files = f"-m target.mrc -i {name}.mrc -I {name}_mask.mrc -o {name}.h5 -a {angle}"
    command = [program.absolute(), *files.split(), *OPTIONS.split()]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("w") as log:
        subprocess.run(command, cwd=folder, env=one_thread, stdout=log, stderr=log, check=True)
    with h5py.File(folder / f"{name}.h5") as result:
        scores: Array = result["item_0"][:].T
    (folder / f"{name}.h5").unlink()
    return scores


def best_peaks(scores: Array, radii: Array, least: float) -> list[tuple[NDArray, int, float]]:
    """Position, template and score of each pick, best first.

    ``scores`` (templates, z, y, x) are 0 where nothing is to be picked. A pick is a maximum above
    ``least``, further from better ones than 0.9 of the larger radius (``radii``, in voxels).
    """
    which, best = scores.argmax(0), scores.max(0)
    at = np.argwhere((best == ndimage.maximum_filter(best, 5)) & (best > least))
    at = at[np.argsort(-best[tuple(at.T)])]
    reach = radii[which[tuple(at.T)]]
    kept: list[int] = []
    for i, p in enumerate(at):
        apart = 0.9 * np.maximum(reach[kept], reach[i])
        if (np.linalg.norm(at[kept] - p, axis=1) >= apart).all():
            kept.append(i)
    return [(p, int(which[tuple(p)]), float(best[tuple(p)])) for p in at[kept]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of reference data")
    parser.add_argument("--tomogram", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pytme-bin", type=Path, required=True, help="bin of pyTME's environment")
    parser.add_argument("--angle", type=float, default=20.0, help="angular step in degrees")
    parser.add_argument("--bin", type=float, default=320 / 216, help="voxels in one coarser voxel")
    parser.add_argument("--least", type=float, default=6.4, help="least score of a pick")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    marks = {"start": cpu_seconds()}
    bright, to_gold = bright_without_gold(mrcfile.read(args.tomogram).astype(np.float32))
    shape, voxel_A = tuple(round(n / args.bin) for n in bright.shape), VOXEL_A * args.bin
    write_mrc(args.out / "target.mrc", coarser(bright, shape), voxel_A)
    np.savetxt(args.out / "tilts.tlt", np.arange(-60, 61, 3), fmt="%.1f")
    grid = {"voxel_size_A": voxel_A, "box": 2 * (round(TEMPLATE_BOX / args.bin) // 2) + 1}
    made = {k: template(args.data / v, resolution_A=VOXEL_A, **grid) for k, v in STRUCTURES.items()}
    nearest = np.ix_(*(np.round(np.arange(n) * args.bin).astype(int) for n in shape))
    away = to_gold[nearest] * VOXEL_A > GOLD_MARGIN_A
    allowed = np.pad(away[EDGE:-EDGE, EDGE:-EDGE, EDGE:-EDGE], EDGE)
    marks["prepare"] = cpu_seconds()
    scores = np.zeros((len(made), *shape), np.float32)
    for k, (name, model) in enumerate(made.items()):
        found = match(args.out, name, model, args.angle, args.pytme_bin / "match_template")
        scores[k] = (found - found[allowed].mean()) / found[allowed].std() * allowed
        marks[f"match {name}"] = cpu_seconds()
    radii = np.array([m.radius_A / voxel_A for m in made.values()])
    first = best_peaks(scores, radii, LEAST_Z)
    tops = [[z for _, which, z in first if which == k][:BEST_PEAKS] for k in range(len(made))]
    for k, top in enumerate(tops):
        scores[k] /= np.sqrt(np.mean(top or [USUAL_Z]) / USUAL_Z)
    picks, names = args.out / "picks.csv", list(made)
    with picks.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["x", "y", "z", "name", "score"])
        for zyx, which, score in best_peaks(scores, radii, args.least):
            table.writerow([*np.round(zyx[::-1] * args.bin, 2), names[which], round(score, 3)])
    marks["pick"] = cpu_seconds()
    spent = dict(zip(list(marks)[1:], np.diff(list(marks.values())).tolist(), strict=True))
    spent["all"] = sum(spent.values())
    (args.out / "cpu_seconds.json").write_text(json.dumps(spent, indent=1))
    print("CPU seconds:", ", ".join(f"{k} {v:.0f}" for k, v in spent.items()), flush=True)
    judge = args.data / "independent" / "evaluate.py"
    known = ["--truth", str(judge.parent), "--json", str(args.out / "evaluation.json")]
    subprocess.run([sys.executable, str(judge), *known, "--picks", str(picks)], check=True)


if __name__ == "__main__":
    main()
