"""Labels by likelihood, from the command line: tomograms with planted particles, and cubes."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from classify.conftest import CLASSES, VOXEL_A
from command_line import call
from tomadapt.acquisition import Acquisition
from tomadapt.cli.options import holds_cubes
from tomadapt.inputs.particles import Contrast, open_target
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import ParticleList, read_particles, write_star
from tomadapt.recover.labels import read_labels
from tomadapt.recover.rotations import angular_distance_deg
from tomadapt.simulate.dataset import SimulationConfig, open_set, simulate_set
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram, write_planted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_screens", "quick_reports")]
OPTICS = ("--defocus", 8, "--tilt-range", -60, 60)
STATED: tuple[object, ...] = ("--structures", ",".join(CLASSES), *OPTICS)
NAMED = "tric,ribosome_50s"
BOX, CUBES_VOXEL_A = 24, 15.0


SHAPE_ZYX = (32, 112, 113)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller tomogram than the shared one, far enough from focus to measure the defocus in."""
    folder = tmp_path_factory.mktemp("few")
    config = TomogramConfig(
        classes=list(CLASSES),  # type: ignore[arg-type]
        counts={"ribosome_80s": 12, "apoferritin": 18},
        acquisition=Acquisition(name="true", defocus_um=8.2),
        shape_zyx=SHAPE_ZYX,
        snr=0.1,
        seed=5,
        box=28,
        voxel_size_A=VOXEL_A,
        resolution_A=VOXEL_A,
    )
    write_planted(simulate_tomogram(config), folder)
    return folder


