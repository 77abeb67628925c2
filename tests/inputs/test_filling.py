"""Parts of volumes that were filled in."""

from __future__ import annotations

import numpy as np
import pytest

from tomadapt.data.tomogram import Tomogram
from tomadapt.inputs.filling import FILLED, constant_cells, filled_part, filling_note
from tomadapt.tomograms.extraction import extract

NOISE = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)


def half_filled() -> np.ndarray:
    volume = NOISE.copy()
    volume[..., 20:] = 7
    return volume


def test_the_part_that_is_filled() -> None:
    assert filled_part(NOISE) == 0
    assert filled_part(np.round(4 * NOISE).astype(np.int8)) == 0
    assert filled_part(half_filled()) == pytest.approx(0.5)
    cells, values = constant_cells(half_filled())
    assert cells == 1000
    assert values == [7.0] * 500


def test_a_note_only_of_cubes_that_are_filled_by_much() -> None:
    assert filling_note("t", np.array([0.0, FILLED, 0.1])) is None
    assert filling_note("t", np.zeros(0)) is None
    text = filling_note("t", np.array([0.0, 0.8, 0.5]))
    assert text is not None
    assert "2 of 3 cubes of t" in text
    assert "80%" in text


def test_extraction_knows_the_filled_part_of_each_cube() -> None:
    """Case c05: positions at the border of what was downloaded gave half-filled cubes."""
    places_A = np.array([[8.0, 20, 20], [19, 20, 20], [36, 20, 20]]) * 10
    cubes = extract(Tomogram(half_filled(), 10.0), places_A, box=8, voxel_size_A=10.0)
    assert cubes.kept.tolist() == [0, 1]  # around the third all voxels are equal
    assert cubes.filled[0] < FILLED < cubes.filled[1]
