"""The particles that a run cut out of the independent tomogram, as a set of cubes with a truth.

    python third_party_tomogram.py --run RUN --independent DATA/independent --out OUT

RUN is a folder of ``tomadapt classify`` on one of its tomograms. A cube has the class of the
nearest planted particle, within 10 nm of where it was cut out; what is no named structure is
``null``. The column ``planted`` has the name of that particle, named structure or not.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from tomadapt.experiments.judged_sets import INDEPENDENT
from tomadapt.io.extracted import read_extracted
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import read_particles

ENTRIES = {"4v4r": "ribosome", "3j9i": "proteasome", "tric": "tric", "1bxn": "rubisco"}
"""What the truth calls the named structures."""
WITHIN_A, VOXEL_A = 100.0, 10.0


def main() -> None:
    """Write ``cubes.mrc``, ``truth.csv``, ``classes.json`` and ``recording.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--run", "--independent", "--out"):
        parser.add_argument(name, type=Path, required=True)
    stated = parser.parse_args()
    folder = stated.run / "subtomograms"
    cubes, card = read_extracted(folder)
    places_A = read_particles(folder / "particles.star").coordinates_A  # (n, 3) x, y, z
    with (stated.independent / "truth.csv").open(newline="", encoding="utf-8") as file:
        planted = list(csv.DictReader(file))
    centres_A = np.array([[float(row[axis]) for axis in "xyz"] for row in planted]) * VOXEL_A
    distance_A = np.linalg.norm(places_A[:, None] - centres_A[None], axis=2)  # (n, planted)
    nearest = distance_A.argmin(axis=1)
    names = [
        planted[place]["name"] if near <= WITHIN_A else ""
        for place, near in zip(nearest, distance_A.min(axis=1), strict=True)
    ]
    stated.out.mkdir(parents=True, exist_ok=True)
    n = card.box
    write_mrc(
        stated.out / "cubes.mrc",
        np.asarray(cubes, dtype=np.float32).reshape(-1, n, n),
        voxel_size_A=card.voxel_size_A,
    )
    rows = [f"{i},{ENTRIES.get(name, 'null')},{name}" for i, name in enumerate(names)]
    (stated.out / "truth.csv").write_text("\n".join(["index,label,planted", *rows]) + "\n")
    classes = {name: f"independent/{path}" for name, path in INDEPENDENT.items()}
    (stated.out / "classes.json").write_text(json.dumps(classes | {"null": None}, indent=1))
    assert card.acquisition is not None
    recording = {"defocus_um": card.acquisition.defocus_um}
    (stated.out / "recording.json").write_text(json.dumps(recording))


if __name__ == "__main__":
    main()
