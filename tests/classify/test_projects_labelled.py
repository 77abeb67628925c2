"""A project's tomograms, labelled by one command with their own metadata."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from classify.conftest import CLASSES, VOXEL_A
from command_line import call
from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.classify.project_files import joined
from tomadapt.io.particle_lists import ParticleList, read_particles, write_star
from tomadapt.io.star import read_star
from tomadapt.project import Project, TomogramEntry, read_project, write_project
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram, write_planted

NARROW = tilt_range(-48, 48, 3)
GIVEN: tuple[object, ...] = ("--structures", ",".join(CLASSES))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tomogram of other tilts and another defocus than ``planted``."""
    folder = tmp_path_factory.mktemp("narrow")
    config = TomogramConfig(
        classes=list(CLASSES),  # type: ignore[arg-type]
        counts={"ribosome_80s": 12, "apoferritin": 20},
        acquisition=Acquisition(name="true", defocus_um=2.5, tilt_angles_deg=NARROW),
        shape_zyx=(48, 110, 110),
        snr=0.1,
        seed=6,
        box=28,
        voxel_size_A=VOXEL_A,
        resolution_A=VOXEL_A,
    )
    write_planted(simulate_tomogram(config), folder)
    return folder


def entries(planted: Path, narrow: Path) -> dict[str, TomogramEntry]:
    wide = tilt_range(-60, 60, 3)
    return {
        "first": TomogramEntry(
            name="first",
            volume=planted / "tomogram.mrc",
            voxel_size_A=VOXEL_A,
            tilt_angles_deg=wide,
            defocus_um=4.2,
        ),
        "second": TomogramEntry(
            name="second",
            volume=narrow / "tomogram.mrc",
            voxel_size_A=VOXEL_A,
            tilt_angles_deg=NARROW,
            defocus_um=2.5,
        ),
        "no defocus": TomogramEntry(
            name="no defocus", volume=planted / "tomogram.mrc", tilt_angles_deg=wide
        ),
        "no volume": TomogramEntry(name="no volume", tilt_angles_deg=wide, defocus_um=3.0),
    }


