"""Runs tasks once each, in the order they need each other, here or on a Dask cluster.

A task's folder in the store holds ``task.json`` (its description), its artefacts, and last of all
``record.json``. A task with a record is never run again; one without goes on where it stopped.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tomadapt.errors import InputError
from tomadapt.experiments.task import Task
from tomadapt.runs.atomic import locked, output_folder, write_json
from tomadapt.runs.digest import digest
from tomadapt.runs.json_files import json_object
from tomadapt.runs.versions import versions

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


def run_checked(
    queue: list[Task], store: Path, *, client: Client | None = None
) -> Iterator[tuple[Task, Record]]:
    """Run what has no record yet, and give every task with its record as it is finished.

    Parameters
    ----------
    queue
        Tasks that are :func:`ordered`, and were checked by :func:`check_tasks`.
    store
        The folder of all runs, seen by every worker under this path.
    client
        A Dask client; in this process, one after another, when None.

    Raises
    ------
    OutputError
        When the store cannot be written.
    TomadaptError
        What a task finds wrong.
    """
    store = output_folder(store.resolve())
    if client is None:
        for task in queue:
            yield task, execute(task, store)
        return
    yield from _on_cluster(queue, store, client)


def check_tasks(tasks: Iterable[Task], store: Path) -> None:
    """Let every task that has no record yet refuse what it knows to fail."""
    for task in tasks:
        if not (store / task.key / "record.json").exists():
            task.check()


def _on_cluster(queue: list[Task], store: Path, client: Client) -> Iterator[tuple[Task, Record]]:
    from distributed import as_completed

    # Two grids with stores of their own may share a scheduler.
    where = digest(str(store), size=4)
    futures: dict[str, Any] = {}
    for task in queue:
        after = [futures[required.key] for required in task.requires]
        futures[task.key] = client.submit(
            execute, task, store, after, key=f"{task.key}-{where}", priority=-len(futures)
        )
    of_future = {future.key: task for future, task in zip(futures.values(), queue, strict=True)}
    try:
        for future in as_completed(futures.values()):
            yield of_future[future.key], future.result()
    finally:
        client.cancel(list(futures.values()))


def execute(task: Task, store: Path, after: Sequence[Record] = ()) -> Record:
    """Run one task unless it has a record; ``after`` only makes Dask wait for what it requires."""
    folder = store / task.key
    done, checkpoint = folder / "record.json", folder / "checkpoint.pt"
    if not done.exists():
        output_folder(folder)
        with locked(folder / "lock"):
            if not done.exists():  # while waiting for the lock another process may have run it
                _keep(done, _run(task, folder, store))
    checkpoint.unlink(missing_ok=True)  # only now: until there is a record it may be needed
    return read_record(done)


def _keep(path: Path, record: Record) -> None:
    try:
        write_json(path, record)
    except ValueError as error:  # JSON has no NaN
        raise InputError(
            f"a measure of {record['key']} is not finite: its training diverged",
            expected="finite losses",
            got=str(error),
            remedy="lower the learning rate, and delete that folder",
        ) from error


def _run(task: Task, folder: Path, store: Path) -> Record:
    begun = (folder / "task.json").exists()
    write_json(folder / "task.json", task.model_dump(mode="json"))
    started, code = time.perf_counter(), commit()
    measures = task.run(folder, store)
    return {
        "key": task.key,
        **measures,
        "seconds": round(time.perf_counter() - started, 2),
        "resumed": begun,  # then the seconds are of the last part only
        "torch_threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "commit": code,
        "versions": versions(),
    }


def read_record(path: Path) -> Record:
    """Read a task's record.

    Raises
    ------
    InputError
        When it is not a JSON object.
    """
    return json_object(
        path.read_text(encoding="utf-8"),
        what=f"the record {path}",
        remedy="delete its folder; the task will be run again",
    )


@cache
def commit() -> str:
    """The commit of the checkout this package is imported from, or its version elsewhere.

    Asked once a process: what is committed during a long grid is not the code that runs.
    """
    here = Path(__file__)

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(here.parent), *arguments], check=True, capture_output=True, text=True
        )
        return answer.stdout.strip()

    try:
        # An environment inside somebody's repository is not a checkout of this package.
        git("ls-files", "--error-unmatch", here.name)
        # Only changes of the package make it another code: records may be tracked too.
        changed = git("status", "--porcelain", "--", str(here.parents[1]))
        return git("rev-parse", "--short=10", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return versions()["tomadapt"]
