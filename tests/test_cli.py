"""The command line, by commands."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from command_line import call
from tomadapt.cli import app
from tomadapt.experiments import EXPERIMENTS
from tomadapt.fsc import soft_sphere
from tomadapt.learn.model import Model
from tomadapt.simulate.dataset import open_set
from tomadapt.structures import BUILTIN

COMMANDS = (
    "pick",
    "extract",
    "reconstruct",
    "classify",
    "simulate",
    "train",
    "adapt",
    "predict",
    "report",
    "align",
    "average",
    "discover",
    "run",
    "demo",
    "self-check",
    "experiment",
    "benchmark",
    "structures",
    "doctor",
    "import",
)
CLASSES = ["apoferritin", "tric", "null"]
SIMULATION = """\
classes = ["apoferritin", "tric", "null"]
acquisition = "{acquisition}"
per_class = {per_class}
snr = 1.0
seed = {seed}
box = 24
voxel_size_A = 16.0
resolution_A = 20.0
"""


class TestHelp:
    def test_is_printed(self) -> None:
        command = [sys.executable, "-m", "tomadapt", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Usage:" in done.stdout

    @pytest.mark.parametrize("stated", [None, "ACTIVE"])
    def test_waiting_threads_sleep_unless_the_user_says_otherwise(self, stated: str | None) -> None:
        code = (
            "import os, sys; from tomadapt.cli import main; sys.argv = ['tomadapt', '--version']\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print(*map(os.environ.get, ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))\n"
            "print('torch' in sys.modules)"
        )
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        given = {k: v for k, v in os.environ.items() if k not in names}
        given |= {} if stated is None else {"OMP_WAIT_POLICY": stated}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given
        )
        expected = "PASSIVE 0" if stated is None else "ACTIVE None"
        assert done.stdout.splitlines()[-2:] == [expected, "False"]

    def test_nothing_heavy_is_imported(self) -> None:
        heavy = ("torch", "gemmi", "matplotlib", "numpy", "scipy", "pydantic", "lightning_fabric")
        code = f"import sys, tomadapt.cli; print(*[m for m in {heavy} if m in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == []

    def test_names_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("--help") == 0
        printed = capsys.readouterr().out
        for command in COMMANDS:
            assert f"\n  {command} " in printed
        assert len(app.registered_commands) == len(COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert call(command, "--help") == 0
        printed = capsys.readouterr()
        assert f"{command} " in printed.out
        assert "--help" in printed.out
        assert printed.err == ""


def test_structures(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("structures") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*BUILTIN, "null"]
    assert [line.split()[1] for line in lines[:-1]] == [info.pdb_id for info in BUILTIN.values()]


@dataclass(frozen=True)
class Chain:
    """What the five commands left in a folder."""

    folder: Path

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


pytestmark = pytest.mark.usefixtures("one_thread", "quick_reports")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Chain:
    """simulate → train → adapt → predict → report, in a folder that holds nothing else."""
    settings = tmp_path_factory.mktemp("settings")
    for name, acquisition, per_class, seed in [
        ("source", "batch_b", 8, 0),
        ("target", "batch_a", 5, 1),
    ]:
        text = SIMULATION.format(acquisition=acquisition, per_class=per_class, seed=seed)
        (settings / f"{name}.toml").write_text(text)
    folder = tmp_path_factory.mktemp("chain")
    source, target = folder / "source", folder / "target"
    before, after = folder / "source.safetensors", folder / "adapted.safetensors"
    assert call("simulate", settings / "source.toml", "--out", source) == 0
    assert call("simulate", settings / "target.toml", "--out", target) == 0
    assert call("train", source, "--out", before, "--epochs", 3) == 0
    domains = ["--source", source, "--target", target]
    assert call("adapt", before, *domains, "--out", after, "--epochs", 1) == 0
    assert call("predict", after, target, "--out", folder / "labels.csv") == 0
    report = folder / "report.html"
    assert call("report", before, after, *domains, "--out", report, "--title", "Chain") == 0
    return Chain(folder)


class TestChain:
    def test_leaves_what_was_asked_for_and_no_more(self, chain: Chain) -> None:
        assert chain.files == {
            "source",
            "target",
            "source.safetensors",
            "adapted.safetensors",
            "labels.csv",
            "report.html",
        }
        assert {path.suffix for path in (chain.folder / "source").iterdir()} == {
            ".json",
            ".npy",
            ".npz",
        }

    def test_one_row_a_particle_in_order(self, chain: Chain) -> None:
        rows = chain.rows("labels.csv")
        assert list(rows[0]) == ["index", "label", "probability", *CLASSES, "cubes_digest"]
        assert [int(row["index"]) for row in rows] == list(range(15))
        for row in rows:
            probabilities = [float(row[name]) for name in CLASSES]
            assert sum(probabilities) == pytest.approx(1, abs=3e-4)
            assert row["label"] in CLASSES
            assert float(row[row["label"]]) == float(row["probability"]) == max(probabilities)

    def test_models_say_what_made_them(self, chain: Chain) -> None:
        before = Model.load(chain.folder / "source.safetensors").card
        after = Model.load(chain.folder / "adapted.safetensors").card
        assert before.class_names == after.class_names == tuple(CLASSES)
        assert (before.box, before.voxel_size_A, before.method) == (24, 16.0, "source_only")
        assert len(before.training["history"]) == 3
        assert after.training["adaptation"]["epochs"] == 1
        assert len(after.training["adaptation_history"]) == 1

    def test_report(self, chain: Chain) -> None:
        page = (chain.folder / "report.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>") or page.lower().startswith("<!doctype html>")
        assert "<title>Chain" in page
        assert "apoferritin" in page
        assert "http" not in page.split("<body", maxsplit=1)[0].replace("http-equiv", "")

    @pytest.mark.parametrize(
        "kind", ["npy", "npz", "mrc", "mrcs", "folder", "negative npy", "set at another SNR"]
    )
    def test_the_same_particles_from_files_get_the_same_labels(
        self, kind: str, chain: Chain, tmp_path: Path
    ) -> None:
        data = open_set(chain.folder / "target")
        cubes = data.source.read(range(len(data))).numpy()
        options: list[object] = []
        target = tmp_path / f"t.{kind}"
        if kind == "npy":
            np.save(target, cubes)
            options = ["--voxel-size", 16]
        elif kind == "npz":
            np.savez(target, x=cubes, y=data.labels)
            options = ["--voxel-size", 16]
        elif kind == "mrc":
            write_mrc(target, cubes)
        elif kind == "mrcs":
            write_mrc(target, cubes.reshape(-1, 24, 24))
        elif kind == "folder":
            target = tmp_path / "cubes"
            target.mkdir()
            for index, cube in enumerate(cubes):
                write_mrc(target / f"{index:03d}.mrc", cube)
        elif kind == "negative npy":
            target = tmp_path / "t.npy"
            np.save(target, 100 - 3 * cubes)
            options = ["--voxel-size", 16, "--contrast", "negative"]
        else:
            target = chain.folder / "target"
            options = ["--snr", 1.0]
        out = tmp_path / "new folder" / "labels.csv"
        model = chain.folder / "adapted.safetensors"
        assert call("predict", model, target, "--out", out, *options) == 0
        given, expected = Chain(out.parent).rows(out.name), chain.rows("labels.csv")
        assert [row["label"] for row in given] == [row["label"] for row in expected]
        np.testing.assert_allclose(
            [float(row["probability"]) for row in given],
            [float(row["probability"]) for row in expected],
            atol=2e-4,
        )

    def test_adapting_to_a_file_is_adapting_to_the_set(self, chain: Chain, tmp_path: Path) -> None:
        data = open_set(chain.folder / "target")
        write_mrc(tmp_path / "t.mrc", data.source.read(range(len(data))).numpy())
        arguments = ["adapt", chain.folder / "source.safetensors", "--epochs", 1]
        arguments += ["--source", chain.folder / "source", "--target", tmp_path / "t.mrc"]
        assert call(*arguments, "--out", tmp_path / "a.safetensors") == 0
        one = Model.load(tmp_path / "a.safetensors")
        other = Model.load(chain.folder / "adapted.safetensors")
        for name, weights in one.state().items():
            np.testing.assert_allclose(weights, other.state()[name], atol=1e-5, err_msg=name)

    def test_noise_and_proportions_are_the_targets(
        self, chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A model trained with --noise-of is known again by --match-noise, and by it alone."""
        domains = ["--source", chain.folder / "source", "--target", chain.folder / "target"]
        before = tmp_path / "source.safetensors"
        like = ["--noise-of", chain.folder / "target"]
        assert call("train", chain.folder / "source", *like, "--epochs", 1, "--out", before) == 0
        adapt = ["adapt", before, *domains, "--epochs", 1, "--out", tmp_path / "a.safetensors"]
        capsys.readouterr()
        assert call(*adapt, "--match-noise", "--match-proportions") == 0
        told = capsys.readouterr().err
        assert "was not trained on" not in told
        shares = told.split("estimated proportions: ")[1].split("\n")[0].split(", ")
        assert [share.rsplit(" ", 1)[0] for share in shares] == list(CLASSES)
        assert sum(float(share.rsplit(" ", 1)[1]) for share in shares) == pytest.approx(1, abs=0.02)
        assert call(*adapt) == 0
        assert "was not trained on" in capsys.readouterr().err

    def test_report_on_particles_without_labels(self, chain: Chain, tmp_path: Path) -> None:
        data = open_set(chain.folder / "target")
        write_mrc(tmp_path / "t.mrc", data.source.read(range(len(data))).numpy())
        models = [chain.folder / "source.safetensors", chain.folder / "adapted.safetensors"]
        arguments = ["report", *models, "--source", chain.folder / "source"]
        arguments += ["--target", tmp_path / "t.mrc", "--out", tmp_path / "r.html"]
        assert call(*arguments) == 0
        assert "accuracy on held-out" not in (tmp_path / "r.html").read_text(encoding="utf-8")

    def test_simulating_again_changes_nothing(
        self, chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {p: p.read_bytes() for p in (chain.folder / "target").iterdir()}
        text = SIMULATION.format(acquisition="batch_a", per_class=5, seed=1)
        (tmp_path / "target.toml").write_text(text)
        assert call("simulate", tmp_path / "target.toml", "--out", chain.folder / "target") == 0
        assert capsys.readouterr().out == f"{chain.folder / 'target'}\n"
        assert {p: p.read_bytes() for p in (chain.folder / "target").iterdir()} == before


def write_mrc(path: Path, data: np.ndarray) -> None:
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 16.0


@pytest.mark.usefixtures("quick_first_references")
class TestRecovery:
    """align, average and discover; in a folder of their own."""

    def test_poses_of_every_particle(self, chain: Chain, tmp_path: Path) -> None:
        target, averages = chain.folder / "target", tmp_path / "averages"
        labels = chain.folder / "labels.csv"
        quick = ["--iterations", 1, "--starts", 1, "--step", 30]
        assert call("average", target, "--labels", labels, "--out", averages, *quick) == 0
        record = json.loads((averages / "fsc.json").read_text())["classes"]
        counted = sum(one["particles"] for one in record.values())
        assert counted == 15  # every particle is in a class, averaged or with a reason
        assert "noise" in record["null"]["reason"] or record["null"]["particles"] < 4
        maps = [one["file"] for one in record.values() if "reason" not in one]
        assert maps
        reference = averages / maps[0]
        out = tmp_path / "poses.csv"
        assert call("align", target, "--reference", reference, "--out", out, "--step", 30) == 0
        with mrcfile.open(reference) as file:
            dark = -file.data
        inverted = tmp_path / "inverted.mrc"
        write_mrc(inverted, dark)
        wrong = ["--reference", inverted, "--out", tmp_path / "wrong.csv"]
        assert call("align", target, *wrong) == 3
        assert not (tmp_path / "wrong.csv").exists()
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 15
        assert all(-1 <= float(row["score"]) <= 1 for row in rows)

    def test_averages_again_are_at_once(
        self, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ["average", chain.folder / "target", "--out", tmp_path / "a"]
        command += ["--iterations", 1, "--starts", 1, "--step", 30]
        assert call(*command) == 0
        monkeypatch.setattr("tomadapt.recover.averages.average", None)
        assert call(*command) == 0
        assert (tmp_path / "a" / "all.mrc").exists()

    def test_a_mask_of_ones_own(
        self, chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mask, box = tmp_path / "mask.mrc", 24
        soft = soft_sphere(box, radius_voxels=7.0)
        write_mrc(mask, soft)
        command = ["average", chain.folder / "target", "--iterations", 1, "--starts", 1]
        command += ["--step", 30, "--mask", mask]
        assert call(*command, "--out", tmp_path / "a") == 0
        assert "must leave room" in capsys.readouterr().err  # there is no template
        with mrcfile.open(tmp_path / "a" / "all_mask.mrc") as file:
            np.testing.assert_allclose(file.data, soft, atol=0.05)
        mask.unlink()
        write_mrc(mask, 100 * soft)
        assert call(*command, "--out", tmp_path / "b") == 3
        assert "is no mask" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()

    def test_clusters_and_candidates(self, chain: Chain, tmp_path: Path) -> None:
        before, after = chain.folder / "source.safetensors", chain.folder / "adapted.safetensors"
        domains = ["--source", chain.folder / "source", "--target", chain.folder / "target"]
        out = tmp_path / "found"
        assert call("discover", before, after, *domains, "--out", out, "--clusters", 3) == 0
        assert "Clusters: target" in (out / "report.html").read_text(encoding="utf-8")
        with (out / "clusters.csv").open(newline="") as file:
            clusters = list(csv.DictReader(file))
        assert sum(int(row["particles"]) for row in clusters) == 15
        with (out / "particles.csv").open(newline="") as file:
            assert {row["cluster"] for row in csv.DictReader(file)} == {
                row["name"] for row in clusters
            }

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["average", "{target}", "--symmetry", "Q"], 2, "unknown symmetry"),
            (["average", "{target}", "--class", "x"], 2, "no particle has the class"),
            (["average", "{target}", "--labels", "{target}/set.json"], 3, "cannot be used"),
            (["average", "{target}", "--defocus", 30000], 2, "--defocus"),
            (["average", "{target}", "--tilt-range", -600, 60], 2, "between -90 and 90"),
            (["average", "{target}", "--tilt-range", 60, -60], 2, "first below the last"),
            (["average", "{target}", "--mask", "shpere"], 2, "unknown mask 'shpere'"),
            (["align", "{target}", "--reference", "{target}/none.mrc"], 2, "format of"),
            (["average", "{target}/none.star"], 3, "cannot read"),
        ],
    )
    def test_mistakes_before_any_work(
        self,
        chain: Chain,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: list[object],
        code: int,
        message: str,
    ) -> None:
        target = chain.folder / "target"
        filled = [str(a).format(target=target) for a in arguments]
        assert call(*filled, "--out", tmp_path / "out") == code
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


