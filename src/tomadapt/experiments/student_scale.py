"""How long a student takes, and how much memory, for many cubes. Not in the paper.

A student that ``third_party_students`` taught labels the cubes of its set over and over, from a
file with as many as are wanted. Each size is a process of its own, so that the peak is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import InputError
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import row_table
from tomadapt.experiments.third_party import require_sets
from tomadapt.inputs.particles import open_target
from tomadapt.runs.atomic import atomic_path

SET = "cryojax_many_snr0.05"
SIZES = (1000, 3000, 10_000)
COLUMNS = ("cubes", "seconds", "cubes a second", "peak memory, MB")


def run(setting: Setting) -> list[Path]:
    """Label ever more cubes, and fit how time grows with their number."""
    _, (folder,) = require_sets(setting, (SET,))
    student = setting.store / f"student-{setting.scale.name}-{SET}-all" / "student.safetensors"
    if not student.is_file():
        raise InputError(
            "there is no student",
            expected=str(student),
            remedy="run the experiment third_party_students first, with the same --store",
        )
    results = Results.of(setting, "student_scale", _table, "scale", "commit")
    data = open_target(folder / "cubes.mrc", contrast="positive")
    smoke = setting.scale.name == "smoke"
    cubes = setting.store / "student_scale.npy"
    for n in (len(data),) if smoke else SIZES:
        _write(cubes, data, n)
        command = [sys.executable, "-m", __name__, student, cubes, str(data.voxel_size_A)]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        results.add({"cubes": n, "cubes a second": n / found["seconds"], **found})
    cubes.unlink()
    return results.files


def _table(rows: Sequence[Row]) -> str:
    table = "# A student labels many cubes\n\n" + row_table(COLUMNS, rows, ".0f")
    if len(rows) < 2:
        return table
    counts, seconds = ([float(row[c]) for row in rows] for c in ("cubes", "seconds"))
    exponent = np.polyfit(np.log(counts), np.log(seconds), 1)[0]
    return table + (
        f"\nTime grows as the number to the power of {exponent:.3f}: 100,000 cubes would take "
        f"{1e5 / counts[-1] * seconds[-1] / 60:.0f} minutes.\n"
    )


def _write(path: Path, data: Subtomograms, n: int) -> None:
    """A file of n cubes: those of a set over and over."""
    shape = (n, *(data.box,) * 3)
    with atomic_path(path) as temporary:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        for first in range(0, n, len(data)):
            count = min(len(data), n - first)
            out[first : first + count] = data.read(range(count)).numpy()
        out.flush()


def _label(student: Path, cubes: Path, voxel_size_A: float) -> Row:
    """Label a file of cubes; seconds, and the process's peak memory."""
    import time

    from tomadapt.learn.engine import make_fabric
    from tomadapt.learn.model import Model
    from tomadapt.learn.turned import over_half_turns
    from tomadapt.runs.stages import peak_memory_mb

    model = Model.load(student)
    data = open_target(cubes, contrast="positive", voxel_size_A=voxel_size_A)
    begun = time.perf_counter()
    over_half_turns(model, data, fabric=make_fabric())
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak memory, MB": peak_memory_mb()}


if __name__ == "__main__":
    print(json.dumps(_label(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))))
