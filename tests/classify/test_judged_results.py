"""What is written of labelled particles: poses, other formats, duplicates."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.classify.judged import find_duplicates
from tomadapt.classify.judged_results import pose_columns
from tomadapt.classify.results import write_also
from tomadapt.io.particle_lists import read_particles, write_star

BOXES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


def star(path: Path, n: int, *, boxes: bool) -> Path:
    generator = np.random.default_rng(0)
    labels = ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", *ANGLES]
    labels += BOXES if boxes else ()
    rows = []
    for number in range(n):
        angles = generator.uniform(5, 170, size=len(labels) - 4)
        words = ["TS", f"{10 * number}", "20", "30", *(f"{a:.6f}" for a in angles)]
        rows.append(" ".join(words))
    head = "\n".join(f"_{label} #{i}" for i, label in enumerate(labels, start=1))
    path.write_text(f"data_particles\n\nloop_\n{head}\n" + "\n".join(rows) + "\n")
    return path


def test_regression_a_pose_in_a_turned_box(tmp_path: Path) -> None:
    """The whole pose was written beside the box's angles, by which readers turn it again."""
    for boxes in (False, True):
        listed = read_particles(star(tmp_path / "listed.star", 6, boxes=boxes), voxel_size_A=10.0)
        found = Rotation.random(6, random_state=4)
        result: Any = SimpleNamespace(
            verdicts=SimpleNamespace(
                rotations=found.as_matrix(), label=np.array([0, 0, -1, 0, 0, -1])
            ),
            positions=SimpleNamespace(particles=listed, rows=np.arange(6)),
            options=SimpleNamespace(particles=tmp_path / "listed.star"),
            refined_A=listed.coordinates_A,
        )
        write_star(tmp_path / "written.star", listed, columns=pose_columns(result))
        written = read_particles(tmp_path / "written.star", voxel_size_A=10.0)
        assert written.rotations is not None
        off = (written.rotations * found.inv()).magnitude()
        assert off[[0, 1, 3, 4]].max() < 1e-3
        # Rows without a label are what they were, to the letter.
        assert listed.table is not None
        assert written.table is not None
        for name in ANGLES:
            before, after = listed.table.column(name), written.table.column(name)
            assert [after[i] for i in (2, 5)] == [before[i] for i in (2, 5)]


def test_regression_other_formats_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    listed = read_particles(star(tmp_path / "listed.star", 4, boxes=False), voxel_size_A=10.0)
    columns: dict[str, list[Any]] = {
        "tomadaptClassName": ["tric", "tric", "rubisco", "rubisco"],
        "tomadaptScore": [1.0] * 4,
    }

    def write(rows: list[int], *also: str) -> None:
        options: Any = SimpleNamespace(also=also)
        tomogram: Any = SimpleNamespace(voxel_size_A=10.0, shape=(8, 8, 8))
        write_also(
            tmp_path,
            listed,
            rows,
            columns,
            options=options,
            tomogram=tomogram,
            radii_A={"tric": 50.0, "rubisco": 50.0},
            classes=("tric", "rubisco", "null"),
        )

    write([0, 1, 2, 3], "csv", "copick")
    assert len(list((tmp_path / "copick").rglob("*.json"))) == 2
    write([2], "copick")
    assert not (tmp_path / "particles.csv").exists()
    (picks,) = (tmp_path / "copick").rglob("*.json")
    assert len(json.loads(picks.read_text())["points"]) == 1
    write([2])
    assert not (tmp_path / "copick").exists()


def test_of_two_in_one_place_the_surer_one_stays() -> None:
    """A cut at a rate takes the unsure one, whatever its evidence, and would lose both."""
    places = np.array([[0.0, 0, 0], [5, 0, 0], [500, 0, 0]])
    verdicts: Any = SimpleNamespace(
        label=np.array([0, 1, 0]),
        score=np.array([0.99, 0.6, 0.9]),
        evidence=np.array([[40.0, 0], [0, 60], [50, 0]]),
    )
    assert find_duplicates(places, np.full(3, 100.0), verdicts) == {1: 0}
    verdicts.score = np.array([0.991, 0.994, 0.9])  # as sure: that of more evidence
    assert find_duplicates(places, np.full(3, 100.0), verdicts) == {0: 1}
