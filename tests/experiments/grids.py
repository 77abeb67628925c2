"""Tasks run as an experiment runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tomadapt.experiments.grid import check_tasks, ordered, run_checked
from tomadapt.experiments.task import Task


def run_tasks(
    tasks: Iterable[Task], store: Path, *, client: Any = None
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Run tasks and what they require, all of them checked before the first is begun."""
    queue = ordered(tasks)
    check_tasks(queue, store)
    yield from run_checked(queue, store, client=client)
