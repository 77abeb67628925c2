"""Grids: each task once, killed and resumed, on a Dask cluster, and alone in its store."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import pytest
from grids import run_tasks

from command_line import call
from killable import start
from tomadapt.errors import ConfigError, InputError
from tomadapt.experiments import models
from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.grid import execute, ordered, read_record
from tomadapt.experiments.particles import SimulateTask
from tomadapt.experiments.scales import SMOKE
from tomadapt.experiments.task import Task
from tomadapt.runs.cluster import dask_client

GRID = ["table1", "--scale", "smoke", "--cell", "0.1:0.1", "--cell", "1000:0.1"]
GRID += ["--method", "source_only", "--method", "ada", "--method", "oracle"]


pytestmark = pytest.mark.usefixtures("one_thread")


class Count(Task):
    """Writes a line each time it is really run."""

    kind: Literal["count"] = "count"
    name: str
    needs: tuple[Count, ...] = ()

    @property
    def requires(self) -> tuple[Count, ...]:
        return self.needs

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        for needed in self.needs:
            assert (store / needed.key / "record.json").exists()
        with (store / "log.txt").open("a") as log:
            log.write(f"{self.name}\n")
        return {"name": self.name}


A = Count(name="a")
B, C = Count(name="b", needs=(A,)), Count(name="c", needs=(A,))
D = Count(name="d", needs=(B, C))


class Slow(Count):
    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        time.sleep(0.5)
        return super().run(folder, store)


class Refused(Count):
    def check(self) -> None:
        raise ConfigError("refused")


SLOW = Slow(name="slow")


class TestOrder:
    def test_what_is_required_comes_first_and_once(self):
        assert [task.name for task in ordered([D, C, A])] == ["a", "b", "c", "d"]

    def test_keys_depend_on_everything(self):
        batches = PaperDomains(SMOKE, SMOKE.classes(None))
        keys = {
            batches.adapted(Cell(0.1, 1000.0), "ada").key,
            batches.adapted(Cell(0.1, 0.1), "ada").key,
            batches.adapted(Cell(1000.0, 1000.0), "ada").key,
            batches.adapted(Cell(0.1, 1000.0, seed=1), "ada").key,
            batches.adapted(Cell(0.1, 1000.0), "ada_paper_recipe").key,
            batches.adapted(Cell(0.1, 1000.0), "ada", augment=True).key,
            batches.adapted(Cell(0.1, 1000.0), "ada", without=("apoferritin",)).key,
        }
        assert len(keys) == 7

    def test_keys_depend_on_the_order_of_classes(self):
        """Regression: labels are indices into the classes, and keys were sorted."""
        classes = SMOKE.classes(None)
        reverse = dict(reversed(classes.items()))
        cell = Cell(0.1, 0.1)
        one, other = (PaperDomains(SMOKE, c).source_model(cell).key for c in (classes, reverse))
        assert one != other

    def test_keys_depend_on_the_content_of_structures_and_not_on_their_place(self, tmp_path):
        """Regression: a replaced file was not noticed, and a moved one was another structure."""
        keys = []
        for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
            (tmp_path / name).mkdir()
            path = tmp_path / name / "1abc.pdb"
            path.write_bytes(content)
            batches = PaperDomains(SMOKE, {"1abc": str(path), "null": "null"})
            keys.append(batches.adapted(Cell(0.1, 0.1), "ada").key)
        assert keys[0] == keys[1] != keys[2]

    def test_keys_depend_on_the_version_of_the_code(self, monkeypatch):
        task = PaperDomains(SMOKE, SMOKE.classes(None)).adapted(Cell(0.1, 0.1), "ada")
        before = task.key
        monkeypatch.setattr(SimulateTask, "version", 99)
        assert task.key != before

    def test_cells_share_source_models_and_sets(self):
        batches = PaperDomains(SMOKE, SMOKE.classes(None))
        tasks = [batches.adapted(Cell(s, t), "ada") for s in (1000.0, 0.1) for t in (1000.0, 0.1)]
        kinds = [task.kind for task in ordered(tasks)]
        assert (kinds.count("set"), kinds.count("train"), kinds.count("adapt")) == (2, 2, 4)


class TestRunning:
    def test_nothing_is_run_twice(self, tmp_path):
        first = [record["name"] for _, record in run_tasks([D], tmp_path)]
        again = [record["name"] for _, record in run_tasks([D], tmp_path)]
        assert first == again == ["a", "b", "c", "d"]
        assert (tmp_path / "log.txt").read_text().split() == ["a", "b", "c", "d"]

    def test_a_task_without_a_record_is_run_again(self, tmp_path):
        list(run_tasks([D], tmp_path))
        (tmp_path / B.key / "record.json").unlink()
        list(run_tasks([D], tmp_path))
        assert (tmp_path / "log.txt").read_text().split() == ["a", "b", "c", "d", "b"]
        assert read_record(tmp_path / B.key / "record.json")["resumed"] is True

    def test_record(self, tmp_path):
        record = execute(A, tmp_path)
        assert record == json.loads((tmp_path / A.key / "record.json").read_text())
        assert record["key"] == A.key
        assert record["seconds"] >= 0
        assert record["commit"]
        assert "torch" in record["versions"]
        assert json.loads((tmp_path / A.key / "task.json").read_text())["name"] == "a"

    def test_damaged_record(self, tmp_path):
        execute(A, tmp_path)
        (tmp_path / A.key / "record.json").write_text("{")
        with pytest.raises(InputError, match=r"record .* is damaged.*delete its folder"):
            execute(A, tmp_path)

    def test_two_grids_in_one_store_run_each_task_once(self, tmp_path):
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(lambda: list(run_tasks([SLOW], tmp_path))) for _ in range(2)]
        assert both[0].result()[-1][1] == both[1].result()[-1][1]
        assert (tmp_path / "log.txt").read_text().split() == ["slow"]

    def test_all_are_checked_before_any_is_run(self, tmp_path):
        with pytest.raises(ConfigError, match="refused"):
            list(run_tasks([A, Refused(name="r")], tmp_path))
        assert not (tmp_path / "log.txt").exists()
        list(run_tasks([A], tmp_path))

    def test_a_checkpoint_lives_until_there_is_a_record(self, tmp_path, monkeypatch):
        """Regression: a kill between the last epoch and the record lost the whole training."""
        task = PaperDomains(SMOKE, SMOKE.classes(None)).source_model(Cell(0.1, 0.1))
        monkeypatch.setattr(models, "_measures", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(run_tasks([task], tmp_path))
        monkeypatch.undo()
        epochs = []
        train = models.train_source
        monkeypatch.setattr(
            models, "train_source", lambda *a, **k: train(*a, **k, on_epoch=epochs.append)
        )
        (_, (_, record)) = run_tasks([task], tmp_path)
        assert epochs == []
        assert len(record["history"]) == SMOKE.training.epochs
        assert not (tmp_path / task.key / "checkpoint.pt").exists()


def begun(store: Path, out: Path) -> ForkServerProcess:
    return start("experiment", *GRID, "--store", store, "--out", out, log=store.parent / "log")


def results(out: Path) -> tuple[str, list[dict[str, Any]]]:
    rows = [json.loads(line) for line in (out / "table1_smoke.jsonl").read_text().splitlines()]
    return (out / "table1_smoke.md").read_text(), [
        {key: value for key, value in row.items() if key not in ("seconds", "resumed")}
        for row in rows
    ]


@pytest.mark.slow
class TestKill:
    def test_kill_9_then_the_same_table_and_nothing_rerun(self, tmp_path):
        paths = ("--store", tmp_path / "whole", "--out", tmp_path / "of_whole")
        assert call("experiment", *GRID, *paths) == 0
        store, out, kept = tmp_path / "killed", tmp_path / "of_killed", {}
        kills = 0
        for wanted in (0, 2, 4, 6):
            process = begun(store, out)
            while process.is_alive():
                tasks = len(list(store.glob("*/task.json")))
                done = {p: p.stat().st_mtime_ns for p in store.glob("*/record.json")}
                if tasks > len(done) >= wanted:  # something is in the middle
                    process.kill()
                    process.join()
                    kills += process.exitcode == -signal.SIGKILL
                    break
                time.sleep(0.005)
            process.join()
            kept |= {p: p.stat().st_mtime_ns for p in store.glob("*/record.json")}
        assert kills >= 3
        last = begun(store, out)
        last.join(timeout=300)
        assert last.exitcode == 0, (tmp_path / "log").read_text()
        assert {p: p.stat().st_mtime_ns for p in kept} == kept
        assert results(out) == results(tmp_path / "of_whole")


@pytest.fixture(scope="module")
def cluster(one_thread: None) -> Iterator[Any]:
    """Two workers that all tests share: each imports for seconds."""
    with dask_client(2, None) as client:
        yield client


@pytest.mark.slow
class TestDask:
    def test_same_results_on_a_local_cluster(self, tmp_path, cluster):
        batches = PaperDomains(SMOKE, SMOKE.classes(None))
        tasks = [batches.adapted(Cell(0.1, 0.1), method) for method in ("target_statistics", "ada")]
        here = {task.key: record for task, record in run_tasks(tasks, tmp_path / "here")}
        there = {
            task.key: record
            for task, record in run_tasks(tasks, tmp_path / "there", client=cluster)
        }
        assert here.keys() == there.keys()
        for key, record in here.items():
            for measure in ("accuracy", "held_out_accuracy", "history"):
                assert there[key].get(measure) == record.get(measure)

    def test_workers_keep_the_memory_they_have(self, cluster):
        """Regression: Dask's setting had every tensor mapped anew, at half the speed."""
        found = cluster.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_")
        threads = cluster.run(os.environ.get, "OMP_NUM_THREADS")
        assert set(found.values()) == {os.environ.get("MALLOC_TRIM_THRESHOLD_")}
        assert set(threads.values()) == {"1"}

    def test_a_failing_task_is_told(self, tmp_path, cluster):
        batches = PaperDomains(SMOKE, {"apoferritin": "no-such-structure", "null": "null"})
        with pytest.raises(ConfigError, match="unknown structure 'no-such-structure'"):
            list(run_tasks([batches.source_model(Cell(0.1, 0.1))], tmp_path, client=cluster))
