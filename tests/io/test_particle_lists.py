"""Lists of particles: one place and pose from every format, and STAR files with columns added."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError, TomadaptError
from tomadapt.io.particle_lists import ParticleList, read_particles, write_star
from tomadapt.io.particle_lists import reading as reading_module
from tomadapt.io.star import read_star

PIXEL_A = 2.5
EXTENT_A = (4000 * PIXEL_A, 6000 * PIXEL_A, 1200 * PIXEL_A)
AT_A = np.array([[1200.0, 2500.0, 830.0], [9000.0, 100.0, 12.5]])
ANGLES = np.array([[30.0, 60.0, 75.0], [-170.0, 92.0, 10.0]])
NAMES = ("007", "007")


def relion_matrix(rot: float, tilt: float, psi: float) -> NDArray[np.float64]:
    """RELION's Euler_angles2matrix: particle_set.cpp takes a particle to its tomogram with it."""
    (ca, cb, cg), (sa, sb, sg) = (
        np.cos(np.radians([rot, tilt, psi])),
        np.sin(np.radians([rot, tilt, psi])),
    )
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


POSES = np.stack([relion_matrix(*angles) for angles in ANGLES])


def loop(block: str, columns: dict[str, Any]) -> str:
    labels = "".join(f"_{label} #{n} \n" for n, label in enumerate(columns, start=1))
    rows = "".join("  ".join(map(str, row)) + " \n" for row in zip(*columns.values(), strict=True))
    return f"\n# version 30001\n\ndata_{block}\n\nloop_ \n{labels}{rows} \n"


def triple(names: list[str], values: NDArray[Any]) -> dict[str, Any]:
    return dict(zip(names, values.T, strict=True))


