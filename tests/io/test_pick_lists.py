"""Lists of pickers without RELION's columns; what is damaged, and what is no list, says what it is.

That each format's places are right is shown in ``test_ecosystems``, with the sources.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor import examine
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.extracted import ExtractedCard
from tomadapt.io.particle_lists import ParticleList, read_particles, write_csv, write_star
from tomadapt.tomograms.extracting import extract_to_folder
from tomadapt.tomograms.positions import listed_positions

AT = np.array([[4.0, 5.0, 6.0], [14.5, 20.25, 8.0], [30.0, 9.0, 11.0]])
SHAPE = (21, 36, 41)
VOXEL_A = 10.0
NOISE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
TOMOGRAM = Tomogram(NOISE, VOXEL_A, name="TS_01")


def read(folder: Path, text: str, name: str = "list", **options: Any) -> ParticleList:
    (folder / name).write_text(text)
    return read_particles(folder / name, **{"voxel_size_A": VOXEL_A, "strict": False} | options)


def problem_of(path: Path, *more: Path) -> str:
    """What doctor says that cannot be read."""
    report = examine([path, *more]).files[0]
    return " ".join(f.text for f in report.findings if f.key == "readable")


def written_tomogram(folder: Path) -> Path:
    with mrcfile.new(folder / "TS_01.mrc") as mrc:
        mrc.set_data(NOISE)
        mrc.voxel_size = VOXEL_A
    return folder / "TS_01.mrc"


def dynamo(**cells: str) -> str:
    """A table whose second row has other words, by ``c`` and the number of the column."""
    rows = []
    for n, place in enumerate(AT):
        row = [str(n + 1), *["0"] * 34]
        row[9], row[19] = "0.31", "1"
        row[23:26] = [f"{c + 0.5}" for c in place]
        for column, word in cells.items() if n == 1 else ():
            row[int(column[1:]) - 1] = word
        rows.append(" ".join(row) + "\n")
    return "".join(rows)


def portal(*, turned: bool = False, **second: Any) -> str:
    points: list[dict[str, Any]] = [
        {
            "type": "orientedPoint" if turned else "point",
            "location": dict(zip("xyz", place, strict=True)),
        }
        for place in AT.tolist()
    ]
    for n, point in enumerate(points if turned else []):
        matrix = Rotation.from_euler("ZYZ", [10, 20 + n, 30], degrees=True).inv().as_matrix()
        point["xyz_rotation_matrix"] = matrix.tolist()
    points[1] |= second
    return "\n".join(map(json.dumps, points)) + "\n"


def eman2(*, boxes: Any = None, **content: Any) -> str:
    given = [[*place, "manual", 0.5, 1] for place in AT.tolist()] if boxes is None else boxes
    classes = {"0": {"name": "fiducial", "boxsize": 32}, "1": {"name": "ribosome", "boxsize": 32}}
    return json.dumps({"boxes_3d": given, "class_list": classes} | content)


def cbox(*, z: str = "", without: str = "-") -> str:
    labels = ["CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Confidence"]
    head = "".join(f"_{label} #{n}\n" for n, label in enumerate(labels, 1))
    rows = "".join(f"{x - 4} {y - 4} {z or at_z} 8 8 <NA>\n" for x, y, at_z in AT)
    return f"data_cryolo\n\nloop_\n{head}{rows}".replace(f"_{without} ", "_other ")


def points(form: str = "{} {} {}\n") -> str:
    return "".join(form.format(*place) for place in AT)


class TestComplexNumbers:
    """Case c03: Matlab writes all of a table complex where one number is."""

    @pytest.mark.parametrize("column", ["c1", "c7", "c10", "c20", "c22", "c24"])
    def test_regression_the_real_part_counts_where_the_other_is_0(
        self, column: str, tmp_path: Path
    ) -> None:
        plain = read(tmp_path, dynamo(**{column: "1.5"}))
        for imaginary in ("+1.7e-06i", "-0.0001i", "+0i"):
            found = read(tmp_path, dynamo(**{column: f"1.5{imaginary}"}))
            np.testing.assert_array_equal(found.coordinates_A, plain.coordinates_A)
            np.testing.assert_array_equal(found.scores, plain.scores)
            assert (found.tomograms, found.classes) == (plain.tomograms, plain.classes)
            assert found.extra_columns == plain.extra_columns
            assert found.rotations is not None
            assert plain.rotations is not None
            assert found.rotations.approx_equal(plain.rotations).all()

    def test_regression_another_is_named_by_row_and_value(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"row 2 \(line 2\): column 7 .* '1\+0.2i'"):
            read(tmp_path, dynamo(c7="1+0.2i"))
        lines = dynamo(c24="3+4i").splitlines(keepends=True)  # in the first row it is a table too
        with pytest.raises(InputError, match=r"row 1 \(line 1\): column 24 .* '3\+4i'"):
            read(tmp_path, "".join([lines[1], lines[0], lines[2]]))

    def test_regression_doctor_says_why_a_later_row_is_none(self, tmp_path: Path) -> None:
        """It said that the pixel size was unknown, with a tomogram that states it and without."""
        (tmp_path / "t.tbl").write_text(dynamo(c7="1+0.2i"))
        for more in ((), (written_tomogram(tmp_path),)):
            assert "row 2 (line 2): column 7" in problem_of(tmp_path / "t.tbl", *more)


class TestPortal:
    def test_poses_are_those_of_the_angles_that_they_came_from(self, tmp_path: Path) -> None:
        found = read(tmp_path, portal(turned=True))
        labels = [f"rlnCoordinate{axis}" for axis in "XYZ"]
        labels += ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
        star = "data_\nloop_\n" + "".join(f"_{label}\n" for label in labels)
        same = read(tmp_path, star + "".join(f"{n} 1 1 10 {20 + n} 30\n" for n in range(3)))
        assert found.rotations is not None
        assert same.rotations is not None
        assert found.rotations.approx_equal(same.rotations).all()

    def test_instances_are_kept(self, tmp_path: Path) -> None:
        found = read(tmp_path, portal(type="instancePoint", instance_id=7))
        assert found.extra_columns == {"portalInstanceId": ("", "7", "")}

    @pytest.mark.parametrize(
        ("second", "why"),
        [
            ({"location": {"x": 1, "y": 2}}, "no 'z'"),
            ({"location": [1, 2, 3]}, "list indices"),
            ({"location": {"x": "a", "y": 2, "z": 3}}, "could not convert"),
            ({"location": {"x": 10**400, "y": 2, "z": 3}}, "too large"),
            ({"type": "orientedPoint"}, "no 'xyz_rotation_matrix'"),
            ({"xyz_rotation_matrix": [[1, 0], [0, 1]]}, "3×3"),
            ({"xyz_rotation_matrix": np.diag([1, 1, -1]).tolist()}, "mirrors"),
        ],
    )
    def test_damage_names_the_format_and_the_line(
        self, second: dict[str, Any], why: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=rf"line 2, an annotation of the CryoET.*{why}"):
            read(tmp_path, portal(**second))

    def test_cut_off(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="line 3, an annotation of the CryoET Data Portal"):
            read(tmp_path, portal()[:-10])

    def test_a_rotation_in_some_lines_alone(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="1 of 3"):
            read(tmp_path, portal(xyz_rotation_matrix=np.eye(3).tolist()))


class TestEman2:
    def test_classes_scores_and_the_tomogram(self, tmp_path: Path) -> None:
        found = read(tmp_path, eman2(), "TS_01_info.json", tomogram="TS_01__bin4")
        assert found.classes == ("ribosome",) * 3
        assert found.tomograms == ("TS_01__bin4",) * 3
        assert found.scores is not None
        assert found.scores.tolist() == [0.5] * 3
        assert found.extra_columns == {"eman2Method": ("manual",) * 3}
        other = read(tmp_path, eman2(), "TS_01_info.json", tomogram="TS_02")
        assert other.tomograms == ("TS_01",) * 3

    def test_short_boxes_and_none(self, tmp_path: Path) -> None:
        assert read(tmp_path, eman2(boxes=[[1, 2, 3]])).classes == ("fiducial",)
        assert len(read(tmp_path, eman2(boxes=[]))) == 0

    def test_from_the_centre_the_extent_is_needed(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="tomogram's centre"):
            read(tmp_path, eman2(apix_unbin=VOXEL_A))

    def test_regression_boxes_that_contradict_their_origin(self, tmp_path: Path) -> None:
        """Case c12: ``apix_unbin`` says from the centre, the boxes count from the corner."""
        path = tmp_path / "TS_01_info.json"
        path.write_text(eman2(apix_unbin=VOXEL_A))
        with pytest.raises(MismatchError, match="take apix_unbin out"):
            listed_positions(path, TOMOGRAM)
        assert "contradict themselves" in problem_of(path, written_tomogram(tmp_path))

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"boxes": {"0": [1, 2, 3]}}, "a list as boxes_3d"),
            ({"boxes": [[1, 2, 3], [1, 2]]}, "box 2"),
            ({"boxes": [[1, 2, 3], 7]}, "box 2"),
            ({"boxes": [[1, "b", 3]]}, "box 1"),
            ({"boxes": [[1, 2, 3, "tm", "best", 0]]}, "box 1"),
            ({"apix_unbin": [1]}, "apix_unbin"),
        ],
    )
    def test_damage_names_the_format(
        self, changed: dict[str, Any], why: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=rf"an info file of EMAN2's, is damaged.*{why}"):
            read(tmp_path, eman2(**changed))

    def test_cut_off(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="an info file of EMAN2's, is damaged"):
            read(tmp_path, eman2()[:-10])


class TestCryolo:
    def test_what_is_unknown_is_kept_and_no_number(self, tmp_path: Path) -> None:
        found = read(tmp_path, cbox())
        assert found.scores is not None
        assert np.isnan(found.scores).all()
        assert found.extra_columns["cryoloWidth"] == ("8",) * 3
        assert found.document is None  # a list of our own is written, which says what it counts in

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (cbox(without="Width"), "crYOLO's boxes; expected Width"),
            (cbox(without="CoordinateZ"), "crYOLO's boxes; expected CoordinateZ"),
            (cbox(z="<NA>"), "boxes of images"),
            (cbox(z="deep"), r"row 1 \(line 10\): CoordinateZ is no number"),
        ],
    )
    def test_damage_names_the_format(self, text: str, why: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=why):
            read(tmp_path, text)


MODEL2POINT = "{:12.2f}{:12.2f}{:12.2f}\n"


class TestPoints:
    @pytest.mark.parametrize(
        ("form", "names"),
        [
            (MODEL2POINT, []),
            (f"     2{MODEL2POINT}", ["imodContour"]),
            (f"     1     2{MODEL2POINT}", ["imodObject", "imodContour"]),
            ("     1     2{:12.2f}{:12.2f}{:12.2f}    0.250000    \n", ["imodObject"]),
        ],
    )
    def test_all_columns_of_model2point(self, form: str, names: list[str], tmp_path: Path) -> None:
        """Widths as in LabShare-Archive/IMOD, flib/model/model2point.f90, formats 102 to 105."""
        found = read(tmp_path, points(form))
        assert found.dialect == "imod"
        np.testing.assert_allclose(found.coordinates_A, (AT - [0.5, 0.5, 0]) * VOXEL_A)
        assert set(names) <= set(found.extra_columns)

    @pytest.mark.parametrize(
        ("form", "named"),
        [
            ("{}{:6d} {:.3f} {:.3f} {:.3f}\n", "contour, x, y, z"),
            ("     1 {}{:5d} {:10.2f} {:10.2f} {:10.2f}\n", "object, contour, x, y, z"),
        ],
    )
    def test_regression_contours_in_columns_of_other_widths(
        self, form: str, named: str, tmp_path: Path
    ) -> None:
        """`model2point -contour` and `-object` were refused by words that named their columns.

        IMOD's manual, model2point: a point a line, "with contour numbers, or with object numbers"
        (bio3d.colorado.edu/imod/doc/man/model2point.html).
        """
        text = "".join(form.format("", n // 2 + 1, *at) for n, at in enumerate(AT.tolist()))
        found = read(tmp_path, text)
        assert found.dialect == "imod"
        np.testing.assert_allclose(found.coordinates_A, (AT - [0.5, 0.5, 0]) * VOXEL_A)
        assert f"columns ({named}) as of IMOD's model2point" in found.basis
        assert found.extra_columns["imodContour"][-1] == str((len(AT) - 1) // 2 + 1)

    @pytest.mark.parametrize(
        "text",
        [
            "23.14 55.93 36.67 0.50\n24.10 50.93 36.67 0.40\n",
            "0 23.14 55.93 36.67\n1 24.10 50.93 36.67\n",
            "2 23.14 55.93 36.67\n1 24.10 50.93 36.67\n",
            "23 55 36 0.5\n24 50 36 0.25\n",
        ],
    )
    def test_four_numbers_that_may_be_something_else(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"whole numbers from 1 on.*coordinates with decimals"):
            read(tmp_path, text)

    def test_whole_numbers_of_model2point(self, tmp_path: Path) -> None:
        found = read(tmp_path, "      4      5      6\n     14     20      8\n")
        assert found.dialect == "imod"
        assert found.coordinates_A[0].tolist() == [35, 45, 60]

    @pytest.mark.parametrize("form", ["{} {} {}\n", "{},{},{}\r\n", "{}\t{}\t{}\n", " {};{}; {}\n"])
    @pytest.mark.parametrize("head", ["", "# x y z\n"])
    def test_regression_other_rows_of_three_numbers_are_indices(
        self, form: str, head: str, tmp_path: Path
    ) -> None:
        """Case c12: also CSV without a line of names."""
        found = read(tmp_path, head + points(form))
        assert found.dialect == "points"
        np.testing.assert_allclose(found.coordinates_A, AT * VOXEL_A)
        assert "first one's centre being 0" in found.basis

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("1 2 3 4\n5 6 7 8\n", "4 numbers a row and no names"),
            ("1,2,3,4,5\n", "5 numbers a row and no names"),
            ("1 2 3\n4 5\n", r"row 2 \(line 2\), is no row of a list of points"),
            ("1 2 3\n4 5 6 7\n", r"row 2 \(line 2\), is no row of a list of points"),
            ("1 2 3\n4 5 six\n", r"row 2 \(line 2\): column 3 is no number"),
        ],
    )
    def test_damage(self, text: str, why: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=why):
            read(tmp_path, text)


BINARY: dict[str, tuple[bytes, str]] = {
    "ribosomes.mod": (b"IMODV1.2" + bytes(300), "model2point -float"),
    "list.csv": ("x,y,z\n1,2,3\n".encode("utf-16"), "UTF-16"),
    "list.xlsx.csv": (b"PK\x03\x04" + bytes(300), "spreadsheet"),
    "list.star": (gzip.compress(b"data_\n" * 99), "packed by gzip"),
    "list.pkl": (b"\x80\x04\x95" + bytes(300), "pickle"),
    "list.txt": (bytes(208) + b"MAP " + bytes(900), "MRC"),
}
TEXTS: dict[str, tuple[str, str]] = {
    "ascii.mod": ("# imod ascii file version 2.0\n\nimod 1\noffsets 0 0 0\n", "model2point -float"),
    "page": ("<!DOCTYPE html>\n<p>404, not, found</p>\n", "HTML"),
    "1abc.pdb": ("HEADER    RIBOSOME\nATOM      1  N   ALA A   1\n", "PDB"),
    "metadata.json": (
        '{"annotation_object": {"name": "x"}, "files": []}',
        "a JSON file without boxes_3d, points or location; it has annotation_object, files",
    ),
    "empty.json": ("{}", "it has nothing"),
    "german.csv": ("tomogram;x;y;z\nTS_01;14,31;21,7;26,6\n", "decimal points in place of commas"),
    "prose": ("Dear all\n", "begins with 'Dear all'"),
}
VOXELS = ("list.txt", "list.xlsx.csv")
"""What doctor, which is not told that it is a list, takes for a volume or an archive of arrays."""


class TestWhatIsNoList:
    @pytest.mark.parametrize("name", [*BINARY, *TEXTS])
    def test_says_what_it_is_in_commands_and_doctor(self, name: str, tmp_path: Path) -> None:
        content, what = {**BINARY, **TEXTS}[name]
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(InputError) as caught:
            listed_positions(path, TOMOGRAM)
        assert what in str(caught.value)
        if name not in VOXELS:
            report = examine([path]).files[0]
            assert what in " ".join(f"{f.text} {f.remedy}" for f in report.findings)


FORMATS = {
    "portal": portal(),
    "eman2": eman2(),
    "cryolo": cbox(),
    "imod": points(MODEL2POINT),
    "points": points(),
}
SPOILT = {
    "portal": (FORMATS["portal"].replace("20.25", "NaN"), "line 2"),
    "eman2": (FORMATS["eman2"].replace("20.25", "NaN"), "box 2"),
    "cryolo": (FORMATS["cryolo"].replace("16.25", "nan"), "row 2"),
    "imod": (FORMATS["imod"].replace("20.25", "  NaN"), "row 2"),
    "points": (FORMATS["points"].replace("20.25", "nan"), "row 2"),
}


class TestParticlesInAreParticlesOut:
    @pytest.mark.parametrize("kind", SPOILT)
    def test_a_row_that_is_not_finite_is_listed(self, kind: str, tmp_path: Path) -> None:
        text, place = SPOILT[kind]
        found = read(tmp_path, text)
        assert found.dialect == kind
        assert len(found) == 3
        assert [(p.row, place in p.reason) for p in found.problems] == [(1, True)]
        (tmp_path / "list").write_text(text)
        positions = listed_positions(tmp_path / "list", TOMOGRAM)
        assert sorted([*positions.rows, *positions.rejected]) == [0, 1, 2]

    @pytest.mark.parametrize("kind", FORMATS)
    def test_written_and_read_again(self, kind: str, tmp_path: Path) -> None:
        found = read(tmp_path, FORMATS[kind], tomogram="TS_01")
        assert found.dialect == kind
        write_star(tmp_path / "out.star", found)
        write_csv(tmp_path / "out.csv", found)
        for name in ("out.star", "out.csv"):
            again = read_particles(tmp_path / name)
            np.testing.assert_allclose(again.coordinates_A, found.coordinates_A, atol=1e-4)
            assert again.tomograms == found.tomograms
        for label in found.extra_columns:
            assert f"_{label} " in (tmp_path / "out.star").read_text()
            assert label in again.extra_columns

    @pytest.mark.parametrize("fractions", [False, True])
    def test_regression_doctor_counts_rows_that_count_from_the_centre(
        self, fractions: bool, tmp_path: Path
    ) -> None:
        """Doctor called a folder of extracted cubes damaged where its list needs the tomogram."""
        labels = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
        rows: NDArray[np.float64] = (AT - np.array(SHAPE[::-1]) / 2) * VOXEL_A
        if fractions:
            labels = [f"rlnCoordinate{axis}" for axis in "XYZ"]
            rows = AT / SHAPE[::-1]
        head = "".join(f"_{label}\n" for label in ["rlnTomoName", *labels])
        body = "".join(f"TS_01.tomostar {x} {y} {z}\n" for x, y, z in rows)
        (tmp_path / "in.star").write_text(f"data_\nloop_\n{head}{body}")
        positions = listed_positions(tmp_path / "in.star", TOMOGRAM)
        card = ExtractedCard(
            box=8, voxel_size_A=VOXEL_A, tomogram="TS_01", contrast="stated positive"
        )
        extract_to_folder(TOMOGRAM, positions, tmp_path / "x", card, border="pad")
        report = examine([tmp_path / "x"]).files[0]
        assert report.value("rows") == len(positions.rows)
        assert [f.key for f in report.findings if f.key == "readable" and f.level != "ok"] == []


def test_fractions_are_of_lists_of_warp_alone(tmp_path: Path) -> None:
    """In pixels, all would lie in one voxel; elsewhere that is refused (case c01)."""
    head = "".join(
        f"_rln{name}\n" for name in ("MicrographName", *(f"Coordinate{a}" for a in "XYZ"))
    )
    body = "".join(f"TS_01 {x} {y} {z}\n" for x, y, z in AT / SHAPE[::-1])
    path = tmp_path / "in.star"
    path.write_text(f"data_\nloop_\n{head}{body}")
    with pytest.raises(MismatchError, match=r"fractions.*tomostar"):
        listed_positions(path, TOMOGRAM)
    path.write_text(path.read_text().replace("TS_01 ", "TS_01.tomostar "))
    found = listed_positions(path, TOMOGRAM)
    np.testing.assert_allclose(found.coordinates_A, AT * VOXEL_A)
    assert "fractions of the volume" in found.notes[0]
    with pytest.raises(ConfigError, match="fractions of the volume"):
        read_particles(path)


def test_regression_a_pixel_size_that_is_not_used_is_told(tmp_path: Path) -> None:
    """Where fractions are multiplied by the volume's sides, --pixel-size was ignored in silence."""
    head = "".join(
        f"_rln{name}\n" for name in ("MicrographName", *(f"Coordinate{a}" for a in "XYZ"))
    )
    body = "".join(f"TS_01.tomostar {x} {y} {z}\n" for x, y, z in AT / SHAPE[::-1])
    path = tmp_path / "in.star"
    path.write_text(f"data_\nloop_\n{head}{body}")
    found = listed_positions(path, TOMOGRAM, pixel_size_A=2.5)
    np.testing.assert_allclose(found.coordinates_A, AT * VOXEL_A)
    assert any("2.5 Å is not used" in note for note in found.notes)
    assert not any("not used" in note for note in listed_positions(path, TOMOGRAM).notes)


def test_regression_a_file_of_tomograms_that_a_list_does_not_need(tmp_path: Path) -> None:
    """Fractions given with WarpTools' tomograms.star were refused: the extent was said to lack."""
    head = "".join(
        f"_rln{name}\n" for name in ("MicrographName", *(f"Coordinate{a}" for a in "XYZ"))
    )
    body = "".join(f"TS_01.tomostar {x} {y} {z}\n" for x, y, z in AT / SHAPE[::-1])
    (tmp_path / "in.star").write_text(f"data_\nloop_\n{head}{body}")
    sizes = "".join(f"_rlnTomoSize{axis}\n" for axis in "XYZ")
    tomograms = tmp_path / "tomograms.star"
    tomograms.write_text(
        f"data_global\nloop_\n_rlnTomoName\n{sizes}TS_01.tomostar {SHAPE[2]} {SHAPE[1]} 21\n"
    )
    found = listed_positions(tmp_path / "in.star", TOMOGRAM, tomograms=tomograms)
    np.testing.assert_allclose(found.coordinates_A, AT * VOXEL_A)
    assert any("tomograms.star is not used" in note for note in found.notes)
