"""The whole way: what it leaves behind, and that neither repetition nor a kill changes it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import killable
from tomadapt.errors import InputError, MismatchError
from tomadapt.learn.model import Model
from tomadapt.runs.stages import StageClock
from tomadapt.simulate.dataset import open_set
from tomadapt.workflows.config import RunConfig, load_config
from tomadapt.workflows.run import run

CLASSES = ["apoferritin", "tric", "null"]
METHODS = {"source_only", "target_statistics", "ada"}
CONFIG = """\
title = "Tiny"
seed = 4
[structures]
classes = ["apoferritin", "tric", "null"]
box = 24
voxel_size_A = 16.0
resolution_A = 20.0
[source]
acquisition = "batch_b"
snr = 1.0
per_class = 12
held_out_per_class = 3
[target]
acquisition = "batch_a"
snr = 1.0
per_class = 8
held_out_per_class = 4
[train]
epochs = 3
batch_size = 8
[adapt]
epochs = 3
batch_size = 4
"""
FILES = {
    "source",
    "target",
    "config.json",
    "source.safetensors",
    "adapted.safetensors",
    "predictions.csv",
    "stages.json",
    "summary.json",
    "report.html",
}
TIMES = ("seconds", "peak_memory_mb", "stages")


@dataclass(frozen=True)
class Done:
    """A run that ended."""

    out: Path
    config: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "summary.json").read_text())
        return found

    @property
    def numbers(self) -> dict[str, Any]:
        """The summary without what a clock or the system measured."""
        return {k: v for k, v in self.summary.items() if k not in TIMES}

    @property
    def results(self) -> dict[str, bytes]:
        names = ("predictions.csv", "source.safetensors", "adapted.safetensors")
        return {name: (self.out / name).read_bytes() for name in names}


def run_file(config: Path, out: Path) -> Done:
    run(load_config(config, RunConfig), out)
    return Done(out, config)


pytestmark = pytest.mark.usefixtures("one_thread", "quick_reports")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Done:
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "run.toml").write_text(CONFIG)
    return run_file(folder / "run.toml", folder / "out")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestRun:
    def test_files(self, done: Done) -> None:
        assert {path.name for path in done.out.iterdir()} == FILES

    def test_summary_keys_that_scripts_rely_on(self, done: Done) -> None:
        summary = done.summary
        assert summary["title"] == "Tiny"
        assert summary["seed"] == 4
        assert summary["class_names"] == CLASSES
        assert (summary["n_source"], summary["n_target"]) == (36, 36)
        assert 0 <= summary["source_held_out_accuracy"] <= 1
        assert set(summary["target"]) == METHODS
        for scores in summary["target"].values():
            for part, n in (("transductive", 24), ("held_out", 12)):
                assert 0 <= scores[part] <= 1
                assert scores[part] * n == pytest.approx(round(scores[part] * n))
                low, high = scores[f"{part}_interval"]
                assert low <= scores[part] <= high
                assert list(scores[f"{part}_recall"]) == CLASSES
                assert sum(scores[f"{part}_predicted_fraction"].values()) == pytest.approx(
                    1, abs=1e-3
                )
        assert list(summary["seconds"]) == ["simulate", "train", "adapt", "predict", "report"]
        assert all(seconds > 0 for seconds in summary["seconds"].values())
        assert summary["peak_memory_mb"] > 50
        assert summary["torch_threads"] == 1
        assert "torch" in summary["versions"]

    @pytest.mark.parametrize(
        ("chosen", "trained", "told"),
        [
            ("", [0.25, 4.0], "SNRs are drawn between 0.25 and 4 after the CTF, "),
            ("snr_range = [1.0, 1.0]", [1.0, 1.0], "The SNR is 1 after the CTF, "),
        ],
    )
    def test_snrs_of_the_source(
        self, done: Done, tmp_path: Path, chosen: str, trained: list[float], told: str
    ) -> None:
        """A quarter of the source's SNR to four times it unless a range is given; both are told."""
        config = tmp_path / "run.toml"
        quick = CONFIG.replace("epochs = 3", "epochs = 1")
        config.write_text(quick.replace("[train]", f"[train]\n{chosen}"))
        out = tmp_path / "out"
        for name in ("source", "target"):  # the same sets
            shutil.copytree(done.out / name, out / name)
        said: list[str] = []
        run(load_config(config, RunConfig), out, say=said.append)
        model = Model.load(out / "source.safetensors")
        assert list(model.card.training["source"]["snr_range"]) == trained
        assert len(said) == 1
        assert said[0].startswith(told)
        assert said[0].endswith(" before it")

    def test_predictions_are_of_all_target_particles(self, done: Done) -> None:
        found = rows(done.out / "predictions.csv")
        assert list(found[0]) == ["index", "label", "probability", *CLASSES, "cubes_digest"]
        assert [int(row["index"]) for row in found] == list(range(36))
        truth = open_set(done.out / "target").labels
        right = np.array([CLASSES.index(row["label"]) for row in found]) == truth
        seen = np.concatenate([12 * label + np.arange(8) for label in range(3)])
        ada = done.summary["target"]["ada"]
        assert right[seen].mean() == pytest.approx(ada["transductive"])
        assert np.delete(right, seen).mean() == pytest.approx(ada["held_out"])

    def test_report(self, done: Done) -> None:
        page = (done.out / "report.html").read_text(encoding="utf-8")
        assert "<title>Tiny" in page

    def test_again(self, done: Done) -> None:
        kept = {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (*done.out.glob("*.safetensors"), *done.out.glob("*/shard-*"))
        }
        numbers, results = done.numbers, done.results
        assert len(kept) == 2 + 2 * 2 * 3
        again = run_file(done.config, done.out)
        assert again.numbers == numbers
        assert again.results == results
        assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in kept} == kept
        assert {path.name for path in done.out.iterdir()} == FILES

    def test_another_configuration(self, done: Done) -> None:
        before = {path: path.read_bytes() for path in done.out.rglob("*") if path.is_file()}
        other = load_config(done.config, RunConfig).with_seed(5)
        with pytest.raises(MismatchError, match=r"another configuration.*a difference in seed"):
            run(other, done.out)
        assert {path: path.read_bytes() for path in before} == before


