"""Spheres of a protein's size and strength among proteins, after Maurer et al. 2024.

They found that a sphere, or an emoji, matches ribosomes about as well as a ribosome's average does
(Acta Cryst. D 80, 410). Here spheres of each class's volume are planted, as strong as the class's
particles, in the empty cubes of sets that cryoJAX made, at two voxel sizes; all cubes are labelled.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tomadapt.errors import InputError
from tomadapt.experiments.judged_sets import STATED, judge_set, read_table, structures_of
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import require_sets
from tomadapt.inputs.particles import open_target
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import wanted_structures
from tomadapt.recover.recording import recording_of
from tomadapt.runs.atomic import output_folder, write_text
from tomadapt.simulate.simulator import NULL_CLASS

SETS = {"cryojax_snr0.05": "9.2 Å", "cryojax_13A": "13 Å"}
EACH = 6
COLUMNS = ("voxels", "class", "radius, Å", "z", "particles right", "spheres named")


def run(setting: Setting) -> list[Path]:
    """Plant and label; a row for each class and voxel size."""
    data, there = require_sets(setting, tuple(SETS))
    table = partial(titled_table, f"{EACH} spheres like each class", COLUMNS)
    results = Results.of(setting, "spheres", table, "scale", "commit")
    for folder in there:
        classes, planted = _planted(folder, data)
        found = judge_set(planted, data)
        rows = []
        for name, (radius_A, z) in classes.items():
            spheres = found.label[found.truth == f"sphere like {name}"]
            row: Row = {"voxels": SETS[folder.name], "class": name, "radius, Å": radius_A, "z": z}
            row["particles right"] = float(found.right[found.truth == name].mean())
            counts = Counter(spheres[spheres != NULL_CLASS].tolist())
            row["spheres named"] = dict(counts)
            rows.append(row)
        results.add(*rows)
    return results.files


def _planted(folder: Path, data: Path) -> tuple[dict[str, tuple[float, float]], Path]:
    """The set with spheres, in a folder of its own, and each class's sphere: radius and norm."""
    cubes = open_target(folder / "cubes.mrc", contrast="positive")
    n, voxel_A = cubes.box, cubes.voxel_size_A
    truth = np.array([row["label"] for row in read_table(folder / "truth.csv")])
    empty = np.flatnonzero(truth == NULL_CLASS)
    if len(empty) < EACH:
        raise InputError(
            f"too few empty cubes in {folder}",
            expected=f"at least {EACH} called {NULL_CLASS}",
            got=len(empty),
            remedy="write the set with more",
        )
    points = recording_of(cubes, STATED).points(cubes)
    noise = Noise.of(cubes.subset(empty), points)
    structures = wanted_structures(structures_of(folder, data), box=n, voxel_size_A=voxel_A)

    def energy(rows: np.ndarray) -> float:
        return float((noise.transforms(cubes.read(rows)).abs().square() @ noise.weight).mean())

    r = np.arange(n) - n // 2
    distance = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
    added, names, classes = [], [], {}
    for structure in structures:
        voxels = float((structure.density > structure.density.max() / 2).sum())
        radius = (3 * voxels / (4 * np.pi)) ** (1 / 3)
        z = max(energy(np.flatnonzero(truth == structure.name)) - energy(empty), 1.0) ** 0.5
        sphere = 1 / (1 + np.exp(np.clip((distance - radius) / 0.35, -50, 50)))
        volume = torch.from_numpy(sphere.astype(np.float32))[None]
        seen = points.volumes(points.transforms(volume) * points.transfer)
        norm = float((noise.transforms(seen).abs().square() @ noise.weight).sqrt())
        added.append(cubes.read(empty[:EACH]) + seen * (z / norm))
        names += [f"sphere like {structure.name}"] * EACH
        classes[structure.name] = (radius * voxel_A, z)
    made = output_folder(folder.parent / f"{folder.name}_spheres")
    volumes = torch.cat([cubes.read(range(len(cubes))), *added]).numpy()
    write_mrc(made / "cubes.mrc", volumes.reshape(-1, n, n), voxel_size_A=voxel_A)
    write_text(made / "classes.json", (folder / "classes.json").read_text(encoding="utf-8"))
    lines = ["index,label", *(f"{i},{label}" for i, label in enumerate([*truth, *names]))]
    write_text(made / "truth.csv", "\n".join(lines) + "\n")
    return classes, made
