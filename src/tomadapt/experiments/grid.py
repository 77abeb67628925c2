"""Runs tasks once each, in the order they need each other, here or on a Dask cluster.

A task's folder in the store holds ``task.json`` (its configuration), its artefacts, and last of all
``record.json``. A task with a record is never run again; one without goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tomadapt.errors import InputError, OutputError
from tomadapt.experiments.tasks import Task
from tomadapt.io.atomic import output_folder, write_json
from tomadapt.simulate.dataset import versions

if TYPE_CHECKING:
    from distributed import Client

Record = dict[str, Any]


def ordered(tasks: Iterable[Task]) -> list[Task]:
    """The tasks with all they require, each once and after what it requires."""
    found: dict[str, Task] = {}

    def visit(task: Task) -> None:
        if task.key not in found:
            for required in task.requires:
                visit(required)
            found[task.key] = task

    for task in tasks:
        visit(task)
    return list(found.values())


def run_tasks(
    tasks: Iterable[Task], store: Path, *, client: Client | None = None
) -> Iterator[tuple[Task, Record]]:
    """Run what has no record yet, and give every task with its record as it is finished.

    Parameters
    ----------
    tasks
        What is wanted; what they require is added.
    store
        The folder of all runs, seen by every worker under this path.
    client
        A Dask client; in this process, one after another, when None.

    Raises
    ------
    OutputError
        When the store cannot be written, or another process runs tasks in it.
    TomadaptError
        What a task finds wrong.
    """
    queue = ordered(tasks)
    for task in queue:
        task.check()
    output_folder(store)
    with _alone_in(store):
        if client is None:
            for task in queue:
                yield task, execute(task, store)
            return
        yield from _on_cluster(queue, store, client)


def _on_cluster(queue: list[Task], store: Path, client: Client) -> Iterator[tuple[Task, Record]]:
    from distributed import as_completed

    futures: dict[str, Any] = {}
    for task in queue:
        after = [futures[required.key] for required in task.requires]
        futures[task.key] = client.submit(
            execute, task, store, after, key=task.key, priority=-len(futures)
        )
    of_future = {future.key: task for future, task in zip(futures.values(), queue, strict=True)}
    try:
        for future in as_completed(futures.values()):
            yield of_future[future.key], future.result()
    finally:
        client.cancel(list(futures.values()))


def execute(task: Task, store: Path, after: list[Record] | None = None) -> Record:
    """Run one task unless it has a record; ``after`` only makes Dask wait for what it requires."""
    folder = store / task.key
    done = folder / "record.json"
    if done.exists():
        return read_record(done)
    begun = (folder / "task.json").exists()
    output_folder(folder)
    write_json(folder / "task.json", task.model_dump(mode="json"))
    started = time.perf_counter()
    measures = task.run(folder, store)
    record = {
        "key": task.key,
        **measures,
        "seconds": round(time.perf_counter() - started, 2),
        "resumed": begun,  # then the seconds are of the last part only
        "torch_threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "commit": commit(),
        "versions": versions(),
    }
    write_json(done, record)
    return record


def read_record(path: Path) -> Record:
    """Read a task's record.

    Raises
    ------
    InputError
        When it is not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"the record {path} is damaged",
            expected="JSON",
            got=str(error),
            remedy="delete its folder; the task will be run again",
        ) from error
    return dict(record)


def commit() -> str:
    """The commit of the checkout this package is imported from, or its version elsewhere."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(here.parent), *arguments], check=True, capture_output=True, text=True
        )
        return answer.stdout.strip()

    try:
        # An environment inside somebody's repository is not a checkout of this package.
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=10")
    except (OSError, subprocess.CalledProcessError):
        return versions()["tomadapt"]


@contextmanager
def _alone_in(store: Path) -> Iterator[None]:
    """Hold the store's lock: two processes would write the same checkpoints."""
    with (store / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"another process is running tasks in {store}",
                expected="a store that nobody else uses now",
                got=error.strerror,
                remedy="wait for it to end, or choose another --store",
            ) from error
        yield
