"""A list and a tomogram together: the sign where few particles are listed, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from confusions import RADIUS_A, world

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.tomograms.listed import listed_with_sign, placed, with_density_notes
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


@pytest.mark.parametrize("radius_A", [50, 160])
@pytest.mark.parametrize("pixels_a_voxel", [4, 10 / 2.48])
def test_regression_the_density_decides_between_a_rounded_header_and_a_chosen_size(
    pixels_a_voxel: float, radius_A: float, tmp_path: Path
) -> None:
    """Case c19: a header of 10 Å and pixels of 2.48 Å, which is 4 pixels a voxel, or 4.032.

    Places were up to 6.2 voxels off where the header is rounded (relion #582); where somebody chose
    voxels of 10 Å, as WarpTools asks for them, both sizes are right and must count. A box that is
    far larger than the particles, and whose size is taken for theirs, must not change that.
    """
    rng = np.random.default_rng(8)
    voxels = rng.permutation(np.arange(15, 790, 30))
    places = np.stack([voxels, rng.integers(10, 22, 26), rng.integers(9, 15, 26)], axis=1)
    volume = rng.normal(size=(24, 32, 800)).astype(np.float32) * 0.3
    z, y, x = np.indices(volume.shape)
    for place in places:
        squares = sum((a - c) ** 2 for a, c in zip((x, y, z), place, strict=True))
        volume += squares < 16
    rows = [" ".join(["t", *(f"{c * pixels_a_voxel:.4f}" for c in place)]) for place in places]
    labels = ["rlnTomoName", *(f"rlnCoordinate{axis}" for axis in "XYZ")]
    head = "data_optics\n\n_rlnOpticsGroup 1\n_rlnTomoTiltSeriesPixelSize 2.48\n\n"
    columns = "\n".join(f"_{label}" for label in labels)
    text = f"{head}data_particles\n\nloop_\n{columns}\n" + "\n".join(rows) + "\n"
    (tmp_path / "p.star").write_text(text)
    _, positions, sign = listed_with_sign(
        tmp_path / "p.star", Tomogram(volume, 10.0, name="t"), contrast="measure", radius_A=radius_A
    )
    np.testing.assert_allclose(positions.coordinates_A / 10, places, atol=0.01)
    assert sign.sign == 1
    decided = "4 pixels a voxel are taken"
    assert any(decided in note for note in positions.notes) == (pixels_a_voxel == 4)
    assert (decided in positions.assumed["coordinates"]) == (pixels_a_voxel == 4)
    assert any("if one of them is rounded" in n for n in positions.notes) == (pixels_a_voxel != 4)


def test_regression_a_second_scale_that_puts_particles_outside_is_not_tried(tmp_path: Path) -> None:
    """A particle at voxel 797 of 800 was refused: at 4 pixels a voxel it would lie at 803."""
    volume = np.random.default_rng(0).normal(size=(24, 32, 800)).astype(np.float32)
    pixels = " ".join(f"{v * 10 / 2.48:.3f}" for v in (797, 16, 12))
    labels = "\n".join(["_rlnTomoName", *(f"_rlnCoordinate{axis}" for axis in "XYZ")])
    head = "data_optics\n\n_rlnOpticsGroup 1\n_rlnTomoTiltSeriesPixelSize 2.48\n\n"
    text = f"{head}data_particles\n\nloop_\n{labels}\nt {pixels}\n"
    (tmp_path / "p.star").write_text(text)
    positions = placed(tmp_path / "p.star", Tomogram(volume, 10.0, name="t"), radii_A=(50,))
    np.testing.assert_allclose(positions.coordinates_A, [[7970, 160, 120]], atol=0.1)


@pytest.mark.parametrize("box_radius_A", [48.0, 96.0])
def test_regression_places_that_count_from_one_are_told_whatever_the_box(
    box_radius_A: float, tmp_path: Path
) -> None:
    """Every cube was off by two voxels along each axis, and only doctor said so."""
    here = world(np.random.default_rng(0))
    moved = here.truth_A + 2 * here.tomogram.voxel_size_A
    _, positions, _ = listed_with_sign(
        written(tmp_path / "p.csv", moved),
        here.tomogram,
        contrast="measure",
        radius_A=box_radius_A,
    )
    assert any("were moved by -2, -2, -2 voxels" in note for note in positions.notes)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 1e4])
def test_regression_a_few_spoilt_voxels_do_not_hide_the_particles(
    spoilt: float, tmp_path: Path
) -> None:
    """Extraction stopped, for particles that do not differ from their surroundings."""
    here = world(np.random.default_rng(0))
    volume = np.array(here.tomogram.block((0, 0, 0), here.tomogram.shape))
    rng = np.random.default_rng(1)
    volume.flat[rng.choice(volume.size, volume.size // 5000, replace=False)] = spoilt
    tomogram = Tomogram(volume, here.tomogram.voxel_size_A, name=here.tomogram.name)
    path = written(tmp_path / "p.csv", here.truth_A)
    signs = [
        listed_with_sign(path, t, contrast="measure", radius_A=1.2 * RADIUS_A)[2].sign
        for t in (here.tomogram, tomogram)
    ]
    assert signs[0] == signs[1] != 0
