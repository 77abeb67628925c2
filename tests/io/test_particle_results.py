"""Particles with results as CSV and as copick's picks: what is written is read back."""

from __future__ import annotations

import csv
import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, OutputError
from tomadapt.io.particle_lists import (
    ParticleList,
    RowProblem,
    read_particles,
    write_copick,
    write_csv,
    write_star,
)

AT_A = np.array([[1200.125, 2500.0, 830.0], [9000.0, 0.1 + 0.2, 12.5], [1.0, 2.0, 3.0]])
POSES = Rotation.from_euler("ZYZ", [[30, 60, 75], [-170, 92, 10], [0, 0, 45]], degrees=True)
PARTICLES = ParticleList(
    AT_A,
    POSES,
    ("007", "TS 1", "007"),
    "csv",
    classes=("1", "02", "x, y"),
    scores=np.array([0.5, np.nan, 1.0]),
    pixel_size_A=np.array([2.5, 3.0, 2.5]),
    extra_columns={"csv_note": ('said "yes"', "", "a\nb"), "dynamoTag": ("1", "2", "3")},
)
NAMES = ["ribosome 70S", "null", "ribosome 70S"]


def assert_same(found: ParticleList, expected: ParticleList = PARTICLES) -> None:
    np.testing.assert_array_equal(found.coordinates_A, expected.coordinates_A)
    assert found.tomograms == expected.tomograms
    assert found.classes == expected.classes
    assert found.rotations is not None
    assert expected.rotations is not None
    np.testing.assert_allclose(found.rotations.as_matrix(), expected.rotations.as_matrix())


