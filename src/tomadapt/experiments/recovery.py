"""(ours) Structures out of particles in random poses, without a reference, and how large memory is.

200 particles of each of three structures, batch A, 40³ voxels of 9.2 Å, SNR 0.1.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from tomadapt.acquisition import BATCH_A
from tomadapt.experiments.alignment import STRUCTURES
from tomadapt.experiments.particles import SimulateTask
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown
from tomadapt.learn.engine import make_fabric
from tomadapt.recover.average import AveragingOptions, average
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.recording import measured_points
from tomadapt.runs.atomic import write_text
from tomadapt.runs.stages import peak_memory_mb
from tomadapt.simulate.dataset import SimulationConfig, make_templates

PARTICLES = {"smoke": 8, "reduced": 200, "paper": 200}


def run(setting: Setting) -> list[Path]:
    """Average each structure's particles from random poses and compare with the truth."""
    n = PARTICLES[setting.scale.name]
    simulation = SimulationConfig(
        classes={name: name for name in STRUCTURES},
        acquisition=BATCH_A,
        per_class=n,
        snr=0.1,
        seed=5,
    )
    made = SimulateTask.of(simulation)
    setting.finish([made], "recovery")
    data = made.open(setting.store, snr=0.1)
    points = measured_points(data, device=make_fabric().device)
    options = AveragingOptions(iterations=1 if setting.scale.builtin else 5)
    records, text = setting.file("recovery.jsonl"), setting.file("recovery.md")
    rows: list[Row] = []
    for label, (name, density) in enumerate(make_templates(simulation).items()):
        some = data.subset(np.flatnonzero(data.labels == label)).unlabelled()
        started = time.perf_counter()
        found = average(some, points, options)
        row: Row = {"experiment": "recovery", "scale": setting.scale.name, "structure": name}
        row |= {"particles": n, "seconds": round(time.perf_counter() - started, 1)}
        compared = MapComparison(density, voxel_size_A=data.voxel_size_A)(found.volume)
        row |= {"discrepancy_nm": compared.discrepancy_nm}
        for threshold in (0.5, 0.143):
            value = found.resolution_A(threshold)
            row |= {f"half_maps_{threshold:g}_nm": None if value is None else value / 10}
        row |= {"iterations": len(found.history), "peak_memory_mb": peak_memory_mb()}
        rows.append(row)
        write_rows(records, rows)
        names = [key for key in row if key not in ("experiment", "scale")]
        lines = [[_cell(each[key]) for key in names] for each in rows]
        title = f"# Averages from random poses\n\n{setting.scale.name}; SNR 0.1, batch A.\n\n"
        write_text(text, title + markdown([name.replace("_", " ") for name in names], lines))
    return [records, text]


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
