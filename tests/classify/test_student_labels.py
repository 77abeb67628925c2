"""What is written of cubes that a student labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tomadapt.classify.student_labels import ABOVE, StudentLabels
from tomadapt.data.cube_keys import CubeKeys

NAMES = ("a", "b", "null", "other")


def test_regression_every_row_says_why_it_has_its_label_or_none(tmp_path: Path) -> None:
    probabilities = np.array(
        [
            [0.99, 0.0, 0.01, 0.0],
            [0.0, 0.6, 0.4, 0.0],
            [0.1, 0.1, 0.7, 0.1],
            [0.1, 0.1, 0.1, 0.7],
        ]
    )
    labels = StudentLabels.of(probabilities, [], NAMES, 0.05)
    labels.write_csv(tmp_path / "labels.csv", [], 10.0, CubeKeys("", ()))
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["kind"], row["reason"]) for row in rows] == [
        ("a", "wanted", "wanted by the student (probability 0.99)"),
        ("null", ABOVE, "b at a false-discovery rate of 0.400, above 0.05"),
        ("null", "null", "null by the student (probability 0.80)"),
        ("null", "other", "other by the student (probability 0.80)"),
    ]
    assert {row["by"] for row in rows} == {"student"}