class TestCsv:
    def test_all_of_it_is_read_back(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "a.csv", PARTICLES)
        found = read_particles(tmp_path / "a.csv")
        assert_same(found)
        assert found.extra_columns == PARTICLES.extra_columns
        np.testing.assert_array_equal(found.scores, PARTICLES.scores)
        np.testing.assert_array_equal(found.pixel_size_A, PARTICLES.pixel_size_A)
        # Once more, and nothing is renamed or rounded again.
        write_csv(tmp_path / "b.csv", found)
        names = (tmp_path / "a.csv").read_text().split("\n")[0]
        assert (tmp_path / "b.csv").read_text().split("\n")[0] == names
        assert_same(read_particles(tmp_path / "b.csv"))

    def test_results(self, tmp_path: Path) -> None:
        columns = {
            "rlnClassNumber": [1, 2, 1],
            "tomadaptClassName": NAMES,
            "tomadaptScore": np.array([0.25, 1 / 3, 1]),
            "tomadaptAccepted": [True, False, True],
        }
        write_csv(tmp_path / "a.csv", PARTICLES, columns=columns, rows=[2, 1])
        with (tmp_path / "a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["tomadaptClassName"] for row in rows] == ["ribosome 70S", "null"]
        assert [row["tomadaptScore"] for row in rows] == ["1", "0.333333333"]
        assert [row["tomadaptAccepted"] for row in rows] == ["1", "0"]
        assert [row["class"] for row in rows] == ["x, y", "02"]
        found = read_particles(tmp_path / "a.csv")
        np.testing.assert_array_equal(found.coordinates_A, AT_A[[2, 1]])
        assert found.classes == ("ribosome 70S", "null")
        assert found.scores is not None
        assert found.scores.tolist() == [1.0, 0.333333333]
        assert found.extra_columns["csv_class"] == ("x, y", "02")

    def test_columns_that_sound_like_its_own(self, tmp_path: Path) -> None:
        """A STAR file's column named ``score`` is no score, and what is no number stays text."""
        text = (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_score\n_x_A\n"
            "_class_name\n_rot\n1 2 3 good 007 big turned\n"
        )
        (tmp_path / "a.star").write_text(text)
        particles = read_particles(tmp_path / "a.star", voxel_size_A=2.0)
        write_csv(tmp_path / "a.csv", particles)
        found = read_particles(tmp_path / "a.csv")
        assert (found.scores, found.classes, found.rotations) == (None, None, None)
        assert found.coordinates_A.tolist() == [[2.0, 4.0, 6.0]]
        assert found.extra_columns["csv_star_score"] == ("good",)
        assert found.extra_columns["csv_star_x_A"] == ("007",)
        assert found.extra_columns["csv_star_class_name"] == ("big",)
        assert found.extra_columns["csv_rlnCoordinateX"] == ("1",)

    def test_what_cannot_be_used_is_told_again(self, tmp_path: Path) -> None:
        text = "x_A,y_A,z_A,rot,tilt,psi\n1,2,3,0,0,0\n1,nan,3,0,0,0\n4,5,6,0,inf,0\n1,2,3,9,9,9\n"
        (tmp_path / "a.csv").write_text(text)
        particles = read_particles(tmp_path / "a.csv", strict=False)
        write_csv(tmp_path / "b.csv", particles)
        found = read_particles(tmp_path / "b.csv", strict=False)
        assert found.problems == particles.problems
        assert len(found) == 4

    def test_little_and_nothing(self, tmp_path: Path) -> None:
        few = ParticleList(AT_A, None, ("", "", ""), "csv")
        write_csv(tmp_path / "a.csv", few, rows=[])
        assert (tmp_path / "a.csv").read_text() == "x_A,y_A,z_A\n"
        assert len(read_particles(tmp_path / "a.csv")) == 0
        write_csv(tmp_path / "a.csv", few)
        found = read_particles(tmp_path / "a.csv", tomogram="007")
        assert (found.tomograms, found.rotations, found.scores) == (("007",) * 3, None, None)

    def test_pixel_size_named_in_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("x,y,z,pixel_size_A\n1,2,3,10\n1,2,3,5\n")
        found = read_particles(tmp_path / "a.csv").coordinates_A
        assert found.tolist() == [[10.0, 20.0, 30.0], [5.0, 10.0, 15.0]]

    def test_to_a_new_star_file(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "a.csv", replace(PARTICLES, extra_columns={}))
        write_star(tmp_path / "a.star", read_particles(tmp_path / "a.csv"))
        found = read_particles(tmp_path / "a.star")
        np.testing.assert_allclose(found.coordinates_A, AT_A, atol=1e-5)
        assert found.tomograms == PARTICLES.tomograms

    @pytest.mark.parametrize(
        "columns", [{"a": [1]}, {"": [1, 2, 3]}, {" a": [1, 2, 3]}, {"a": ["\0", "", ""]}]
    )
    def test_what_does_not_fit(self, columns: Any, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be written"):
            write_csv(tmp_path / "a.csv", PARTICLES, columns=columns)
        for rows in ([3], [-1], [0, 0]):
            with pytest.raises(ConfigError, match="from 0 to 2"):
                write_csv(tmp_path / "a.csv", PARTICLES, rows=rows)
        assert list(tmp_path.iterdir()) == []

    def test_no_place_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(OutputError):
            write_csv(tmp_path / "no" / "a.csv", PARTICLES)

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        (tmp_path / "a.csv").write_text("as it was")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="no space"):
            write_csv(tmp_path / "a.csv", PARTICLES)
        assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
        assert (tmp_path / "a.csv").read_text() == "as it was"

    @settings(max_examples=60, deadline=None)
    @given(
        cells=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=3, max_size=3),
        label=st.from_regex(r"[A-Za-z][A-Za-z0-9_.;,-]{0,8}", fullmatch=True),
    )
    def test_any_text(
        self, cells: list[str], label: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("a") / "a.csv"
        cells = [cell.replace("\0", "") for cell in cells]
        particles = replace(PARTICLES, extra_columns={"csv_text": tuple(cells)})
        write_csv(path, particles, columns={f"my{label}": cells})
        found = read_particles(path)
        assert_same(found)
        assert found.extra_columns["csv_text"] == tuple(cell.strip() for cell in cells)
        assert list(found.extra_columns.values())[-1] == tuple(cell.strip() for cell in cells)


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def transformed(point: Any, at: NDArray[Any]) -> NDArray[Any]:
    """Where copick puts a point of an object: turned, shifted, then at the location."""
    matrix = np.array(point["transformation_"])
    location = np.array([point["location"][axis] for axis in "xyz"])
    return np.asarray(location + matrix[:3, :3] @ at + matrix[:3, 3])


class TestCopick:
    def test_files_of_objects(self, tmp_path: Path) -> None:
        names = ["ribosome_70S", "null", "apo ferritin"]
        written = write_copick(tmp_path / "ExperimentRuns", PARTICLES, names, voxel_size_A=10.0)
        assert [str(path.relative_to(tmp_path / "ExperimentRuns")) for path in written] == [
            "007/Picks/tomadapt_0_ribosome-70S.json",
            "TS 1/Picks/tomadapt_0_null.json",
            "007/Picks/tomadapt_0_apo-ferritin.json",
        ]
        first = content(written[0])
        points = first.pop("points")
        assert first == {
            "pickable_object_name": "ribosome-70S",
            "user_id": "tomadapt",
            "session_id": "0",
            "run_name": "007",
            "voxel_spacing": 10.0,
            "unit": "angstrom",
            "trust_orientation": True,
        }
        assert points[0]["location"] == {"x": 1200.125, "y": 2500.0, "z": 830.0}
        assert (points[0]["score"], points[0]["instance_id"]) == (0.5, 1)
        ahead = np.array([1.0, 2.0, 3.0])
        np.testing.assert_allclose(transformed(points[0], ahead), AT_A[0] + POSES[0].apply(ahead))
        assert points[0]["transformation_"][3] == [0, 0, 0, 1]
        assert content(written[1])["points"][0]["score"] is None

    def test_read_back(self, tmp_path: Path) -> None:
        scores = [0.25, 0.5, 1.0]
        written = write_copick(tmp_path, PARTICLES, NAMES, scores=scores, rows=[2, 0, 1])
        assert len(written) == 2
        found = read_particles(written[0])
        expected = replace(
            PARTICLES,
            coordinates_A=AT_A[[2, 0]],
            rotations=POSES[[2, 0]],
            tomograms=("007", "007"),
            classes=("ribosome-70S",) * 2,
        )
        assert_same(found, expected)
        assert found.scores is not None
        assert found.scores.tolist() == [1.0, 0.25]
        assert found.extra_columns == {
            "copickInstanceId": ("3", "1"),
            "copickUserId": ("tomadapt", "tomadapt"),
            "copickSessionId": ("0", "0"),
        }

    def test_without_poses_and_scores(self, tmp_path: Path) -> None:
        bare = ParticleList(AT_A, None, ("a",) * 3, "csv")
        (path,) = write_copick(tmp_path, bare, ["x"] * 3)
        assert content(path)["trust_orientation"] is False
        assert content(path)["points"][0]["transformation_"] == np.eye(4).tolist()
        assert "score" not in content(path)["points"][0]
        assert read_particles(path).rotations is None
        assert write_copick(tmp_path / "none", bare, ["x"] * 3, rows=[]) == []

    def test_written_again(self, tmp_path: Path) -> None:
        other = tmp_path / "007" / "Picks" / "someone_1_null.json"
        other.parent.mkdir(parents=True)
        other.write_text("{}")
        (path, _) = write_copick(tmp_path, PARTICLES, NAMES)
        (path, _) = write_copick(tmp_path, PARTICLES, NAMES, rows=[0, 1])
        assert len(content(path)["points"]) == 1
        assert other.read_text() == "{}"

    def test_names_do_not_lead_away(self, tmp_path: Path) -> None:
        particles = replace(PARTICLES, tomograms=("../a/b.mrc", "/etc/x", "007"))
        written = write_copick(tmp_path / "out", particles, ["../../x", "a/b", "c"])
        assert [str(path.relative_to(tmp_path / "out")) for path in written] == [
            "a-b.mrc/Picks/tomadapt_0_..-..-x.json",
            "etc-x/Picks/tomadapt_0_a-b.json",
            "007/Picks/tomadapt_0_c.json",
        ]
        assert read_particles(written[0]).tomograms == ("../a/b.mrc",)

    @pytest.mark.parametrize(
        ("change", "options", "expected"),
        [
            ({}, {"class_names": ["a"]}, "1 names"),
            ({}, {"scores": [1.0]}, r"\(1,\) scores"),
            ({}, {"scores": [1.0, np.inf, 1.0]}, "row 2 is not finite"),
            ({}, {"class_names": ["a b", "a_b", "c"]}, "'a_b' cannot.*'a b' too"),
            ({}, {"class_names": ["a", "_", "c"]}, "nothing that can be kept"),
            ({}, {"class_names": ["a", "b\ud800", "c"]}, "cannot be named"),
            ({}, {"voxel_size_A": float("nan")}, "voxel size"),
            ({}, {"rows": [0, 0]}, "rows"),
            ({"tomograms": ("007", "", "007")}, {}, "tomogram ''"),
            ({"tomograms": ("..", "b", "007")}, {}, "tomogram '..'"),
            ({"tomograms": ("a/b", "a:b", "007")}, {}, "'a/b' too"),
            ({"problems": (RowProblem(1, "row 2: an angle is NaN"),)}, {}, "row 2: an angle"),
            ({"coordinates_A": np.where(AT_A == 12.5, np.nan, AT_A)}, {}, "row 2 is not finite"),
        ],
    )
    def test_what_cannot_be_written(
        self, change: Any, options: Any, expected: str, tmp_path: Path
    ) -> None:
        arguments = {"class_names": ["a", "b", "c"]} | options
        with pytest.raises(ConfigError, match=expected):
            write_copick(tmp_path / "out", replace(PARTICLES, **change), **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_no_place_for_it(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            write_copick(tmp_path / "file", PARTICLES, NAMES)


def test_half_a_character(tmp_path: Path) -> None:
    """JSON may hold half a pair of surrogates, which no file in UTF-8 can."""
    path = tmp_path / "picks.json"
    location = {"x": 1, "y": 2, "z": 3}
    picks = {"pickable_object_name": "a\ud800", "run_name": "t", "points": [{"location": location}]}
    path.write_text(json.dumps(picks))
    particles = read_particles(path, voxel_size_A=10)
    for write in (write_csv, write_star):
        with pytest.raises(ConfigError, match=r"Unicode.*ud800"):
            write(tmp_path / "out", particles)
    assert [p.name for p in tmp_path.iterdir()] == ["picks.json"]
