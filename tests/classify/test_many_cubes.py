"""Many cubes: some judged by likelihood, the others named by a network that learns from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from command_line import call
from tomadapt.acquisition import Acquisition
from tomadapt.inputs.particles import open_target
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.learn.model import Model
from tomadapt.recover.labels import read_labels
from tomadapt.simulate.dataset import SimulationConfig, open_set, simulate_set

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_screens")]
STATED = ("--structures", "tric,ribosome_50s", "--defocus", 8, "--tilt-range", -60, 60)
STUDENT = ("--method", "student", "--judged", 60, "--per-class", 12, "--epochs", 2)


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark cubes of a file whose truth is known."""
    folder = tmp_path_factory.mktemp("many")
    config = SimulationConfig(
        classes={"tric": "tric", "ribosome_50s": "ribosome_50s", "null": "null"},
        acquisition=Acquisition(name="cubes", defocus_um=8),
        per_class=40,
        snr=0.1,
        box=24,
        voxel_size_A=15.0,
        resolution_A=15.0,
        seed=3,
        even_noise=True,
    )
    data = simulate_set(config, folder / "set")
    volumes = data.source.read(range(len(data))).numpy()
    write_mrc(folder / "cubes.mrc", -volumes.reshape(-1, 24, 24), voxel_size_A=15.0)
    return folder / "cubes.mrc"


@pytest.fixture(scope="module")
def run(cubes: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("student")
    assert call("classify", cubes, *STATED, *STUDENT, "--out", out) == 0
    return out


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("default")
def test_cubes_that_were_not_judged_are_named_too(cubes: Path, run: Path) -> None:
    found, data = rows(run), open_set(cubes.parent / "set")
    assert [row["index"] for row in found] == [str(i) for i in range(len(data))]
    true = [data.class_names[label] for label in data.labels]
    right = np.array([row["label"] == name for row, name in zip(found, true, strict=True)])
    by = np.array([row["by"] for row in found])
    # Sixty at first, and of the others as many again as are judged at least.
    assert (by == "likelihood").sum() == 120
    assert right.mean() > 0.94


@pytest.mark.filterwarnings("default")
def test_what_a_run_leaves(cubes: Path, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    found = rows(run)
    assert summary["n_particles"] == len(found) == 120
    assert summary["n_labelled"] == sum(row["label"] != "null" for row in found)
    assert summary["contrast"]["sign"] == -1
    said = summary["student"]
    assert said["judged_cubes_never_seen"] == 12
    assert 0 <= said["agreement_with_likelihood"] <= 1
    assert said["snr_range"][0] < 0.1 < said["snr_range"][1]
    model = Model.load(run / "student.safetensors")
    assert model.card.class_names == ("tric", "ribosome_50s", "null", "other")
    assert model.card.training["judged"] == 48
    labels = read_labels(run / "labels.csv", open_target(cubes, contrast="negative"))
    assert list(labels) == [row["label"] for row in found]
    for row in found:
        total = sum(float(row[f"p_{name}"]) for name in ("tric", "ribosome_50s", "null"))
        assert total == pytest.approx(1, abs=3e-4)
        assert (row["rlnAngleRot"] == "") == (row["by"] == "student")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--defocus", "4", "--match-noise"], "would have no effect"),
        (["--defocus", "4", "--fdr", "0.1", "--adapt-epochs", "3"], "would have no effect"),
        ([], "a student cannot be taught"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: list[str], message: str, cubes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ("--structures", "tric", "--tilt-range", -60, 60, "--method", "student")
    assert call("classify", cubes, *given, *options, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_a_tomogram_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_mrc(tmp_path / "t.mrc", np.zeros((40, 60, 60), "f4"), voxel_size_A=10.0)
    given = (*STATED, "--method", "student", "--out", tmp_path / "out")
    assert call("classify", tmp_path / "t.mrc", *given) == 2
    assert "--method student labels cubes" in capsys.readouterr().err
