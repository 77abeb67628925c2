"""One command from a tomogram to labelled particles, on planted ones, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial import cKDTree

from classify.conftest import CLASSES, VOXEL_A
from command_line import call
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import ParticleList, read_particles
from tomadapt.learn.model import Model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_reports")]
STATED = ("--structures", ",".join(CLASSES), "--defocus", 4, "--tilt-range", -60, 60)
QUICK = (
    "--method",
    "ada",
    "--per-class",
    24,
    "--epochs",
    14,
    "--adapt-epochs",
    2,
    "--box",
    28,
    "--defocus-spread",
    0,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def run(
    planted: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> Path:
    out = tmp_path_factory.mktemp("run")
    found = planted / "tomogram.mrc"
    assert call("classify", found, *STATED, *QUICK, "--cache", cache, "--out", out) == 0
    return out


def classes_of(particles: ParticleList) -> list[str]:
    assert particles.table is not None
    return list(particles.table.column("tomadaptClassName"))


def recovered(planted: Path, out: Path) -> tuple[float, float, float]:
    """Recall and precision of positions, and the fraction of right labels among those found."""
    truth, found = read_particles(planted / "particles.star"), read_particles(out)
    tree = cKDTree(truth.coordinates_A)
    distance, nearest = tree.query(found.coordinates_A)
    hit: dict[int, int] = {}
    for row in np.argsort(distance):
        if distance[row] <= 100:
            hit.setdefault(int(nearest[row]), int(row))
    labels, true = classes_of(found), classes_of(truth)
    right = np.mean([labels[row] == true[planted_row] for planted_row, row in hit.items()])
    return len(hit) / len(truth), len(hit) / len(found), float(right)


def test_planted_particles_are_found_and_named(planted: Path, run: Path) -> None:
    recall, precision, right = recovered(planted, run / "particles.star")
    assert recall >= 0.9
    assert 2 * recall * precision / (recall + precision) >= 0.85
    assert right >= 0.85


def test_what_a_run_leaves(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["contrast"]["sign"] == 1
    assert summary["guard"]["chosen"] in ("ada", "target_statistics", "source_only")
    assert not summary["source_model"]["reused"]
    particles = read_particles(run / "particles.star")
    rejected = read_particles(run / "rejected.star")
    assert len(particles) == summary["n_labelled"]
    assert len(particles) + len(rejected) == summary["n_particles"]
    assert particles.table is not None
    scores = np.array(particles.table.column("tomadaptScore"), float)
    assert ((scores > 0) & (scores <= 1)).all()
    assert all("named by" in reason for reason in particles.table.column("tomadaptReason"))
    numbers = set(zip(classes_of(particles), particles.table.column("rlnClassNumber"), strict=True))
    assert numbers <= {("ribosome_80s", "1"), ("apoferritin", "2")}
    page = (run / "report.html").read_text()
    assert "The tomogram" in page
    assert "measured; particles bright" in page


@pytest.mark.usefixtures("quick_first_references")
def test_what_was_classified_is_averaged(run: Path, tmp_path: Path) -> None:
    quick = ["--iterations", 1, "--starts", 1, "--step", 30]
    assert call("average", run / "particles.star", "--out", tmp_path, *quick) == 0
    record = json.loads((tmp_path / "fsc.json").read_text())["classes"]
    labelled = read_particles(run / "particles.star")
    assert sum(one["particles"] for one in record.values()) == len(labelled)
    assert set(record) == set(classes_of(labelled))
    with mrcfile.open(tmp_path / "ribosome_80s.mrc") as file:
        assert file.data.std() > 0


def test_again_is_at_once_and_the_same(planted: Path, cache: Path, run: Path) -> None:
    before = (run / "particles.star").read_bytes()
    found = planted / "tomogram.mrc"
    assert call("classify", found, *STATED, *QUICK, "--cache", cache, "--out", run) == 0
    assert (run / "particles.star").read_bytes() == before


def labels_by_place(path: Path) -> dict[tuple[int, ...], str]:
    particles = read_particles(path)
    places = np.round(particles.coordinates_A / VOXEL_A).astype(int)
    return dict(zip(map(tuple, places.tolist()), classes_of(particles), strict=True))


@pytest.mark.parametrize("kind", ["inverted", "no voxel size", "odd axes", "int16"])
def test_another_file_of_the_same_tomogram(
    kind: str, planted: Path, cache: Path, run: Path, tmp_path: Path, one_thread: None
) -> None:
    """The same labels, from the model in the cache, whatever the file's sign, type and header."""
    with mrcfile.open(planted / "tomogram.mrc") as file:
        volume = np.array(file.data)
    options: list[object] = []
    path = tmp_path / "other.mrc"
    if kind == "inverted":
        write_mrc(path, -volume, voxel_size_A=VOXEL_A)
    elif kind == "no voxel size":
        write_mrc(path, volume, voxel_size_A=1.0)
        wrong = call("classify", path, *STATED, *QUICK, "--cache", cache, "--out", tmp_path / "no")
        assert wrong == 2
        assert not (tmp_path / "no" / "particles.star").exists()
        options = ["--voxel-size", VOXEL_A]
    elif kind == "odd axes":
        assert volume.shape[2] % 2
        write_mrc(path, volume[:47, :139], voxel_size_A=VOXEL_A)
    else:
        step = (volume.max() - volume.min()) / 60000
        with mrcfile.new(path) as mrc:
            mrc.set_data(np.round((volume - volume.mean()) / step).astype(np.int16))
            mrc.voxel_size = VOXEL_A
    out = tmp_path / "out"
    assert call("classify", path, *STATED, *QUICK, "--cache", cache, "--out", out, *options) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["source_model"]["reused"]
    assert summary["contrast"]["sign"] == (-1 if kind == "inverted" else 1)
    before, after = (labels_by_place(folder / "particles.star") for folder in (run, out))
    if kind == "odd axes":  # what the cut took away is not there
        before = {place: label for place, label in before.items() if place in after}
    same = sum(after.get(place) == label for place, label in before.items())
    # Where voxels or values differ at all, training may end with another label for one particle.
    assert len(before) - same <= max(1, 0.01 * len(before))
    assert len(before) > 40


