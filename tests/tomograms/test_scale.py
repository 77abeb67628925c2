"""Pixels of lists against voxels of tomograms: what is right, doubtful and wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tomadapt.tomograms.scale import collapsed, lattice_spacing, placement_notes, scale_of

SHAPE = (200, 512, 720)


@pytest.mark.parametrize("pixel_A", [10.0, 5.0, 2.5, 1.35, 1.54, 2.17, 10.0005])
def test_regression_tomograms_reconstructed_at_any_size(pixel_A: float) -> None:
    """RELION 5 and WarpTools reconstruct at 10 Å what was recorded at 1.35 Å (relion #1334)."""
    scale = scale_of(pixel_A, 10.0, SHAPE)
    assert (scale.doubt, scale.wrong) == (None, None)
    assert scale.ratio == pytest.approx(10.0 / pixel_A)
    assert f"{pixel_A:g} Å" in scale.text


def test_regression_a_rounded_header_is_told() -> None:
    """4 × 2.48 Å were rounded to 10 Å (relion #582): 1 % at the far corner are 5.8 voxels."""
    scale = scale_of(2.48, 10.0, SHAPE)
    assert scale.wrong is None
    assert scale.doubt is not None
    assert "up to 5.8 voxels off (--voxel-size 9.92" in scale.doubt
    assert scale_of(2.48, 10.0, (40, 40, 40)).doubt is None  # a third of a voxel


@pytest.mark.parametrize(
    ("pixel_A", "why"), [(0.135, "nanometres"), (20.0, "finer"), (7.84, "one of both")]
)
def test_sizes_that_cannot_belong_together(pixel_A: float, why: str) -> None:
    scale = scale_of(pixel_A, 10.0, SHAPE)
    assert scale.wrong is not None
    assert why in scale.wrong


def spread(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, np.array(SHAPE[::-1]) - 1, (n, 3))


def test_particles_all_over_a_tomogram_are_not_remarked() -> None:
    assert placement_notes(spread(50), SHAPE) == []
    assert collapsed(spread(50)) is None


def test_one_corner_one_plane_and_outside() -> None:
    (corner,) = placement_notes(0.2 * spread(50), SHAPE)
    assert "20%" in corner.replace("19%", "20%")
    flat = spread(50)
    flat[:, 2] = 7
    (plane,) = placement_notes(flat, SHAPE)
    assert "the same z" in plane
    some = spread(50)
    some[:3, 0] = 900
    (outside,) = placement_notes(some, SHAPE)
    assert outside.startswith("3 of 50 listed particles lie outside")
    assert placement_notes(0.2 * spread(5), SHAPE) == []  # five may well lie in a corner


def test_regression_one_pixel_a_voxel() -> None:
    """The sentence said 1 pixels a voxel."""
    assert scale_of(10.0, 10.0, SHAPE).text.endswith("tomogram at 10 Å: 1 pixel a voxel")
    assert scale_of(5.0, 10.0, SHAPE).text.endswith("2 pixels a voxel")


def test_regression_fractions_of_the_volume_are_one_place() -> None:
    """WarpTools' template matching writes 0 … 1 (warp #182): 24 copies of the corner voxel."""
    why = collapsed(np.random.default_rng(0).random((24, 3)))
    assert why is not None
    assert "fractions of the volume" in why
    elsewhere = collapsed(300 + np.random.default_rng(0).random((24, 3)))
    assert elsewhere is not None
    assert "fractions" not in elsewhere
    assert collapsed(np.zeros((1, 3))) is None


def test_regression_places_on_a_lattice_are_told() -> None:
    """A grid over the volume, or picks of a tomogram of coarser voxels, went through in silence."""
    grid = np.floor(spread(50) / 8) * 8 + 3.5
    (told,) = placement_notes(grid, SHAPE)
    assert "lattice of 8 × 8 × 8 voxels" in told
    assert placement_notes(np.round(spread(50)), SHAPE) == []  # whole voxels are usual
    assert placement_notes(np.round(spread(50) / 2) * 2, SHAPE) == []  # and binning by 2
    assert lattice_spacing(np.array([1.0, 1.0])) == 0
    assert lattice_spacing(np.array([0.0, 7.407, 22.221, 14.814])) == pytest.approx(7.407, abs=0.01)
