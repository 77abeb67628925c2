"""Positions in one tomogram: what is used, what is rejected and why, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError, MismatchError
from tomadapt.io.particle_lists import read_particles
from tomadapt.tomograms.picking import Picks
from tomadapt.tomograms.positions import (
    REASON,
    listed_positions,
    picked_positions,
    write_positions,
)

TOMOGRAM = Tomogram(np.zeros((40, 50, 60), np.float32), 10.0, name="0012")


def star(rows: str, pixel_A: float = 10.0) -> str:
    return (
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n"
        f"1 {pixel_A}\n\ndata_particles\n\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n"
        "_rlnCoordinateY #3\n_rlnCoordinateZ #4\n_rlnOpticsGroup #5\n_myColumn #6\n" + rows
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_other_tomograms_and_bad_rows_are_rejected(tmp_path: Path) -> None:
    rows = (
        "0012 30 20 10 1 a\n0013 1 2 3 1 b\n0012 nan 2 3 1 c\n0012 30 20 10 1 d\n0012 5 6 7 1 e\n"
    )
    positions = listed_positions(write(tmp_path / "p.star", star(rows)), TOMOGRAM)
    assert positions.rows.tolist() == [0, 4]
    np.testing.assert_allclose(positions.coordinates_A, [[300, 200, 100], [50, 60, 70]])
    assert positions.rejected[1] == "of another tomogram: 0013"
    assert "NaN" in positions.rejected[2]
    assert "the same particle as" in positions.rejected[3]


def test_regression_tomograms_star_needs_the_wanted_tomogram_alone(tmp_path: Path) -> None:
    """A tomograms.star without a series that no wanted particle is in was refused (case c14)."""
    rows = "0012 -50 20 10\n0013 1 2 3\n0012 40 -30 20\n"
    labels = [f"_rlnCenteredCoordinate{axis}Angst #{n}" for n, axis in enumerate("XYZ", 2)]
    listed = "data_particles\n\nloop_\n_rlnTomoName #1\n" + "\n".join(labels) + f"\n{rows}"
    sizes = "".join(f"_rlnTomoSize{axis} #{n}\n" for n, axis in enumerate("XYZ", 2))
    head = f"data_global\n\nloop_\n_rlnTomoName #1\n{sizes}_rlnTomoTiltSeriesPixelSize #5\n"
    own = write(tmp_path / "own.star", head + "0012 240 200 160 2.5\n")
    path = write(tmp_path / "p.star", listed)
    positions = listed_positions(path, TOMOGRAM, tomograms=own)
    np.testing.assert_allclose(positions.coordinates_A, [[250, 270, 210], [340, 220, 220]])
    assert dict(positions.rejected) == {1: "of another tomogram: 0013"}
    # What is wanted is needed, and is named with its line.
    other = write(tmp_path / "other.star", head + "0013 240 200 160 2.5\n")
    with pytest.raises(InputError, match=r"line 8.*other.star has no size of .*'0012'"):
        listed_positions(path, TOMOGRAM, tomograms=other)
    with pytest.raises(InputError, match=r"row 2 \(line 9\).* no size of its tomogram '0013'"):
        read_particles(path, tomograms=own)


def test_regression_shifts_in_pixels_of_particles_whose_tomogram_is_not_listed(
    tmp_path: Path,
) -> None:
    """They have no pixel size, and the whole list was refused for it."""
    labels = ["rlnTomoName", *(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")]
    labels += [f"rlnOrigin{axis}" for axis in "XYZ"]
    columns = "\n".join(f"_{label}" for label in labels)
    rows = "0012 -50 20 10 2 0 0\n0013 1 2 3 4 5 6\n"
    path = write(tmp_path / "p.star", f"data_particles\n\nloop_\n{columns}\n{rows}")
    sizes = "".join(f"_rlnTomoSize{axis}\n" for axis in "XYZ")
    head = f"data_global\n\nloop_\n_rlnTomoName\n{sizes}_rlnTomoTiltSeriesPixelSize\n"
    own = write(tmp_path / "own.star", head + "0012 240 200 160 2.5\n")
    positions = listed_positions(path, TOMOGRAM, tomograms=own)
    np.testing.assert_allclose(positions.coordinates_A, [[250 - 5, 270, 210]])
    assert dict(positions.rejected) == {1: "of another tomogram: 0013"}


def test_files_hold_every_row_once(tmp_path: Path) -> None:
    """As many rows as were listed, each unchanged, in one of the two files."""
    rows = "0012 30 20 10 1 a\n0013 1 2 3 1 b\n0012 5 6 7 1 c\n0012 8 6 7 1 d\n"
    positions = listed_positions(write(tmp_path / "p.star", star(rows)), TOMOGRAM)
    kept = positions.without({1: "its box reaches out"})  # the second of those used: row 2
    write_positions(tmp_path, kept)
    used = read_particles(tmp_path / "particles.star")
    left = read_particles(tmp_path / "rejected.star")
    assert used.table is not None
    assert left.table is not None
    assert used.table.column("myColumn") == ("a", "d")
    assert left.table.column("myColumn") == ("b", "c")
    assert left.table.column(REASON) == ("of another tomogram: 0013", "its box reaches out")


def test_nothing_rejected_leaves_an_empty_file(tmp_path: Path) -> None:
    positions = listed_positions(write(tmp_path / "p.star", star("0012 30 20 10 1 a\n")), TOMOGRAM)
    write_positions(tmp_path, positions)
    assert len(read_particles(tmp_path / "rejected.star")) == 0


def test_one_tomogram_may_have_another_name(tmp_path: Path) -> None:
    path = write(tmp_path / "p.star", star("TS_12 30 20 10 1 a\n"))
    positions = listed_positions(path, TOMOGRAM)
    assert len(positions.rows) == 1
    assert "'TS_12'" in positions.notes[0]
    assert "'0012'" in positions.notes[0]


@pytest.mark.parametrize("name", ["0012.mrc", "0012.tomostar", "tomograms/0012.rec"])
def test_endings_and_folders_of_names_do_not_count(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "p.star", star(f"{name} 30 20 10 1 a\n0013.mrc 1 2 3 1 b\n"))
    assert listed_positions(path, TOMOGRAM).rows.tolist() == [0]


def test_several_others_are_no_particles_of_this_one(tmp_path: Path) -> None:
    path = write(tmp_path / "p.star", star("12 30 20 10 1 a\n13 30 20 10 1 a\n"))
    with pytest.raises(InputError, match=r"no particles of tomogram '0012'.*got 12, 13"):
        listed_positions(path, TOMOGRAM)


@pytest.mark.parametrize("pixel_A", [2.5, 5.0, 10.0])
def test_pixels_of_the_tilt_series(tmp_path: Path, pixel_A: float) -> None:
    """RELION 4 counts in the tilt series' pixels, whatever the tomogram's binning."""
    at = 100 / pixel_A
    path = write(tmp_path / "p.star", star(f"0012 {at} {at} {at} 1 a\n", pixel_A))
    np.testing.assert_allclose(listed_positions(path, TOMOGRAM).coordinates_A, [[100, 100, 100]])


def test_voxel_sizes_that_do_not_belong_together(tmp_path: Path) -> None:
    path = write(tmp_path / "p.star", star("0012 30 20 10 1 a\n", 7.84))
    with pytest.raises(MismatchError, match=r"pixels of 7\.84 Å, tomogram at 10 Å"):
        listed_positions(path, TOMOGRAM)
    # Who states the list's own size has thought about it.
    stated = listed_positions(path, TOMOGRAM, pixel_size_A=7.84)
    np.testing.assert_allclose(stated.coordinates_A, [[235.2, 156.8, 78.4]])


OPTICS_OF_TWO = "1 10.0\n", "1 10.0\n2 7.84\n"


def test_pixels_of_other_tomograms_do_not_matter(tmp_path: Path) -> None:
    """Most rows are of another tomogram, whose series was recorded at another pixel size."""
    rows = "0012 30 20 10 1 a\n" + "".join(f"0013 {n} 2 3 2 b\n" for n in range(3))
    path = write(tmp_path / "p.star", star(rows).replace(*OPTICS_OF_TWO))
    assert listed_positions(path, TOMOGRAM).rows.tolist() == [0]


def test_pixels_of_other_tomograms_do_not_hide_a_wrong_one(tmp_path: Path) -> None:
    rows = "0012 30 20 10 2 a\n" + "".join(f"0013 {n} 2 3 1 b\n" for n in range(3))
    path = write(tmp_path / "p.star", star(rows).replace(*OPTICS_OF_TWO))
    with pytest.raises(MismatchError, match=r"pixels of 7\.84 Å, tomogram at 10 Å"):
        listed_positions(path, TOMOGRAM)


@pytest.mark.parametrize(
    ("rows", "got"), [("", "no rows"), ("0012 nan 2 3 1 c\n", "got .*NaN")], ids=["none", "bad"]
)
def test_nothing_to_be_used_is_told_at_once(tmp_path: Path, rows: str, got: str) -> None:
    with pytest.raises(InputError, match=rf"no particle that can be used.*{got}"):
        listed_positions(write(tmp_path / "p.star", star(rows)), TOMOGRAM)


def test_most_outside_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.star", star("0012 300 200 100 1 a\n0012 5 6 7 1 b\n0012 90 9 9 1 c"))
    with pytest.raises(MismatchError, match=r"2 of 3 particles.*590 × 490 × 390 Å.*3000"):
        listed_positions(path, TOMOGRAM)


def test_lists_without_a_pixel_size_count_in_voxels(tmp_path: Path) -> None:
    words = ["1"] * 3 + ["0"] * 16 + ["1"] + ["0"] * 3 + ["30", "20", "10"] + ["0"] * 9
    path = write(tmp_path / "p.tbl", " ".join(words) + "\n")
    # Dynamo counts from the first voxel's corner.
    positions = listed_positions(path, TOMOGRAM)
    np.testing.assert_allclose(positions.coordinates_A, [[295, 195, 95]])
    assert "taken for the tomogram's voxels of 10 Å" in positions.notes[0]
    assert listed_positions(path, TOMOGRAM, pixel_size_A=10).notes == ()


def test_picks_become_a_list(tmp_path: Path) -> None:
    picks = Picks(np.array([[100.0, 50, 20], [30, 40, 50]]), np.array([9.0, 5.0]), 4.0)
    positions = picked_positions(TOMOGRAM, picks)
    write_positions(tmp_path, positions)
    again = read_particles(tmp_path / "particles.star")
    np.testing.assert_allclose(again.coordinates_A, picks.coordinates_A, atol=1e-4)
    assert again.tomograms == ("0012", "0012")


class TestSizesOfTomograms:
    """RELION 5 counts from the centre, and its tomograms.star says how large tomograms are."""

    def files(self, folder: Path, z_pixels: int) -> tuple[Path, Path]:
        listed = write(
            folder / "p.star",
            "data_particles\n\nloop_\n_rlnTomoName #1\n_rlnCenteredCoordinateXAngst #2\n"
            "_rlnCenteredCoordinateYAngst #3\n_rlnCenteredCoordinateZAngst #4\n"
            "_rlnTomoTiltSeriesPixelSize #5\n0012 10 20 30 2.5\n0012 -90 20 -60 2.5\n",
        )
        tomograms = write(
            folder / "tomograms.star",
            "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\n_rlnTomoSizeY #3\n"
            "_rlnTomoSizeZ #4\n_rlnTomoTiltSeriesPixelSize #5\n"
            f"0012 240 200 {z_pixels} 2.5\n",
        )
        return listed, tomograms

    def test_both_say_the_same(self, tmp_path: Path) -> None:
        listed, tomograms = self.files(tmp_path, 160)
        with_file = listed_positions(listed, TOMOGRAM, tomograms=tomograms)
        assert with_file.notes == ()
        np.testing.assert_allclose(with_file.coordinates_A, [[310, 270, 230], [210, 270, 140]])
        without = listed_positions(listed, TOMOGRAM)
        np.testing.assert_allclose(without.coordinates_A, with_file.coordinates_A)

    def test_regression_a_volume_that_is_thinner(self, tmp_path: Path) -> None:
        """800 × 720 × 400 Å stated and 280 Å given were 60 Å off, in silence (relion #1137)."""
        listed, tomograms = self.files(tmp_path, 208)
        found = listed_positions(listed, TOMOGRAM, tomograms=tomograms)
        np.testing.assert_allclose(found.coordinates_A[:, 2], [230, 140])
        (told,) = found.notes
        assert "600 × 500 × 400 Å" in told
        assert "0, 0, 60 Å from that stated" in told

    def test_regression_a_corner_in_a_volume_of_another_size(self, tmp_path: Path) -> None:
        """RELION 4 counts from the corner: of a volume cut about its centre that was 60 Å off."""
        _, tomograms = self.files(tmp_path, 208)
        path = write(tmp_path / "q.star", star("0012 40 20 16 1 a\n0012 5 6 7 1 b\n", 2.5))
        found = listed_positions(path, TOMOGRAM, tomograms=tomograms)
        assert found.coordinates_A[0].tolist() == [100, 50, 40]
        (told,) = found.notes
        assert "0, 0, 60 Å off" in told

    def test_regression_a_tilt_series_twice_in_tomograms_star(self, tmp_path: Path) -> None:
        """Two sessions joined: the second one's size was taken for both."""
        listed, tomograms = self.files(tmp_path, 160)
        tomograms.write_text(tomograms.read_text() + "0012 240 200 208 2.5\n")
        with pytest.raises(InputError, match="has the tomogram '0012' twice"):
            listed_positions(listed, TOMOGRAM, tomograms=tomograms)

    def test_regression_another_pixel_size_in_tomograms_star(self, tmp_path: Path) -> None:
        _, tomograms = self.files(tmp_path, 160)
        path = write(tmp_path / "q.star", star("0012 40 20 16 1 a\n0012 5 6 7 1 b\n", 2.6))
        found = listed_positions(path, TOMOGRAM, tomograms=tomograms)
        assert any("has 2.5 Å for this tilt series" in note for note in found.notes)

    OF_TWO = (
        "data_\n\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "_rlnCoordinateZ #4\n_rlnTomoTiltSeriesPixelSize #5\n"
        "0013 20 10 8 5\n0012 40 20 16 2.5\n0012 5 6 7 2.5\n"
    )

    def test_regression_pixels_of_other_tilt_series_are_not_held_against_this_one(
        self, tmp_path: Path
    ) -> None:
        """Two series of 5 and 2.5 Å, both right: told was that they are not the same."""
        _, tomograms = self.files(tmp_path, 160)
        tomograms.write_text(tomograms.read_text() + "0013 120 100 80 5\n")
        found = listed_positions(
            write(tmp_path / "q.star", self.OF_TWO), TOMOGRAM, tomograms=tomograms
        )
        assert found.rows.tolist() == [1, 2]
        assert found.notes == ()

    def test_regression_the_size_in_pixels_is_of_this_series_own(self, tmp_path: Path) -> None:
        """Without pixel sizes in tomograms.star, the first row's counted, of another series."""
        tomograms = write(
            tmp_path / "t.star",
            "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoSizeX #2\n_rlnTomoSizeY #3\n"
            "_rlnTomoSizeZ #4\n0013 120 100 80\n0012 240 200 160\n",
        )
        found = listed_positions(
            write(tmp_path / "q.star", self.OF_TWO), TOMOGRAM, tomograms=tomograms
        )
        assert found.notes == ()


@pytest.mark.parametrize("spacing", [7.84, 40.0])
def test_regression_coordinates_in_angstrom_need_no_fitting_pixels(
    tmp_path: Path, spacing: float
) -> None:
    """copick's picks were refused where they were made in a volume of other voxels."""
    points = (
        '[{"location": {"x": 100, "y": 90, "z": 80}}, {"location": {"x": 300, "y": 9, "z": 8}}]'
    )
    text = f'{{"run_name": "0012", "voxel_spacing": {spacing}, "points": {points}}}'
    found = listed_positions(write(tmp_path / "p.json", text), TOMOGRAM)
    assert found.coordinates_A[0].tolist() == [100, 90, 80]
    (told,) = found.notes
    assert "coordinates are in Å" in told


def test_regression_the_scale_that_is_checked_is_the_one_that_was_used(tmp_path: Path) -> None:
    """WarpTools' coordinates count in the pixels exported, and the tilt series' were checked."""
    text = (
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "_rlnCoordinateZ #4\n_rlnImagePixelSize #5\n_rlnTomoTiltSeriesPixelSize #6\n"
        "0012.tomostar 30 20 10 10 7.84\n0012.tomostar 3 2 1 10 7.84\n"
    )
    found = listed_positions(write(tmp_path / "p.star", text), TOMOGRAM)
    np.testing.assert_allclose(found.coordinates_A[0], [300, 200, 100])
    assert "coordinates in pixels of 10 Å, tomogram at 10 Å" in found.assumed["coordinates"]


def test_one_sentence_says_what_each_decision_rests_on(tmp_path: Path) -> None:
    path = write(tmp_path / "p.star", star("0012 40 20 16 1 a\n0013 5 6 7 1 b\n", 1.35))
    assumed = listed_positions(path, TOMOGRAM).assumed
    assert assumed["coordinates"] == (
        "coordinates in pixels of 1.35 Å, tomogram at 10 Å: 7.407 pixels a voxel"
    )
    assert assumed["tomogram names"] == "rows of '0012' are taken"


RIBOSOME = Tomogram(TOMOGRAM.density, 10.0, name="ribosome")


@pytest.mark.parametrize("label", ["tomadaptClassName", "rlnClassNumber"])
@pytest.mark.parametrize("named", [True, False])
def test_regression_classes_name_no_tomograms(tmp_path: Path, label: str, named: bool) -> None:
    """Of a labelled list in ribosome.mrc the rows of other classes were left out."""
    name = "_rlnTomoName #6\n" if named else ""
    rows = "".join(
        f"{n + 5} {9 - n} {n} 10 {kind}{' ribosome' if named else ''}\n"
        for n, kind in enumerate(("ribosome", "tric", "tric"))
    )
    text = (
        "data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
        f"_rlnPixelSize #4\n_{label} #5\n{name}{rows}"
    )
    assert len(listed_positions(write(tmp_path / "p.star", text), RIBOSOME).rows) == 3


@pytest.mark.parametrize("column", ["tomogram", "my_name"])
def test_regression_a_column_decides_only_where_the_list_names_no_tomogram(
    tmp_path: Path, column: str
) -> None:
    """A table whose tomogram is ribosome in every row lost those of another species."""
    rows = "5,6,7,ribosome,ribosome\n8,9,10,ribosome,tric\n9,11,20,ribosome,tric\n"
    path = write(tmp_path / "p.csv", f"x,y,z,{column},species\n{rows}")
    found = listed_positions(path, RIBOSOME)
    if column == "tomogram":
        assert len(found.rows) == 3
        assert not [note for note in found.notes if "species" in note]
    else:  # nothing else names tomograms: what is taken is told
        assert len(found.rows) == 1
        assert any("in its column csv_species" in note for note in found.notes)


@pytest.mark.parametrize("size", [True, False])
def test_regression_coordinates_that_are_there_twice(tmp_path: Path, size: bool) -> None:
    """A list with pixels and centred coordinates: the centred were taken, others unmentioned."""
    axes = [f"_rlnCoordinate{a}" for a in "XYZ"]
    axes += [f"_rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
    optics = "\n_rlnTomoTiltSeriesPixelSize #2\n1 2.5\n" if size else "\n1\n"
    head = (
        f"data_optics\n\nloop_\n_rlnOpticsGroup #1{optics}\ndata_particles\n\nloop_\n"
        "_rlnTomoName\n" + "\n".join(axes) + "\n_rlnOpticsGroup\n"
    )
    # The middle of the tomogram is at 300, 250, 200 Å.
    agreeing = "0012 130 100 90 27 -2 25 1\n0012 100 100 80 -50 4 0 1\n"
    path = write(tmp_path / "p.star", head + agreeing + "0013 900 900 900 1 1 1 1\n")
    notes = listed_positions(path, TOMOGRAM).notes
    if not size:
        assert "no rlnTomoTiltSeriesPixelSize by which they could be compared" in " ".join(notes)
        return
    assert notes == ()
    path = write(tmp_path / "q.star", head + agreeing + "0012 120 100 80 60 0 0 1\n")
    positions = listed_positions(path, TOMOGRAM)
    (note,) = positions.notes
    assert "contradict one another: 1 of 3 particles are up to 6 voxels apart" in note
    assert "those from the centre are taken" in note
    np.testing.assert_allclose(positions.coordinates_A[2], [360, 250, 200])