class TestMethods:
    @pytest.mark.parametrize("method", ["target_statistics", "ie", "sc"])
    def test_a_baseline_makes_a_model_that_predicts_and_reports(
        self, method: str, chain: Chain, tmp_path: Path
    ) -> None:
        before, after = chain.folder / "source.safetensors", tmp_path / "after.safetensors"
        domains = ["--source", chain.folder / "source", "--target", chain.folder / "target"]
        assert call("adapt", before, *domains, "--method", method, "--out", after) == 0
        assert Model.load(after).card.method == method
        assert call("predict", after, chain.folder / "target", "--out", tmp_path / "l.csv") == 0
        page = tmp_path / "r.html"
        assert call("report", before, after, *domains, "--out", page) == 0
        assert "3D-ADA" not in page.read_text(encoding="utf-8")


class TestExperiment:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("experiment", "list") == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*EXPERIMENTS]

    def test_table_of_one_cell_then_from_its_records(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["experiment", "table1", "--out", tmp_path / "results"]
        one = ["--cell", "0.1:0.1", "--method", "source_only", "--store", tmp_path / "runs"]
        assert call(*arguments, *one) == 0
        table = tmp_path / "results" / "table1_smoke.md"
        assert str(table) in capsys.readouterr().out
        written = table.read_text()
        table.unlink()
        assert call(*arguments, "--tables-only", "--store", tmp_path / "nowhere") == 0
        assert table.read_text() == written