PIXELS = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
EULER = triple(["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"], ANGLES)
ORIGIN_A = [f"rlnOrigin{a}Angst" for a in "XYZ"]
CENTERED = [f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
SHIFT_A = np.array([[5.0, -10.0, 2.5], [0.0, 0.0, 1.0]])
OPTICS_4 = loop(
    "optics",
    {
        "rlnOpticsGroup": [3, 1],
        "rlnOpticsGroupName": ["unused", "og1"],
        "rlnTomoTiltSeriesPixelSize": [1.0, PIXEL_A],
        "rlnImagePixelSize": [4.0, 10.0],
    },
)
TOMOGRAMS = loop(
    "global",
    {
        "rlnTomoName": ["other", "007"],
        "rlnTomoTiltSeriesPixelSize": [1.0, PIXEL_A],
        "rlnTomoSizeX": [1, 4000],
        "rlnTomoSizeY": [1, 6000],
        "rlnTomoSizeZ": [1, 1200],
    },
)


def relion30() -> str:
    at = triple(PIXELS, (AT_A + 3.0 * PIXEL_A) / PIXEL_A)
    shifts = triple(["rlnOriginX", "rlnOriginY", "rlnOriginZ"], np.full((2, 3), 3.0))
    scale = {"rlnMagnification": [10000.0] * 2, "rlnDetectorPixelSize": [PIXEL_A] * 2}
    return loop("", {"rlnMicrographName": NAMES, **at, **EULER, **shifts, **scale})


def relion31(*, optics_last: bool = False) -> str:
    optics = loop("optics", {"rlnOpticsGroup": [1], "rlnImagePixelSize": [PIXEL_A]})
    at = triple(PIXELS, (AT_A + SHIFT_A) / PIXEL_A)
    shifts = triple(ORIGIN_A, SHIFT_A)
    group = {"rlnOpticsGroup": [1, 1]}
    particles = loop("particles", {"rlnMicrographName": NAMES, **at, **EULER, **shifts, **group})
    return particles + optics if optics_last else optics + particles


def relion4() -> str:
    at = triple(PIXELS, (AT_A + SHIFT_A) / PIXEL_A)
    more = {"rlnOpticsGroup": [1, 1], "rlnClassNumber": [4, 5], "unknownOwn": ["'a b'", "01"]}
    columns = {"rlnTomoName": NAMES, **at, **EULER, **triple(ORIGIN_A, SHIFT_A), **more}
    return (
        loop("general", {"rlnTomoSubTomosAre2DStacks": [1]}) + OPTICS_4 + loop("particles", columns)
    )


def relion5() -> str:
    at = triple(CENTERED, AT_A + SHIFT_A - np.array(EXTENT_A) / 2)
    # A box turned by half the pose: the pose is the box's times the particle's in it.
    boxes = Rotation.from_euler("ZYZ", np.array([[90.0, 5, 0], [20, 30, 40]]), degrees=True).inv()
    own = boxes.inv() * Rotation.from_matrix(POSES)
    inner = triple([*EULER], own.inv().as_euler("ZYZ", degrees=True))
    turned = triple(
        [f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi")],
        boxes.inv().as_euler("ZYZ", degrees=True),
    )
    shifts = triple(ORIGIN_A, boxes.inv().apply(SHIFT_A))
    group = {"rlnOpticsGroup": [1, 1]}
    particles = loop(
        "particles", {"rlnTomoName": NAMES, **at, **inner, **turned, **shifts, **group}
    )
    return particles + OPTICS_4


def warp() -> str:
    at = triple(PIXELS, AT_A / 10.0)
    names = {"rlnTomoName": ["007.tomostar"] * 2, "rlnOpticsGroup": [1, 1]}
    return OPTICS_4 + loop("particles", {**names, **at, **EULER})


def dynamo() -> str:
    rows = []
    for tag, (at_A, (rot, tilt, psi)) in enumerate(zip(AT_A, ANGLES, strict=True), start=1):
        row = ["0"] * 35
        row[0], row[9], row[19], row[21] = str(tag), "0.25", "007", "3"
        row[3:6] = ["2", "-1.25", "0.5"]
        row[6:9] = [str(psi - 90), str(tilt), str(rot + 90)]
        row[23:26] = [str(v) for v in at_A / 10.0 + 0.5 - np.array([2, -1.25, 0.5])]
        rows.append(" ".join(row))
    return "\n".join(rows) + "\n"


def copick() -> str:
    def point(at_A: NDArray[Any], pose: NDArray[Any]) -> dict[str, Any]:
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = pose, [1.0, 2.0, -3.0]
        location = dict(zip("xyz", at_A - matrix[:3, 3], strict=True))
        return {"location": location, "transformation_": matrix.tolist(), "score": 0.5}

    points = [
        point(a, p) | {"instance_id": n} for n, (a, p) in enumerate(zip(AT_A, POSES, strict=True))
    ]
    head = {"pickable_object_name": "ribosome", "user_id": "me", "session_id": "1"}
    return json.dumps(head | {"run_name": "007", "unit": "angstrom", "points": points})


def csv_A() -> str:
    at = triple(["x_A", "y_A", "z_A"], AT_A)
    columns = {"tomogram": NAMES, **at, **triple(["rot", "tilt", "psi"], ANGLES), "my note": "ab"}
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return ",".join(columns) + "\r\n" + "\r\n".join(rows)


def csv_voxels() -> str:
    return csv_A().replace("x_A,y_A,z_A", "x,y,z").replace(",", ";")


KINDS: dict[str, tuple[Callable[[], str], dict[str, Any], str]] = {
    "relion3.0": (relion30, {}, "relion3.0"),
    "relion3.1": (relion31, {}, "relion3.1"),
    "relion3.1, optics last": (lambda: relion31(optics_last=True), {}, "relion3.1"),
    "relion4": (relion4, {}, "relion4"),
    "relion5": (relion5, {"extent_A": EXTENT_A}, "relion5"),
    "warp": (warp, {}, "warp"),
    "dynamo": (dynamo, {"voxel_size_A": 10.0}, "dynamo"),
    "copick": (copick, {}, "copick"),
    "csv in Å": (csv_A, {}, "csv"),
    "csv in voxels": (csv_voxels, {"voxel_size_A": 1.0}, "csv"),
}
STAR_KINDS = [kind for kind, (_, _, dialect) in KINDS.items() if dialect[:4] in ("reli", "warp")]


def read(tmp_path: Path, text: str, **options: Any) -> ParticleList:
    (tmp_path / "particles.txt").write_bytes(text.encode())
    return read_particles(tmp_path / "particles.txt", **options)


def assert_the_particles(particles: ParticleList, *, atol_A: float = 1e-6) -> None:
    np.testing.assert_allclose(particles.coordinates_A, AT_A, atol=atol_A)
    assert particles.rotations is not None
    np.testing.assert_allclose(particles.rotations.as_matrix(), POSES, atol=1e-6)


class TestOnePlaceInAllFormats:
    @pytest.mark.parametrize("kind", KINDS)
    def test_same_particles(self, kind: str, tmp_path: Path) -> None:
        make, options, dialect = KINDS[kind]
        particles = read(tmp_path, make(), **options)
        assert particles.dialect == dialect
        assert [name.split(".")[0] for name in particles.tomograms] == ["007", "007"]
        assert len(particles) == 2
        assert not particles.problems
        assert_the_particles(particles)

    def test_by_hand(self, tmp_path: Path) -> None:
        """Figures worked out on paper, apart from the makers above."""
        four = OPTICS_4 + loop(
            "particles",
            {
                "rlnTomoName": ["a"],
                **triple(PIXELS, np.array([[100, 200, 40]])),
                **triple(ORIGIN_A, np.array([[10, 0, 1]])),
                "rlnTomoSubtomogramRot": [90],
                "rlnTomoSubtomogramTilt": [0],
                "rlnTomoSubtomogramPsi": [0],
                "rlnOpticsGroup": ["01"],
            },
        )
        # 100 · 2.5 = 250; the box at rot 90 turns a shift along +x into one along −y.
        np.testing.assert_allclose(read(tmp_path, four).coordinates_A, [[250, 510, 99]], atol=1e-9)
        table = " ".join(["0"] * 23 + ["508.5", "378.5", "0.5"])
        # Dynamo's first voxel has its centre at ½.
        at_A = read(tmp_path, table, voxel_size_A=10).coordinates_A
        np.testing.assert_allclose(at_A, [[5080, 3780, 0]])

    def test_known_conversion_of_dynamo_angles(self, tmp_path: Path) -> None:
        """The pair that the package eulerangles tests its conversion with."""
        row = ["1"] * 26
        row[6:9] = ["-47.2730", "1.1777", "-132.3000"]
        rotations = read(tmp_path, " ".join(row), voxel_size_A=10).rotations
        assert rotations is not None
        expected = relion_matrix(137.7, 1.1777, 42.727)
        np.testing.assert_allclose(rotations.as_matrix()[0], expected, atol=1e-9)

    def test_scores_classes_and_the_rest(self, tmp_path: Path) -> None:
        four = read(tmp_path, relion4())
        assert four.classes == ("4", "5")
        assert four.pixel_size_A is not None
        assert four.pixel_size_A.tolist() == [PIXEL_A, PIXEL_A]
        table = read(tmp_path, dynamo(), voxel_size_A=10)
        assert table.classes == ("3", "3")
        assert table.scores is not None
        assert table.scores.tolist() == [0.25, 0.25]
        assert table.extra_columns["dynamoTag"] == ("1", "2")
        picks = read(tmp_path, copick())
        assert picks.classes == ("ribosome", "ribosome")
        assert picks.extra_columns["copickInstanceId"] == ("0", "1")
        assert read(tmp_path, csv_A()).extra_columns == {"csv_my_note": ("a", "b")}

    def test_regression_columns_in_capitals(self, tmp_path: Path) -> None:
        """A CSV with columns X, Y, Z lacked x, y, z."""
        found = read(tmp_path, "X, Y, Z, Score\n1,2,3,0.5\n4,5,6,0.25\n", voxel_size_A=10.0)
        np.testing.assert_allclose(found.coordinates_A, [[10, 20, 30], [40, 50, 60]])
        assert found.scores is not None
        assert found.scores.tolist() == [0.5, 0.25]
        both = read(tmp_path, "x,y,z,X\n1,2,3,9\n", voxel_size_A=10.0)
        np.testing.assert_allclose(both.coordinates_A, [[10, 20, 30]])
        assert both.extra_columns == {"csv_X": ("9",)}

    def test_no_angles(self, tmp_path: Path) -> None:
        assert read(tmp_path, "x_A,y_A,z_A\n1,2,3\n").rotations is None
        untrusted = copick().replace('"unit"', '"trust_orientation": false, "unit"')
        assert read(tmp_path, untrusted).rotations is None

    def test_name_stated(self, tmp_path: Path) -> None:
        text = "x_A,y_A,z_A\n1,2,3\n"
        assert read(tmp_path, text).tomograms == ("",)
        assert read(tmp_path, text, tomogram="TS_01").tomograms == ("TS_01",)

    def test_no_particles(self, tmp_path: Path) -> None:
        none: dict[str, Any] = {name: [] for name in ["rlnTomoName", *PIXELS, "rlnOpticsGroup"]}
        for text in (
            OPTICS_4 + loop("particles", none),
            OPTICS_4 + loop("particles", none | {name: [] for name in EULER}),
            "x_A,y_A,z_A,rot,tilt,psi\n",
            '{"points": []}',
        ):
            particles = read(tmp_path, text)
            assert len(particles) == 0
            assert particles.coordinates_A.shape == (0, 3)

    @pytest.mark.parametrize("kind", STAR_KINDS)
    def test_a_list_of_none_that_was_written_here(self, kind: str, tmp_path: Path) -> None:
        """Regression: without a row, Warp's pixel size and RELION 5's tomograms were asked for."""
        make, options, _ = KINDS[kind]
        write_star(tmp_path / "none.star", read(tmp_path, make(), **options), rows=[])
        assert len(read_particles(tmp_path / "none.star")) == 0

    def test_tables_of_m(self, tmp_path: Path) -> None:
        """In Å; of several samples in time the mean counts, and the first one's angles."""
        columns: dict[str, Any] = {f"wrpCoordinate{a}1": [k] for k, a in enumerate("XYZ", 10)}
        columns |= {f"wrpCoordinate{a}2": [k] for k, a in enumerate("XYZ", 20)}
        columns |= {f"wrpAngle{a}1": [v] for a, v in (("Rot", 30), ("Tilt", 60), ("Psi", 75))}
        columns |= {f"wrpAngle{a}2": [0] for a in ("Rot", "Tilt", "Psi")}
        names = {"wrpRandomSubset": [1], "wrpSourceName": ["007.tomostar"], "wrpSourceHash": ["a1"]}
        text = loop("", columns | names)
        particles = read(tmp_path, text)
        assert (particles.dialect, particles.tomograms) == ("m", ("007.tomostar",))
        assert particles.coordinates_A.tolist() == [[15.0, 16.0, 17.0]]
        assert particles.rotations is not None
        np.testing.assert_allclose(particles.rotations.as_matrix(), POSES[:1], atol=1e-9)
        assert particles.pixel_size_A is None
        stated = read(tmp_path, text, voxel_size_A=10.0)
        assert stated.coordinates_A.tolist() == [[15.0, 16.0, 17.0]]
        assert stated.pixel_size_A is not None
        with pytest.raises(InputError, match="lacks columns"):
            read(tmp_path, text.replace("wrpCoordinateY1", "own"))

    def test_single_particle_as_pairs(self, tmp_path: Path) -> None:
        text = "data_particles\n_rlnCoordinateX 1\n_rlnCoordinateY 2\n_rlnCoordinateZ 3\n"
        np.testing.assert_allclose(
            read(tmp_path, text, voxel_size_A=2).coordinates_A, [[2.0, 4.0, 6.0]]
        )


class TestTomogramSizes:
    def test_tomograms_file(self, tmp_path: Path) -> None:
        (tmp_path / "tomograms.star").write_text(TOMOGRAMS)
        assert_the_particles(
            read(tmp_path, relion5(), tomograms=tmp_path / "tomograms.star"), atol_A=1e-6
        )

    def test_optimisation_set(self, tmp_path: Path) -> None:
        (tmp_path / "tomograms.star").write_text(TOMOGRAMS)
        (tmp_path / "p.star").write_text(relion5())
        text = "data_\n\n_rlnTomoParticlesFile p.star\n_rlnTomoTomogramsFile tomograms.star\n"
        assert_the_particles(read(tmp_path, text))

    def test_set_that_leads_nowhere(self, tmp_path: Path) -> None:
        for name in ("particles.txt", "missing.star"):
            text = f"data_\n\n_rlnTomoParticlesFile {name}\n"
            with pytest.raises(InputError):
                read(tmp_path, text)

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="tomograms"):
            read(tmp_path, relion5())
        with pytest.raises(ConfigError, match="extent"):
            read(tmp_path, relion5(), extent_A=(1, 2))
        (tmp_path / "t.star").write_text(TOMOGRAMS.replace("007", "7"))
        with pytest.raises(InputError, match=r"row 1 \(line.*'007'"):
            read(tmp_path, relion5(), tomograms=tmp_path / "t.star")


class TestPixelSize:
    def test_stated_and_found_differ(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match=r"2\.5 Å .* and 3 Å are stated"):
            found = read(tmp_path, relion4(), voxel_size_A=3.0)
        assert found.pixel_size_A is not None
        assert (found.pixel_size_A == 3.0).all()

    def test_regression_a_stated_size_that_differs_little_counts(self, tmp_path: Path) -> None:
        """Within 1 % of the list's it was left out in silence: 8 voxels over a thousand of them."""
        with pytest.warns(UserWarning, match=r"2\.5 Å .* and 2\.52 Å are stated"):
            found = read(tmp_path, relion4(), voxel_size_A=2.52)
        assert found.pixel_size_A is not None
        assert (found.pixel_size_A == 2.52).all()

    def test_stated_as_found(self, tmp_path: Path) -> None:
        assert_the_particles(read(tmp_path, relion4(), voxel_size_A=2.5))

    def test_unknown(self, tmp_path: Path) -> None:
        text = loop("", triple(PIXELS, AT_A))
        with pytest.raises(ConfigError, match="unknown"):
            read(tmp_path, text)
        assert read(tmp_path, text, voxel_size_A=2.0).dialect == "star"
        for size in (0.0, -1.0, float("nan"), 1e9):
            with pytest.raises(ConfigError, match="out of range"):
                read(tmp_path, text, voxel_size_A=size)

    def test_older_warp_exports_name_two(self, tmp_path: Path) -> None:
        """Coordinates count in exported pixels, though the tilt series' size is named beside."""
        np.testing.assert_allclose(read(tmp_path, warp()).coordinates_A, AT_A)
        np.testing.assert_allclose(
            read(tmp_path, warp(), voxel_size_A=PIXEL_A).coordinates_A, AT_A / 4
        )

    @pytest.mark.data
    def test_real_warp_export(self, data_folder: Path) -> None:
        name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
        folder = data_folder / "real_ribosomes"
        particles = read_particles(folder / f"{name}.star")
        followed = read_particles(folder / f"{name}_optimisation_set.star")
        np.testing.assert_array_equal(particles.coordinates_A, followed.coordinates_A)
        assert (len(particles), particles.dialect) == (40, "warp")
        # The tomograms' own size, in pixels of the tilt series, bounds them tightly.
        extent_A = np.array([4400, 6000, 1400]) * 1.667
        assert (particles.coordinates_A > 0).all()
        assert (particles.coordinates_A < extent_A).all()
        assert (particles.coordinates_A.max(axis=0) > 0.8 * extent_A).all()
        known = np.load(folder / "derived_subtomos_32_12A.npz")
        assert particles.rotations is not None
        np.testing.assert_allclose(
            particles.rotations.as_matrix(), known["euler_matrix"], atol=1e-5
        )


class TestWriting:
    @pytest.mark.parametrize("kind", STAR_KINDS)
    def test_nothing_else_changes(self, kind: str, tmp_path: Path) -> None:
        make, options, _ = KINDS[kind]
        particles = read(tmp_path, make(), **options)
        out = tmp_path / "out.star"
        write_star(out, particles)
        assert out.read_text() == make()
        columns = {"tomadaptClassName": ["ribosome 70S", "null"], "tomadaptScore": [0.9, 1 / 3]}
        write_star(out, particles, columns=columns)
        before, after = make().split("\n"), out.read_text().split("\n")
        assert len(after) == len(before) + 2
        rest = [line for line in after if "tomadapt" not in line]
        for old, new in zip(before, rest, strict=True):
            assert (
                new.replace('  "ribosome 70S"  0.9', "").replace("  null  0.333333333", "") == old
            )
        table = read_star(out).table("particles") or read_star(out).table("")
        assert table is not None
        assert table.column("tomadaptClassName") == ("ribosome 70S", "null")
        again = read_particles(out, **options)
        assert again.classes == ("ribosome 70S", "null")
        np.testing.assert_array_equal(again.coordinates_A, particles.coordinates_A)

    def test_accepted_and_rejected(self, tmp_path: Path) -> None:
        particles = read(tmp_path, relion4())
        numbers: dict[str, list[object]] = {"rlnClassNumber": [7, True]}
        write_star(tmp_path / "a.star", particles, columns=numbers, rows=[1])
        write_star(tmp_path / "b.star", particles, columns=numbers, rows=[0])
        write_star(tmp_path / "c.star", particles, columns=numbers, rows=[])
        found = [read_particles(tmp_path / f"{name}.star") for name in "abc"]
        assert [part.classes for part in found] == [("1",), ("7",), ()]
        assert found[1].table is not None
        assert found[1].table.column("unknownOwn") == ("a b",)
        for rows in ([2], [-1], [0, 0]):
            with pytest.raises(ConfigError):
                write_star(tmp_path / "d.star", particles, rows=rows)

    @pytest.mark.parametrize("kind", ["dynamo", "copick", "csv in Å"])
    def test_new_file(self, kind: str, tmp_path: Path) -> None:
        make, options, _ = KINDS[kind]
        particles = read(tmp_path, make(), **options)
        out = tmp_path / "out.star"
        sized = replace(particles, pixel_size_A=np.full(len(particles), PIXEL_A))
        write_star(out, sized, columns={"rlnClassNumber": [1, 2]})
        again = read_particles(out)
        assert again.dialect == "relion4"
        assert again.tomograms == NAMES
        assert again.classes == ("1", "2")
        assert_the_particles(again, atol_A=1e-4)
        assert again.table is not None
        for label, texts in particles.extra_columns.items():
            assert again.table.column(label) == texts

    def test_new_file_lacks(self, tmp_path: Path) -> None:
        out = tmp_path / "out.star"
        nameless = read(tmp_path, "x_A,y_A,z_A\n1,2,3\n")
        sized = replace(read(tmp_path, csv_A()), pixel_size_A=np.full(2, 2.0))
        cases: tuple[tuple[ParticleList, dict[str, Any]], ...] = (
            (replace(nameless, pixel_size_A=np.full(1, 2.0)), {}),
            (read(tmp_path, csv_A()), {}),
            (sized, {"columns": {"a": [1]}}),
        )
        for particles, options in cases:
            with pytest.raises(ConfigError):
                write_star(out, particles, **options)
        assert not out.exists()

    @pytest.mark.data
    def test_real_file(self, data_folder: Path, tmp_path: Path) -> None:
        name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12.star"
        source = data_folder / "real_ribosomes" / name
        particles = read_particles(source)
        write_star(tmp_path / "same.star", particles)
        assert (tmp_path / "same.star").read_bytes() == source.read_bytes()
        scores = np.linspace(0, 1, 40)
        write_star(tmp_path / "out.star", particles, columns={"tomadaptScore": scores})
        lines = (tmp_path / "out.star").read_text().split("\n")
        lines = [line for line in lines if "tomadaptScore" not in line]
        for old, new in zip(source.read_text().split("\n"), lines, strict=True):
            assert new.startswith(old.rstrip())


class TestProblems:
    def test_named_with_their_rows(self, tmp_path: Path) -> None:
        text = "x_A,y_A,z_A,rot,tilt,psi\n1,2,3,0,0,0\n1,nan,3,0,0,0\n4,5,6,0,inf,0\n1,2,3,9,9,9\n"
        with pytest.raises(InputError, match=r"3 of 4 rows.*row 2 \(line 3\): a coord.*row 3"):
            read(tmp_path, text)
        particles = read(tmp_path, text, strict=False)
        assert len(particles) == 4
        assert [problem.row for problem in particles.problems] == [1, 2, 3]
        assert "the same particle as row 1 (line 2)" in particles.problems[2].reason
        assert np.isnan(particles.coordinates_A[1, 1])

    def test_same_place_in_another_tomogram(self, tmp_path: Path) -> None:
        text = "tomogram,x_A,y_A,z_A\n1,1,2,3\n01,1,2,3\n"
        assert read(tmp_path, text).tomograms == ("1", "01")

    def test_shift_that_is_not_finite(self, tmp_path: Path) -> None:
        particles = read(
            tmp_path, relion5().replace("-10.0", "nan", 1), strict=False, extent_A=EXTENT_A
        )
        assert len(particles) == 2

    @pytest.mark.parametrize("kind", STAR_KINDS)
    def test_a_row_named_in_star(self, kind: str, tmp_path: Path) -> None:
        make, options, _ = KINDS[kind]
        particles = read(tmp_path, make(), **options)
        assert particles.table is not None
        label = next(c for c in particles.table.labels if "Coordinate" in c)
        value = particles.table.column(label)[1]
        text = make().replace(value, "12,5")
        line = next(n for n, t in enumerate(text.split("\n"), 1) if "12,5" in t)
        with pytest.raises(InputError, match=rf"row 2 \(line {line}\): {label} is no number"):
            read(tmp_path, text, **options)


def damaged() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Files of each format, damaged."""
    found: dict[str, tuple[bytes, dict[str, Any]]] = {}
    for kind, (make, options, dialect) in KINDS.items():
        text = make()
        row = next(line for line in reversed(text.split("\n")) if line.strip())
        value = "1200" if "Å" in kind else None
        cases: dict[str, bytes] = {
            "empty": b"",
            "byte-order mark alone": b"\xef\xbb\xbf",
            "latin-1": text.encode() + b"\xe9\n",
            "UTF-16": text.encode("utf-16"),
            "zero byte": text.encode().replace(b"0", b"\0", 1),
            "every byte xored": bytes(b ^ 0xA5 for b in text.encode()),
        }
        if dialect not in ("copick",) and "optics last" not in kind and dialect != "relion5":
            cases["row cut short"] = text[: text.rindex(row) + len(row) // 2].encode()
            cases["row twice"] = (text.rstrip() + "\n" + row).encode()
            cases["row of another length"] = (text.rstrip() + "\n" + row + " ,;1 2\n").encode()
        if "Coordinate" in text:
            cases["column missing"] = text.replace("CoordinateY", "coordinateQ").encode()
            cases["column twice"] = text.replace("CoordinateY", "CoordinateX").encode()
            cases["angle missing"] = text.replace("AngleTilt", "angleQ").encode()
            cases["cut in its labels"] = text[: text.index("CoordinateX")].encode()
        if "opticsGroup" in text or "og1" in text:
            cases["optics group missing"] = text.replace(
                "OpticsGroup #1", "Opticsgroup #1"
            ).encode()
        if value:
            cases["infinite"] = text.replace("1200.0", "inf").encode()
            cases["too large for a number"] = text.replace("1200.0", "1e999").encode()
            cases["thousands"] = text.replace("1200.0", "1_200").encode()
        for case, content in cases.items():
            found[f"{kind}: {case}"] = (content, options)
    points = json.loads(copick())
    for case, edit in {
        "no x": lambda p: p["location"].pop("x"),
        "text for x": lambda p: p["location"].update(x="a"),
        "huge x": lambda p: p["location"].update(x=10**400),
        "NaN": lambda p: p["location"].update(x=float("nan")),
        "location a list": lambda p: p.update(location=[1, 2, 3]),
        "no location": lambda p: p.pop("location"),
        "3 × 3": lambda p: p.update(transformation_=[[1, 0, 0]] * 3),
        "mirror": lambda p: p.update(transformation_=np.diag([1, 1, -1, 1]).tolist()),
        "scale": lambda p: p.update(transformation_=np.diag([2, 2, 2, 1]).tolist()),
        "ragged": lambda p: p.update(transformation_=[[1], [1, 2]]),
        "NaN pose": lambda p: p.update(transformation_=np.full((4, 4), np.nan).tolist()),
        "score a list": lambda p: p.update(score=[1]),
    }.items():
        content = json.loads(copick())
        edit(content["points"][0])
        found[f"copick: {case}"] = (json.dumps(content).encode(), {})
    for case, text in {
        "cut": copick()[:-5],
        "points a number": json.dumps(points | {"points": 3}),
        "point a number": json.dumps(points | {"points": [3]}),
        "no points": json.dumps({"pickable_object_name": "x"}),
        "a list": "[1, 2]",
        "pixels": copick().replace("angstrom", "pixel"),
        "nested": "[" * 100_000,
        "nested objects": '{"points":' * 50_000,
        "huge spacing": json.dumps(points | {"voxel_spacing": 1e300}),
    }.items():
        found[f"copick: {case}"] = (text.encode(), {})
    for case, text in {
        "names alone of another kind": "a,b,c\n1,2,3\n",
        "open quote": 'x_A,y_A,z_A\n1,2,"3\n',
        "commas": ",,,\n,,,\n",
        "one axis missing": "x_A,y_A\n1,2\n",
        "huge cell": "x_A,y_A,z_A\n" + "1" * 200_000 + ",2,3\n",
        "sentence": "Hello, this is a letter\nto you\n",
        "prose": "Hello\n",
        "MRC-like": "\x01\x02 MAP \x04\n",
        "two tables": relion4() + relion4(),
        "no coordinates": TOMOGRAMS,
        "infinite pixel": relion4().replace("2.5  10.0", "inf  10.0"),
        "pixel of zero": relion4().replace("2.5  10.0", "0  10.0"),
        "magnification of zero": relion30().replace("10000.0", "0"),
        "NaN pixel": relion31().replace("1  2.5", "1  nan"),
    }.items():
        found[f"other: {case}"] = (text.encode(), {})
    return found


DAMAGED = damaged()


class TestDamage:
    def test_enough_of_them(self) -> None:
        assert len(DAMAGED) >= 60

    @pytest.mark.parametrize("name", DAMAGED)
    def test_refused_at_once(self, name: str, tmp_path: Path) -> None:
        content, options = DAMAGED[name]
        (tmp_path / "file").write_bytes(content)
        start = time.process_time()
        with pytest.raises((InputError, ConfigError)):
            read_particles(tmp_path / "file", **options)
        assert time.process_time() - start < 1

    def test_too_large_for_json(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading_module, "MAX_CHARACTERS", 100)
        with pytest.raises(InputError, match="at most"):
            read(tmp_path, copick())

    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, 10_000), insert=st.text(max_size=4), cut=st.integers(0, 9))
    def test_any_mutation_is_read_or_refused(
        self, kind: str, at: int, insert: str, cut: int, tmp_path: Path
    ) -> None:
        make, options, _ = KINDS[kind]
        text = make()
        at %= len(text)
        mutated = text[:at] + insert + text[at + cut :]
        with contextlib.suppress(TomadaptError, UnicodeEncodeError):
            particles = read(tmp_path, mutated, **options)
            assert np.isfinite(particles.coordinates_A).all()
            assert len(particles.tomograms) == len(particles)


def test_csv_of_the_standard_library_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tomogram", "x_A", "y_A", "z_A", "note, with comma"])
        writer.writerow(["TS 1", 1, 2, 3, 'said "yes"'])
    particles = read_particles(tmp_path / "a.csv")
    assert particles.tomograms == ("TS 1",)
    assert particles.extra_columns == {"csv_note__with_comma": ('said "yes"',)}


def test_regression_a_stated_pixel_size_counts_before_the_lists(tmp_path):
    """Lists in nanometres were refused with the remedy --pixel-size, which was refused too."""
    path = tmp_path / "nanometres.star"
    path.write_text(
        "data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
        "_rlnImagePixelSize #4\n10 20 30 0.135\n40 50 60 0.135\n"
    )
    with pytest.warns(UserWarning, match="0.135 Å .* and 1.35 Å are stated: the stated size"):
        found = read_particles(path, voxel_size_A=1.35)
    np.testing.assert_allclose(found.coordinates_A, [[13.5, 27, 40.5], [54, 67.5, 81]])