@pytest.fixture(scope="module")
def unlabelled(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("file")
    data = open_set(done.out / "target")
    np.save(folder / "target.npy", data.source.read(range(len(data))).numpy())
    head, tail = CONFIG.split("[target]")
    target = '[target]\npath = "target.npy"\nvoxel_size_A = 16.0\n[train]'
    config = (head + target + tail.split("[train]")[1]).replace("held_out_per_class = 3", "")
    (folder / "run.toml").write_text(config)
    return run_file(folder / "run.toml", folder / "out")


class TestTargetFromAFile:
    def test_files(self, unlabelled: Done) -> None:
        assert {path.name for path in unlabelled.out.iterdir()} == FILES - {"target"}

    def test_fractions_and_no_accuracies(self, unlabelled: Done) -> None:
        summary = unlabelled.summary
        assert summary["source_held_out_accuracy"] is None
        assert (summary["n_source"], summary["n_target"]) == (36, 36)
        for scores in summary["target"].values():
            assert set(scores) == {"transductive_predicted_fraction"}
            fractions = scores["transductive_predicted_fraction"]
            assert list(fractions) == CLASSES
            assert sum(fractions.values()) == pytest.approx(1, abs=1e-3)

    def test_predictions(self, unlabelled: Done) -> None:
        found = [row["label"] for row in rows(unlabelled.out / "predictions.csv")]
        fractions = unlabelled.summary["target"]["ada"]["transductive_predicted_fraction"]
        assert len(found) == 36
        for name in CLASSES:
            assert found.count(name) / 36 == pytest.approx(fractions[name], abs=1e-4)

    def test_report(self, unlabelled: Done) -> None:
        assert "<title>Tiny" in (unlabelled.out / "report.html").read_text(encoding="utf-8")


class Running:
    """The command in a process of its own, to be killed."""

    def __init__(self, config: Path, out: Path) -> None:
        self.log = out.with_suffix(".log")
        self.process = killable.start("run", config, "--out", out, log=self.log)

    def kill_when(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + 120
        while not ready():
            assert self.process.is_alive(), self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.001)
        self.stop()
        assert self.process.exitcode == -signal.SIGKILL, "it had ended before it was killed"

    def end(self) -> None:
        self.process.join(timeout=300)
        assert self.process.exitcode == 0, self.log.read_text()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def start(tmp_path: Path, done: Done) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def start_one() -> Running:
        started.append(Running(done.config, tmp_path / "out"))
        return started[-1]

    yield start_one
    for process in started:
        process.stop()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_in_every_stage(done: Done, tmp_path: Path, start: Callable[[], Running]) -> None:
    """One run that is killed five times ends as one that never was: same bits, same numbers."""
    out = tmp_path / "out"

    def exists(name: str) -> bool:
        return (out / name).exists()

    # simulate: some shards, but no finished set of the target
    start().kill_when(lambda: exists("source/shard-00001.npz"))
    assert not exists("target/set.json")
    assert not exists("source.checkpoint.pt")
    # train, between two epochs
    start().kill_when(lambda: exists("source.checkpoint.pt"))
    assert not exists("source.safetensors")
    # adapt, between two epochs
    start().kill_when(lambda: exists("adapted.checkpoint.pt"))
    assert exists("source.safetensors")
    assert not exists("adapted.safetensors")
    # predict
    start().kill_when(lambda: exists("adapted.safetensors"))
    assert not exists("predictions.csv")
    # report
    start().kill_when(lambda: exists("predictions.csv"))
    assert not exists("report.html")
    assert not exists("summary.json")
    start().end()

    ended = Done(out, done.config)
    assert ended.results == done.results
    assert ended.numbers == done.numbers
    for name in ("source", "target"):
        for path in (done.out / name).iterdir():
            if path.suffix in (".npy", ".json"):
                assert (out / name / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == FILES
    assert set(ended.summary["seconds"]) == {"simulate", "train", "adapt", "predict", "report"}


class TestStageClock:
    def test_keeps_the_longest_time(self, tmp_path: Path) -> None:
        path = tmp_path / "stages.json"
        with StageClock(path).stage("train"):
            time.sleep(0.05)
        long = json.loads(path.read_text())
        assert long["train"]["seconds"] >= 0.05
        assert long["train"]["peak_memory_mb"] > 10
        clock = StageClock(path)
        with clock.stage("train"):
            pass
        assert clock.records == long == json.loads(path.read_text())

    def test_a_stage_that_failed_has_no_time(self, tmp_path: Path) -> None:
        clock = StageClock(tmp_path / "stages.json")

        def fail() -> None:
            with clock.stage("train"):
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert clock.records == {}
        assert not (tmp_path / "stages.json").exists()

    @pytest.mark.parametrize("content", ["", "{", "[]"])
    def test_a_damaged_record(self, tmp_path: Path, content: str) -> None:
        """Regression: it was a traceback."""
        (tmp_path / "stages.json").write_text(content)
        with pytest.raises(InputError, match=r"stages\.json is damaged"):
            StageClock(tmp_path / "stages.json")
