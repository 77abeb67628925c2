"""The stages of a run: how long each took, and how much memory it had."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomadapt.runs.atomic import write_json
from tomadapt.runs.own_folder import read_own


class StageClock:
    """Wall time and peak memory of each stage, kept in a file so that a resumed run knows them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, float]] = {}
        if path.exists():
            self.records = read_own(path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; one that was already done keeps its first, longer, time.

        ``peak_memory_mb`` is the process's peak until the end of the stage, memory-mapped pages
        included.
        """
        started = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - started, 2)
        if seconds > self.records.get(name, {}).get("seconds", 0.0):
            self.records[name] = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
            write_json(self.path, self.records)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if platform.system() == "Darwin" else 1e3), 1)
