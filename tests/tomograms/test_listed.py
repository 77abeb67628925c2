"""A list and a tomogram together: the sign where few particles are listed, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from confusions import RADIUS_A, world

from tomadapt.errors import ConfigError
from tomadapt.tomograms.listed import listed_with_sign, with_density_notes
from tomadapt.tomograms.positions import Positions, listed_positions


def written(path: Path, places_A: np.ndarray) -> Path:
    rows = [",".join(f"{v:.3f}" for v in row) for row in places_A]
    path.write_text("\n".join(["x_A,y_A,z_A", *rows]) + "\n")
    return path


@pytest.mark.parametrize("seed", range(3))
def test_regression_a_list_of_one_particle(tmp_path: Path, seed: int) -> None:
    """It was refused, as one particle shows no sign: the tomogram's blobs do."""
    here = world(np.random.default_rng(seed))
    every = written(tmp_path / "all.csv", here.truth_A)
    one = written(tmp_path / "one.csv", here.truth_A[:1])
    _, _, right = listed_with_sign(every, here.tomogram, contrast="measure", radius_A=48)
    _, positions, sign = listed_with_sign(one, here.tomogram, contrast="measure", radius_A=48)
    assert sign.sign == right.sign
    assert any("too few to tell" in note for note in positions.notes)


def test_wrong_places_are_told_where_the_sign_was_found_in_another_way(tmp_path: Path) -> None:
    """Labels by likelihood find the sign by structures, and must tell of empty places as well."""
    here = world(np.random.default_rng(0))

    def notes(places_A: np.ndarray, *, explained: bool) -> tuple[str, ...]:
        listed = listed_positions(written(tmp_path / "p.csv", places_A), here.tomogram)
        found: Positions = with_density_notes(
            listed, here.tomogram, radius_A=1.2 * RADIUS_A, explained=explained
        )
        return found.notes

    assert notes(here.truth_A, explained=False) == ()
    wrong = np.random.default_rng(9).uniform(0.1, 0.9, here.truth_A.shape) * here.sides_A
    assert any("do not differ" in note for note in notes(wrong, explained=False))
    with pytest.raises(ConfigError, match="order of axes"):
        listed_with_sign(
            tmp_path / "p.csv", here.tomogram, contrast="measure", radius_A=1.2 * RADIUS_A
        )
