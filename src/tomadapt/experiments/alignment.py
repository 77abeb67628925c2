"""(ours) Planted poses found again, beside other programs on the same particles and core.

Structures without symmetry, batch A, 40³ voxels of 9.2 Å, ±60°, at SNR 1000 and 0.1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tomadapt.acquisition import BATCH_A
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.experiments.other_software import Aligned, by_acryo, by_relion
from tomadapt.experiments.particles import SimulateTask
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, text
from tomadapt.learn.engine import make_fabric
from tomadapt.recover.align import Aligner, AlignmentOptions, align
from tomadapt.recover.fourier import shell_power
from tomadapt.recover.recording import measured_points
from tomadapt.recover.rotations import angular_distance_deg
from tomadapt.simulate.dataset import SimulationConfig, make_templates

STRUCTURES = ("ribosome_70s", "ribosome_30s", "spliceosome")
PARTICLES = {"smoke": 2, "reduced": 8, "paper": 64}
COLUMNS = {
    "snr": "SNR",
    "program": "program",
    "median_deg": "median °",
    "max_deg": "largest °",
    "median_voxels": "median voxels",
    "seconds_a_particle": "s a particle",
}


def run(setting: Setting) -> list[Path]:
    """Align the same particles with every program there is."""
    n = PARTICLES[setting.scale.name]
    made = particles_of(n)
    simulation = made.simulation
    setting.finish([made], "alignment")
    results = Results.of(setting, "alignment", partial(_table, n), "scale")
    templates = make_templates(simulation)
    reach = simulation.max_shift_fraction * simulation.box
    for snr in (1000.0, 0.1):
        data = made.open(setting.store, snr=snr)
        table = data.source.particle_table()  # type: ignore[attr-defined]
        found: dict[str, list[Aligned | None]] = {}
        for label, name in enumerate(STRUCTURES):
            some = data.subset(np.flatnonzero(data.labels == label)).unlabelled()
            cubes = some.read(range(n)).numpy()
            folder = setting.store / f"relion-{made.key}"
            size = simulation.voxel_size_A
            others = {
                "tomadapt": _ours(some, templates[name], reach),
                "acryo, ZNCC, 30° grid": by_acryo(cubes, templates[name], max_shift=reach),
                "relion_refine, one iteration, 15→7.5°": by_relion(
                    cubes, templates[name], BATCH_A, folder, voxel_size_A=size, max_shift=reach
                ),
            }
            for program, aligned in others.items():
                found.setdefault(program, []).append(aligned)
        for program, parts in found.items():
            row: Row = {"snr": snr, "program": program, "particles": n * len(STRUCTURES)}
            there = [part for part in parts if part is not None]
            row |= {"installed": bool(there)}
            if there:
                R = np.concatenate([part.rotations for part in there])
                moved = np.concatenate([part.shifts for part in there]) - table["shifts"]
                turned = angular_distance_deg(R, table["rotations"])
                row |= {"median_deg": float(np.median(turned)), "max_deg": float(turned.max())}
                row |= {"median_voxels": float(np.median(np.linalg.norm(moved, axis=1)))}
                row |= {"seconds_a_particle": sum(part.seconds for part in there) / len(R)}
            results.add(row)
    return results.files


def particles_of(n: int) -> SimulateTask:
    """So many particles of each structure."""
    return SimulateTask.of(
        SimulationConfig(
            classes={name: name for name in STRUCTURES},
            acquisition=BATCH_A,
            per_class=n,
            snr=0.1,
            seed=5,
        )
    )


def _table(n: int, rows: Sequence[Row]) -> str:
    lines = [[text(row.get(name)) for name in COLUMNS] for row in rows]
    note = f"{n} particles of each of {', '.join(STRUCTURES)}; – where a program is not installed."
    return f"# Planted poses\n\n{note}\n\n{markdown(list(COLUMNS.values()), lines)}"


def _ours(data: Subtomograms, template: np.ndarray, reach: float) -> Aligned:
    started = time.perf_counter()  # all of it: the power, the bank, the particles
    points = measured_points(data, device=make_fabric().device)
    options = AlignmentOptions(max_shift_voxels=reach)
    poses = align(data, Aligner(template, points, shell_power(data, points), options))
    seconds = time.perf_counter() - started
    return Aligned(poses.rotations[:, 0], poses.shifts[:, 0], seconds)
