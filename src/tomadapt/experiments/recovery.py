"""(ours) Structures out of particles in random poses, without a reference, and how large memory is.

200 particles of each of three structures, batch A, 40³ voxels of 9.2 Å, SNR 0.1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.experiments.alignment import particles_of
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, text
from tomadapt.learn.engine import make_fabric
from tomadapt.recover.average import AveragingOptions, average
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.recording import measured_points
from tomadapt.runs.stages import peak_memory_mb
from tomadapt.simulate.dataset import make_templates

PARTICLES = {"smoke": 8, "reduced": 200, "paper": 200}


def run(setting: Setting) -> list[Path]:
    """Average each structure's particles from random poses and compare with the truth."""
    n = PARTICLES[setting.scale.name]
    made = particles_of(n)
    setting.finish([made], "recovery")
    data = made.open(setting.store, snr=0.1)
    points = measured_points(data, device=make_fabric().device)
    options = AveragingOptions(iterations=1 if setting.scale.builtin else 5)
    results = Results.of(setting, "recovery", _table, "scale")
    for label, (name, density) in enumerate(make_templates(made.simulation).items()):
        some = data.subset(np.flatnonzero(data.labels == label)).unlabelled()
        started = time.perf_counter()
        found = average(some, points, options)
        row: Row = {"structure": name, "particles": n}
        row |= {"seconds": round(time.perf_counter() - started, 1)}
        compared = MapComparison(density, voxel_size_A=data.voxel_size_A)(found.volume)
        row |= {"discrepancy_nm": compared.discrepancy_nm}
        for threshold in (0.5, 0.143):
            value = found.resolution_A(threshold)
            row |= {f"half_maps_{threshold:g}_nm": None if value is None else value / 10}
        row |= {"iterations": len(found.history), "peak_memory_mb": peak_memory_mb()}
        results.add(row)
    return results.files


def _table(rows: Sequence[Row]) -> str:
    names = [key for key in rows[0] if key not in ("experiment", "scale")]
    lines = [[text(row[key], ".2f") for key in names] for row in rows]
    title = f"# Averages from random poses\n\n{rows[0]['scale']}; SNR 0.1, batch A.\n\n"
    return title + markdown([name.replace("_", " ") for name in names], lines)
