"""Twelve tomograms of one project: each labelled with its own metadata, and all with one defocus.

Tomograms differ in defocus and tilts, and one has the opposite contrast. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.classify.project import classify_project
from tomadapt.classify.project_files import SUMMARY
from tomadapt.experiments.grid import commit
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.io.particle_lists import read_particles
from tomadapt.metrics import match_positions
from tomadapt.project import Project, TomogramEntry
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.own_folder import read_own
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram, write_planted

CLASSES = ("ribosome_80s", "tric", "apoferritin")
DEFOCI_UM = (1.8, 2.4, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5)
TILTS_DEG = ((-60, 60), (-54, 51), (-60, 45), (-45, 60))
TYPED = {"defocus_um": 4.5, "tilt_angles_deg": tilt_range(-60, 60, 3)}
VOXEL_A, TOLERANCE_A = 12.0, 100.0
SMALL_ZYX = (40, 96, 96)
SNRS = (0.006, 0.002)
OWN = "own metadata"
COLUMNS = ("snr", "case", "tomograms", "planted", "recall", "precision", "labels_right", "minutes")


def run(setting: Setting) -> list[Path]:
    """Plant, classify with what the project says and with one defocus for all, and compare."""
    table = partial(titled_table, "Tomograms of a project", (*COLUMNS, "peak_memory_mb"))
    results = Results.of(setting, "projects", table)
    cases: dict[str, dict[str, Any]] = {OWN: {}, "one defocus and tilt range": TYPED}
    snrs = SNRS[:1] if setting.scale.name == "smoke" else SNRS
    for snr, (case, own) in product(snrs, cases.items()):
        entries = planted_project(setting, snr)
        stated = [entry.model_copy(update=own) for entry in entries]
        out = labelled_folder(setting, snr, case)
        summary = classify_project(project_of(stated, setting.store), out, options_of)
        results.add({"snr": snr, **_row(case, entries, out, summary)})
    return results.files


def labelled_folder(setting: Setting, snr: float, case: str) -> Path:
    """Where the labels of a case are."""
    return setting.store / f"projects-{setting.scale.name}-{snr:g}-{case.replace(' ', '-')}"


def planted_project(setting: Setting, snr: float) -> list[TomogramEntry]:
    """Simulate the tomograms, each in a folder of its own, and say how they were recorded."""
    smoke = setting.scale.name == "smoke"
    folder = setting.store / f"projects-{setting.scale.name}-{snr:g}"
    counts, shape_zyx = ((4, 6, 8), SMALL_ZYX) if smoke else ((6, 10, 14), (40, 112, 112))
    numbers = range(2 if smoke else len(DEFOCI_UM))
    return [planted_tomogram(folder, snr, number, counts, shape_zyx) for number in numbers]


def planted_tomogram(
    folder: Path,
    snr: float,
    number: int,
    counts: tuple[int, ...],
    shape_zyx: tuple[int, int, int],
) -> TomogramEntry:
    """Simulate one of them; the second has the opposite contrast."""
    name, tilts = f"TS_{number + 1:02d}", TILTS_DEG[number % len(TILTS_DEG)]
    defocus_um, angles = DEFOCI_UM[number], tilt_range(*tilts, 3)
    config = TomogramConfig(
        classes=dict(zip(CLASSES, CLASSES, strict=True)),
        counts=dict(zip(CLASSES, counts, strict=True)),
        acquisition=Acquisition(name=name, defocus_um=defocus_um, tilt_angles_deg=angles),
        shape_zyx=shape_zyx,
        snr=snr,
        seed=100 + number,
        box=40,
        voxel_size_A=VOXEL_A,
        resolution_A=VOXEL_A,
    )
    planted = simulate_tomogram(config)
    if number == 1:
        planted = replace(planted, density=-planted.density)
    write_planted(planted, output_folder(folder / name))
    return TomogramEntry(
        name=name,
        volume=folder / name / "tomogram.mrc",
        voxel_size_A=VOXEL_A,
        defocus_um=defocus_um,
        tilt_angles_deg=angles,
    )


def project_of(entries: Sequence[TomogramEntry], folder: Path) -> Project:
    """The table of the tomograms."""
    return Project(ecosystem="none", folder=folder, tomograms=tuple(entries))


def options_of(entry: TomogramEntry) -> ClassifyOptions:
    """How each is labelled."""
    assert entry.volume is not None
    classes = dict(zip(CLASSES, CLASSES, strict=True))
    source = SourceOptions(classes=classes, acquisition=entry.acquisition())
    return ClassifyOptions(tomogram=entry.volume, source=source, method="likelihood", fdr=0.05)


def _row(case: str, entries: Sequence[TomogramEntry], out: Path, summary: dict[str, Any]) -> Row:
    planted = found = paired = right = 0
    for entry in entries:
        assert entry.volume is not None
        truth = read_particles(entry.volume.parent / "particles.star")
        labelled = read_particles(out / entry.name / "particles.star")
        names, true = labelled.classes or (), truth.classes or ()
        tolerance = np.full(len(truth), TOLERANCE_A)
        pairs = match_positions(labelled.coordinates_A, truth.coordinates_A, tolerance)
        same = [names[f] == true[p] for f, p in zip(*pairs, strict=True)]
        planted, found = planted + len(truth), found + len(labelled)
        paired, right = paired + len(same), right + sum(same)
    return {
        "case": case,
        "tomograms": len(entries),
        "planted": planted,
        "recall": right / planted,
        "precision": right / max(1, found),
        "labels_right": right / max(1, paired),
        "minutes": sum(row["seconds"] for row in summary["tomograms"].values()) / 60,
        "peak_memory_mb": max(
            read_own(out / entry.name / SUMMARY)["peak_memory_mb"] for entry in entries
        ),
        "commit": commit(),
    }