def test_listed_particles_come_back_with_labels(
    planted: Path, cache: Path, tmp_path: Path, one_thread: None
) -> None:
    """Every row and every column of the list is in one of the two files, in order."""
    text = (planted / "particles.star").read_text().rstrip("\n").split("\n")
    first = next(n for n, line in enumerate(text) if line.startswith("tomogram"))
    rows = [f"{line}  note-{n}" for n, line in enumerate(text[first:])]
    head = text[:first]
    count = sum(line.startswith("_") for line in head[head.index("data_particles") :])
    head.append(f"_userNote #{count + 1}")
    far = rows[0].split()
    far[1:4] = ["900", "900", "900"]
    path = tmp_path / "mine.star"
    path.write_text("\n".join([*head, *rows, "  ".join(far), ""]))
    out = tmp_path / "out"
    done = call(
        "classify", planted / "tomogram.mrc", *STATED, *QUICK, "--cache", cache, "--out", out,
        "--particles", path,
    )  # fmt: skip
    assert done == 0
    notes = []
    for name in ("particles.star", "rejected.star"):
        table = read_particles(out / name, strict=False).table
        assert table is not None
        notes += list(table.column("userNote"))
    assert sorted(notes) == sorted([row.split()[-1] for row in rows] + [far[-1]])
    rejected = read_particles(out / "rejected.star", strict=False).table
    assert rejected is not None
    assert "outside the tomogram" in rejected.column("tomadaptReason")[-1]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--structures", "nothing_such"], 2, "unknown structure"),
        (["--structures", "apoferritin,apoferritin"], 2, "twice"),
        (["--tilt-range", "60", "60"], 2, "tilt range runs upwards"),
        (["--defocus", "40000"], 2, "--defocus"),
        (["--also", "zarr"], 2, "csv or copick or ome-zarr"),
        (["--sigma-nm", "6", "--particles", "none.star"], 2, "would have no effect"),
        (["--particles", "none.star"], 3, "none.star"),
    ],
)
def test_bad_options_before_any_work(
    options: list[str],
    code: int,
    message: str,
    planted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    found = planted / "tomogram.mrc"
    given = dict(zip(("--structures", "--defocus"), (STATED[1], "4"), strict=True))
    tilt = ["--tilt-range", "-60", "60"]
    if options[0] == "--tilt-range":
        tilt = options
        options = []
    given |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in given.items() for word in pair]
    assert call("classify", found, *words, *tilt, "--out", out) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (out / "particles.star").exists()


def test_an_older_source_model_is_not_mixed_with_a_new_one(
    planted: Path, cache: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's adapted model came from another source: a structure's file was changed, say."""
    out = tmp_path / "out"
    shutil.copytree(run, out)
    path = out / "adapted.safetensors"
    model = Model.load(path)
    assert model.card.training["adapted_from"]
    model.copy(training=model.card.training | {"adapted_from": "another"}).save(path)
    found = planted / "tomogram.mrc"
    assert call("classify", found, *STATED, *QUICK, "--cache", cache, "--out", out) == 4
    assert "adapted from another source model" in capsys.readouterr().err


def test_the_list_is_not_overwritten(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(planted, tmp_path / "data")
    files = [tmp_path / "data" / name for name in ("tomogram.mrc", "particles.star")]
    before = files[1].read_bytes()
    options = ["--particles", files[1], "--cache", tmp_path, "--out", tmp_path / "data"]
    assert call("classify", files[0], *STATED, *QUICK, *options) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert files[1].read_bytes() == before


def test_pick_and_extract(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, picks = planted / "tomogram.mrc", tmp_path / "picks.star"
    assert call("pick", found, "--sigma-nm", 6, "--null", 5, "--out", picks) == 0
    n = len(read_particles(picks))
    assert 50 <= n <= 90
    empty = read_particles(tmp_path / "picks_null.star").coordinates_A
    assert len(empty) == 5
    truth = read_particles(planted / "particles.star").coordinates_A
    assert cKDTree(truth).query(empty)[0].min() > 150
    assert call("extract", found, "--particles", picks, "--box", 28, "--out", tmp_path / "set") == 0
    assert f"{n} particles, 0 rejected" in capsys.readouterr().out
    cubes = np.load(tmp_path / "set" / "subtomograms.npy")
    assert cubes.shape == (n, 28, 28, 28)
    assert cubes[:, 10:18, 10:18, 10:18].mean() > cubes.mean()
