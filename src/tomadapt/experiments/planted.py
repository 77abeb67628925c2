"""A simulated tomogram with planted particles, through the one command of a user.

The tomogram's acquisition is not the one that is stated: more defocus, a counting detector, a
B-factor, damage by exposure and noise that grows with tilt, so there is a gap to adapt to. The
paper has no such experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.acquisition import NAMED_MTFS, Acquisition
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.classify.run import classify
from tomadapt.experiments.grid import commit
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import row_table
from tomadapt.io.particle_lists import read_particles
from tomadapt.metrics import f1_score, match_positions
from tomadapt.runs.atomic import output_folder
from tomadapt.simulate.tomogram import TomogramConfig, simulate_tomogram, write_planted

CLASSES = ("ribosome_80s", "tric", "spliceosome", "apoferritin")
STATED = Acquisition(name="stated", defocus_um=4.0)
TRUE = Acquisition(
    name="true",
    defocus_um=4.3,
    amplitude_contrast=0.1,
    mtf=NAMED_MTFS["k2_counting"],
    b_factor_A2=400,
    exposure_per_tilt_e_per_A2=2,
    thickness_in_mean_free_paths=0.5,
)
SIZES = {
    "smoke": (64, 8, 2, 8, (0.1,)),
    "reduced": (256, 80, 20, 60, (0.1, 0.05)),
    "paper": (256, 80, 40, 400, (0.1, 0.05)),
}
"""Scale: side of the tomogram, particles of the rarest class, epochs, source per class, SNRs."""
TOLERANCE_A = 100.0


def run(setting: Setting) -> list[Path]:
    """Plant, classify, and compare."""
    side, count, epochs, per_class, snrs = SIZES[setting.scale.name]
    counts = dict(zip(CLASSES, (count, 3 * count // 2, count, 2 * count), strict=True))
    results = Results.of(setting, "planted", _table, "scale")
    for snr in snrs:
        folder = output_folder(setting.store / f"planted-{setting.scale.name}-{snr:g}")
        config = TomogramConfig(
            classes=dict(zip(CLASSES, CLASSES, strict=True)),
            counts=counts,
            acquisition=TRUE,
            shape_zyx=(side, 256 if side > 64 else 160, 256 if side > 64 else 160),
            snr=snr,
            seed=11,
            voxel_size_A=10.0,
            resolution_A=10.0,
        )
        planted = simulate_tomogram(config)
        write_planted(planted, folder)
        source = SourceOptions(
            classes=config.classes, acquisition=STATED, epochs=epochs, per_class=per_class
        )
        options = ClassifyOptions(tomogram=folder / "tomogram.mrc", source=source, method="ada")
        if setting.scale.name == "smoke":
            adapt = options.adapt.model_copy(update={"epochs": 1})
            options = options.model_copy(update={"adapt": adapt})
        summary = classify(options, folder / "run", cache=setting.store / "models")
        results.add(_row(snr, folder, planted.radii_A[planted.labels], summary))
    return results.files


def _table(rows: Sequence[Row]) -> str:
    columns = ("snr", "n_planted", "n_labelled", "recall", "precision", "f1", "labels_right")
    return f"# Planted particles\n\nScale {rows[0]['scale']}.\n\n" + row_table(columns, rows)


def _row(snr: float, folder: Path, radii_A: np.ndarray, summary: dict[str, Any]) -> Row:
    truth = read_particles(folder / "particles.star")
    found = read_particles(folder / "run" / "particles.star")
    assert truth.classes is not None
    assert found.classes is not None
    tolerance = np.maximum(radii_A, TOLERANCE_A)
    pairs = match_positions(found.coordinates_A, truth.coordinates_A, tolerance)
    right = [found.classes[f] == truth.classes[p] for f, p in zip(*pairs, strict=True)]
    recall, precision = len(right) / len(truth), len(right) / max(1, len(found))
    return {
        "snr": snr,
        "n_planted": len(truth),
        "n_labelled": len(found),
        "recall": recall,
        "precision": precision,
        "f1": f1_score(recall, precision),
        "labels_right": float(np.mean(right)) if right else 0.0,
        "chosen": summary["guard"]["chosen"],
        "seconds": summary["seconds"],
        "commit": commit(),
    }