@pytest.fixture(scope="module")
def run(few: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("judged")
    assert call("classify", few / "tomogram.mrc", *STATED, "--out", out) == 0
    return out


def column(particles: ParticleList, name: str) -> list[str]:
    assert particles.table is not None
    return list(particles.table.column(name))


def pairs(truth: ParticleList, found: ParticleList) -> list[tuple[int, int]]:
    """Planted and found particles within 60 Å of each other."""
    distance, nearest = cKDTree(truth.coordinates_A).query(found.coordinates_A)
    return [(int(nearest[i]), i) for i in range(len(found)) if distance[i] <= 60]


def test_planted_particles_are_found_named_and_posed(few: Path, run: Path) -> None:
    truth, found = (
        read_particles(few / "particles.star"),
        read_particles(run / "particles.star"),
    )
    both = pairs(truth, found)
    assert len({t for t, _ in both}) >= 0.95 * len(truth)
    assert len(both) >= 0.95 * len(found)
    true, named = column(truth, "tomadaptClassName"), column(found, "tomadaptClassName")
    assert np.mean([true[t] == named[f] for t, f in both]) >= 0.95
    off = [np.linalg.norm(truth.coordinates_A[t] - found.coordinates_A[f]) for t, f in both]
    assert np.median(off) < VOXEL_A / 2
    ribosomes = [(t, f) for t, f in both if true[t] == named[f] == "ribosome_80s"]
    assert truth.rotations is not None
    assert found.rotations is not None
    turned = angular_distance_deg(
        truth.rotations[[t for t, _ in ribosomes]].as_matrix(),
        found.rotations[[f for _, f in ribosomes]].as_matrix(),
    )
    assert np.median(turned) < 5


def test_what_a_run_leaves(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    found, rejected = (read_particles(run / f"{n}.star") for n in ("particles", "rejected"))
    assert len(found) == summary["n_labelled"]
    assert len(found) + len(rejected) == summary["n_particles"]
    assert summary["method"] == "likelihood"
    assert summary["contrast"]["sign"] == 1
    measured = summary["measured_acquisition"]
    assert abs(measured["defocus_um"] - 8.2) <= 0.5
    assert measured["hand_nats"] > 0
    assert 0 <= summary["fdr"]["expected"] < 0.1
    assert sum(summary["classes"].values()) == len(found)
    scores = np.array(column(found, "tomadaptScore"), float)
    rates = np.array(column(found, "tomadaptFDR"), float)
    for name in CLASSES:
        here = np.array(column(found, "tomadaptClassName")) == name
        order = np.argsort(-scores[here], kind="stable")
        assert (np.diff(rates[here][order]) >= -2e-4).all()  # four digits of each are written
        expected = np.cumsum(1 - scores[here][order]) / np.arange(1, here.sum() + 1)
        assert (rates[here][order] <= expected + 1e-3).all()
    assert set(column(found, "tomadaptKind")) == {"wanted"}
    page = (run / "report.html").read_text()
    assert "ribosome_80s" in page
    assumed = summary["assumed"]
    assert set(assumed) == {"voxel size", "coordinates", "contrast", "tilts", "CTF", "label key"}
    assert assumed["voxel size"] == f"voxels of {VOXEL_A:g} Å, as the file says"
    assert "What was assumed" in page
    assert assumed["tilts"] in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_again_is_the_same(few: Path, run: Path) -> None:
    before = (run / "particles.star").read_bytes()
    assert call("classify", few / "tomogram.mrc", *STATED, "--out", run) == 0
    assert (run / "particles.star").read_bytes() == before


@pytest.fixture(scope="module")
def dark_run(few: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """The tomogram with dark density and another voxel size in its header, cut at a rate."""
    folder = tmp_path_factory.mktemp("dark")
    path, out = folder / "given.mrc", folder / "out"
    with mrcfile.open(few / "tomogram.mrc") as file:
        write_mrc(path, -np.array(file.data), voxel_size_A=15.3)
    options = ("--voxel-size", VOXEL_A, "--fdr", 0.01, "--out", out)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call("classify", path, *STATED, *options) == 0
    return out


def test_dark_density_and_a_cut_at_a_rate(run: Path, dark_run: Path) -> None:
    out = dark_run
    summary = json.loads((out / "summary.json").read_text())
    assert summary["contrast"]["sign"] == -1
    assert summary["n_labelled"] <= json.loads((run / "summary.json").read_text())["n_labelled"]
    rates = np.array(column(read_particles(out / "particles.star"), "tomadaptFDR"), float)
    assert (rates <= 0.01).all()


@pytest.mark.filterwarnings("ignore:.*teach little of what their classes look like")
def test_others_picks_are_cleaned(few: Path, tmp_path: Path) -> None:
    """A list of positions, three voxels off and a third of them empty, keeps rows and columns."""
    truth = read_particles(few / "particles.star")
    rng = np.random.default_rng(0)
    last = (np.array(SHAPE_ZYX[::-1]) - 1) * VOXEL_A
    empty = rng.uniform(150, last - 150, (400, 3))
    far = cKDTree(truth.coordinates_A).query(empty)[0] > 250
    empty = empty[far][:20]
    off = rng.normal(0, 8.0, truth.coordinates_A.shape)
    places = np.concatenate([truth.coordinates_A + off, empty])
    n = len(places)
    listed = ParticleList(
        coordinates_A=places,
        rotations=None,
        tomograms=("tomogram",) * n,
        dialect="relion4",
        pixel_size_A=np.full(n, VOXEL_A),
    )
    path = tmp_path / "picks.star"
    write_star(path, listed, columns={"userNote": [f"note-{i}" for i in range(n)]})
    out = tmp_path / "out"
    given = ("--particles", path, "--out", out)
    assert call("classify", few / "tomogram.mrc", *STATED, *given) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert "15 Å: 1 pixel a voxel" in summary["assumed"]["coordinates"]
    assert not [text for text in summary["warnings"] if "check where they count" in text]
    found, rejected = (read_particles(out / f"{k}.star") for k in ("particles", "rejected"))
    assert len(rejected) > 0
    assert "wanted" not in column(rejected, "tomadaptKind")
    assert all(column(rejected, "tomadaptReason"))
    notes = column(found, "userNote") + column(rejected, "userNote")
    assert sorted(notes) == sorted(f"note-{i}" for i in range(n))
    kept = {int(note.removeprefix("note-")) for note in column(found, "userNote")}
    assert len([i for i in kept if i < len(truth)]) >= 0.9 * len(truth)
    assert len([i for i in kept if i >= len(truth)]) <= 2
    axes = [f"tomadaptRefined{axis}Angst" for axis in "XYZ"]
    refined = np.stack([np.array(column(found, axis), float) for axis in axes], axis=1)
    of = [int(note.removeprefix("note-")) for note in column(found, "userNote")]
    real = [i for i, row in enumerate(of) if row < len(truth)]
    error = np.linalg.norm(refined[real] - truth.coordinates_A[[of[i] for i in real]], axis=1)
    assert np.median(error) < np.median(np.linalg.norm(off, axis=1))


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cubes")
    config = SimulationConfig(
        classes={"tric": "tric", "ribosome_50s": "ribosome_50s", "null": "null"},
        acquisition=Acquisition(name="cubes", defocus_um=8),
        per_class=12,
        snr=0.1,
        box=BOX,
        voxel_size_A=CUBES_VOXEL_A,
        resolution_A=CUBES_VOXEL_A,
        seed=3,
    )
    simulate_set(config, folder / "set")
    return folder / "set"


@pytest.fixture(scope="module")
def set_run(cubes: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("set_run")
    assert call("classify", cubes, "--structures", NAMED, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def dark_cubes_run(cubes: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Dark cubes with another voxel size in their header than the stated one."""
    folder = tmp_path_factory.mktemp("dark_cubes")
    path, out = folder / "given.mrc", folder / "out"
    write_mrc(path, -volumes(cubes).reshape(-1, BOX, BOX), voxel_size_A=15.3)
    options = (*OPTICS, "--voxel-size", CUBES_VOXEL_A, "--out", out)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call("classify", path, "--structures", NAMED, *options) == 0
    return out


def volumes(cubes: Path) -> NDArray[np.float32]:
    data = open_set(cubes)
    return data.source.read(range(len(data))).numpy()


def labels(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore:.*in its header")  # of the dark ones, opened a second time
@pytest.mark.parametrize("kind", ["set", "npy", "dark mrc"])
def test_cubes_of_any_kind(
    kind: str, cubes: Path, tmp_path: Path, request: pytest.FixtureRequest, one_thread: None
) -> None:
    data = open_set(cubes)
    if kind == "npy":
        path, out = tmp_path / "cubes.npy", tmp_path / "out"
        np.save(path, volumes(cubes))
        options = (*OPTICS, "--voxel-size", CUBES_VOXEL_A, "--out", out)
        assert call("classify", path, "--structures", NAMED, *options) == 0
    elif kind == "dark mrc":
        out = request.getfixturevalue("dark_cubes_run")
        path = out.parent / "given.mrc"
    else:
        path, out = cubes, request.getfixturevalue("set_run")
    rows = labels(out)
    assert [row["index"] for row in rows] == [str(i) for i in range(len(data))]
    true = [data.class_names[i] for i in data.labels]
    assert np.mean([row["label"] == name for row, name in zip(rows, true, strict=True)]) > 0.94
    for row in rows:
        total = sum(float(row[f"p_{name}"]) for name in ("tric", "ribosome_50s", "null"))
        assert total == pytest.approx(1, abs=2e-4)
        assert (row["kind"] == "wanted") == (row["label"] != "null")
        named = row["reason"].startswith("named by likelihood")
        assert named == (row["label"] != "null")
        assert named or "nats against noise" in row["reason"]
    summary = json.loads((out / "summary.json").read_text())
    contrast: Contrast = "negative" if kind == "dark mrc" else "positive"
    opened = open_target(path, voxel_size_A=CUBES_VOXEL_A, contrast=contrast)
    read = read_labels(out / "labels.csv", data if kind == "set" else opened)
    assert read == [row["label"] for row in rows]
    assert set(summary["assumed"]) == {"voxel size", "contrast", "tilts", "CTF", "label key"}
    assert summary["n_particles"] == len(data)
    assert summary["contrast"]["sign"] == (-1 if kind == "dark mrc" else 1)
    measured = summary["measured_acquisition"]
    assert measured["scale"] == 1.0
    assert 0.3 < measured["snr"] / 0.1 < 3  # the set's is of its tilt images
    assert measured["snr_before_ctf"] > measured["snr"]
    assert not any("times as large" in text for text in summary["warnings"])


@pytest.mark.filterwarnings("default")
def test_a_wrong_voxel_size_is_told(cubes: Path, tmp_path: Path, one_thread: None) -> None:
    """Voxels of 15 Å whose file says 16.5 Å were labelled in silence."""
    path, out = tmp_path / "cubes.mrc", tmp_path / "out"
    write_mrc(path, volumes(cubes).reshape(-1, BOX, BOX), voxel_size_A=16.5)
    assert call("classify", path, "--structures", NAMED, *OPTICS, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["measured_acquisition"]["scale"] > 1.05
    told = [text for text in summary["warnings"] if "times as large" in text]
    assert len(told) == 1
    assert "voxels are smaller than the 16.5 Å that is stated or in the file" in told[0]


@pytest.mark.parametrize("kind", ["dark_run", "dark_cubes_run"])
def test_regression_a_voxel_size_stated_over_the_header_is_kept(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The warning that names both was on the screen alone, and neither in summary nor report."""
    out = request.getfixturevalue(kind)
    path = out.parent / "given.mrc"
    summary = json.loads((out / "summary.json").read_text())
    sentence = f"{path} has voxels of 15.3 Å in its header, and 15 Å are stated"
    assert [sentence in text for text in summary["warnings"]].count(True) == 1
    assert summary["assumed"]["voxel size"].startswith("voxels of 15 Å, as stated; ")
    assert sentence in summary["assumed"]["voxel size"]
    page = (out / "report.html").read_text()
    assert page.count("15.3 Å in its header") >= 2


def test_poses_of_cubes_turn_the_structure_into_the_particle(cubes: Path, set_run: Path) -> None:
    data = open_set(cubes)
    planted = np.concatenate([np.load(p)["rotations"] for p in sorted(cubes.glob("shard-*.npz"))])
    rows = labels(set_run)
    angles = np.array(
        [[float(row[f"rlnAngle{a}"]) for a in ("Rot", "Tilt", "Psi")] for row in rows]
    )
    found = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    of = [i for i, label in enumerate(data.labels) if data.class_names[label] == "ribosome_50s"]
    off = angular_distance_deg(planted[of].reshape(-1, 3, 3), found[of])
    assert np.median(off) < 5


def test_what_is_cubes_and_what_is_a_tomogram(few: Path, cubes: Path, tmp_path: Path) -> None:
    assert not holds_cubes(few / "tomogram.mrc")
    assert holds_cubes(cubes)
    write_mrc(tmp_path / "one.mrc", np.zeros((64, 64, 64), "f4"), voxel_size_A=10.0)
    write_mrc(tmp_path / "two.mrc", np.zeros((128, 64, 64), "f4"), voxel_size_A=10.0)
    assert not holds_cubes(tmp_path / "one.mrc")
    assert holds_cubes(tmp_path / "two.mrc")
    assert not holds_cubes(tmp_path / "missing.mrc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--defocus", "4"], "a tomogram needs --tilt-range"),
        (["--tilt-range", "-60", "60"], "a tomogram needs --defocus"),
        (["--fdr", "2"], "between 0 and 1"),
        (["--fdr", "0.1", "--method", "ada"], "would have no effect"),
        (["--epochs", "3"], "would have no effect"),
        (["--sigma-nm", "6"], "would have no effect"),
        (["--method", "guess"], "--method has an unknown value"),
        (["--method", "ada", "--judged", "500"], "--judged would have no effect"),
        (["--particles", "a.star", "--tilt-series-pixel-size", "2.5"], "would have no effect"),
        (["--defocus", "40000"], "give it in µm: 40000 Å are 4 µm"),
    ],
)
def test_bad_options_before_any_work(
    options: list[str],
    message: str,
    few: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    alone = options[0] in ("--defocus", "--tilt-range")
    rest = [] if alone else ["--defocus", "4", "--tilt-range", "-60", "60"]
    words = ("--structures", "apoferritin", *rest, *options)
    assert call("classify", few / "tomogram.mrc", *words, "--out", out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()