def write(path: Path, *those: TomogramEntry) -> Path:
    path.unlink(missing_ok=True)
    write_project(path, Project(ecosystem="none", folder=path.parent, tomograms=those))
    assert len(read_project(path).tomograms) == len(those)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_each_with_its_own_metadata_and_the_broken_ones_told(
    planted: Path,
    narrow: Path,
    tmp_path: Path,
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    those = entries(planted, narrow)
    cut = tmp_path / "cut.mrc"
    cut.write_bytes((planted / "tomogram.mrc").read_bytes()[:5000])
    those["cut"] = those["first"].model_copy(update={"name": "cut", "volume": cut})
    out = tmp_path / "out"
    broken = [those[name] for name in ("no defocus", "no volume", "cut")]
    first = write(tmp_path / "project.toml", *broken, those["second"])
    assert call("classify", first, *GIVEN, "--out", out) == 3
    assert "3 of 4 tomograms" in capsys.readouterr().err
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["failed"]) == {"no defocus", "no volume", "cut"}
    assert "defocus" in summary["failed"]["no defocus"]
    row = summary["tomograms"]["second"]
    assert (row["defocus_um"], row["first_tilt_deg"], row["tilts"]) == (2.5, -48.0, 33)
    assert row["contrast_sign"] == 1
    page = (out / "report.html").read_text()
    assert page.index("cut was not labelled") < page.index('href="./second/report.html"')

    # Another tomogram is added: the one that has labels is not labelled again.
    written = (out / "second" / "summary.json").stat().st_mtime_ns
    both = write(tmp_path / "both.toml", those["first"], those["second"])
    assert call("classify", both, *GIVEN, "--out", out, "--dry-run") == 0
    assert "first: to be labelled\nsecond: done before" in capsys.readouterr().out
    assert call("classify", both, *GIVEN, "--out", out) == 0
    assert (out / "second" / "summary.json").stat().st_mtime_ns == written

    found = read_particles(out / "particles.star")
    assert found.table is not None
    names = np.array(found.table.column("rlnTomoName"))
    for name, folder in (("first", planted), ("second", narrow)):
        truth = read_particles(folder / "particles.star")
        here = names == name
        distance_A, _ = cKDTree(truth.coordinates_A).query(found.coordinates_A[here])
        assert (distance_A < 60).mean() > 0.9
        assert (distance_A < 60).sum() > 0.9 * len(truth)
    with (out / "tomograms.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["tomogram"] for r in table] == ["first", "second"]
    assert (
        sum(int(r["apoferritin"]) for r in table)
        == json.loads((out / "summary.json").read_text())["classes"]["apoferritin"]
    )

    # Another run in the same folder is refused, and what is there stays.
    before = (out / "summary.json").read_bytes()
    assert call("classify", both, "--structures", CLASSES[0], "--out", out) == 4
    assert "another configuration" in capsys.readouterr().err
    assert (out / "summary.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_list_of_all_tomograms(
    planted: Path, narrow: Path, tmp_path: Path, one_thread: None
) -> None:
    """Its rows go by the name in the project; volumes may all be called ``tomogram``."""
    those = entries(planted, narrow)
    truth = read_particles(narrow / "particles.star")
    n = len(truth)
    places_A = np.concatenate([truth.coordinates_A, truth.coordinates_A[:5] + 300])
    names = ("second",) * n + ("elsewhere",) * 5
    sizes_A = np.full(n + 5, VOXEL_A)
    every = ParticleList(places_A, None, names, "relion4", pixel_size_A=sizes_A)
    write_star(tmp_path / "all.star", every, columns={"userNote": list(range(n + 5))})
    project, out = write(tmp_path / "project.toml", those["second"]), tmp_path / "out"
    given = (*GIVEN, "--particles", tmp_path / "all.star", "--out", out)
    assert call("classify", project, *given) == 0
    joint = read_star(out / "particles.star").table("particles")
    assert joint is not None
    assert set(joint.column("rlnTomoName")) == {"second"}
    notes = {int(note) for note in joint.column("userNote")}
    assert notes <= set(range(n))
    assert len(notes) > 0.85 * n
    assert "tomadaptRefinedXAngst" in joint


def test_strict_stops_at_the_first(
    planted: Path, narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    those = entries(planted, narrow)
    project = write(tmp_path / "project.toml", those["no defocus"], those["first"])
    assert call("classify", project, *GIVEN, "--out", tmp_path / "out", "--strict") == 2
    assert "no defocus_um" in capsys.readouterr().err
    assert not (tmp_path / "out" / "first").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--defocus", 3),
        ("--tilt-range", -60, 60),
        ("--voxel-size", 10),
        ("--pixel-size", 5),
        ("--method", "ada"),
    ],
)
def test_what_the_project_says_is_not_stated_again(
    option: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project.toml"
    project.write_text("")
    assert call("classify", project, *GIVEN, *option, "--out", tmp_path / "out") == 2
    assert "project" in capsys.readouterr().err


def test_options_of_projects_are_refused_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("classify", tmp_path / "t.mrc", *GIVEN, "--strict", "--out", tmp_path / "o") == 2
    assert "options of a project" in capsys.readouterr().err


def test_lists_of_other_columns_are_joined_without_a_loss(tmp_path: Path) -> None:
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 {}\n\n"
    one = "data_particles\n\nloop_\n_rlnTomoName #1\n_rlnOpticsGroup #2\n_a #3\nx 1 5\nx 1 6\n"
    other = "data_particles\n\nloop_\n_b #1\n_rlnOpticsGroup #2\n_rlnTomoName #3\n'7 8' 1 y\n"
    (tmp_path / "1.star").write_text(optics.format(10) + one)
    (tmp_path / "2.star").write_text(optics.format(12) + other)
    document = joined({"TS_1": tmp_path / "1.star", "TS_2": tmp_path / "2.star"})
    (tmp_path / "joined.star").write_text(document.text())
    read = read_star(tmp_path / "joined.star")
    particles, groups = read.table("particles"), read.table("optics")
    assert particles is not None
    assert groups is not None
    assert particles.column("rlnTomoName") == ("TS_1", "TS_1", "TS_2")
    assert particles.column("rlnOpticsGroup") == ("1", "1", "2")
    assert particles.column("a") == ("5", "6", "none")
    assert particles.column("b") == ("none", "none", "7 8")
    assert groups.column("rlnTomoTiltSeriesPixelSize") == ("10", "12")
