"""Adapted networks on cubes that others made. Not in the paper.

The source is simulated by this package with the sets' own optics and range of SNRs; noise,
potential and reconstruction of the target are others'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.experiments.judged_sets import STATED, read_table, structures_of
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.experiments.third_party import SETS, require_sets
from tomadapt.inputs.particles import open_target
from tomadapt.learn.calibration import calibration_error
from tomadapt.learn.catalogue import METHODS, default_options
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining
from tomadapt.recover.recording import recording_of
from tomadapt.runs.digest import digest
from tomadapt.simulate.dataset import SimulationConfig, simulate_set
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.workflows.models import trained_model

COMPARED = ("source_only", "target_statistics", "partial_statistics", "ada", "most_consistent")
SNR_RANGE = (0.003, 0.03)
"""Of the sets, after the CTF."""
COLUMNS = ("set", "method", "n", "accuracy", "ece", "null right")


def run(setting: Setting) -> list[Path]:
    """Every method on every set that is at hand; rows are written as they come."""
    data, there = require_sets(setting, SETS)
    table = partial(titled_table, "Networks on cubes that others made", COLUMNS, form=".3f")
    results = Results.of(setting, "third_party_networks", table)
    # Sets that an earlier call finished are kept.
    earlier = results.earlier()
    finished = {row["set"] for row in earlier if row["method"] == COMPARED[-1]}
    results.rows.extend(r for r in earlier if r["set"] in finished and r["method"] in COMPARED)
    wanted = [folder for folder in there if folder.name not in finished]
    for folder in wanted[: 1 if setting.scale.name == "smoke" else None]:
        for row in _of_set(Target.of(folder, data), setting):
            results.add({"set": folder.name, **row})
    return results.files


@dataclass(frozen=True, eq=False)
class Target:
    """Cubes that others made: structures of the classes, true labels (n,), acquisition."""

    data: Subtomograms
    classes: dict[str, str]
    truth: NDArray[np.int64]
    acquisition: Acquisition

    @classmethod
    def of(cls, folder: Path, structures: Path) -> Target:
        """Open a set; ``null`` is the last class."""
        data = open_target(folder / "cubes.mrc", contrast="positive")
        classes = structures_of(folder, structures) | {NULL_CLASS: NULL_CLASS}
        labels = [list(classes).index(r["label"]) for r in read_table(folder / "truth.csv")]
        return cls(data, classes, np.array(labels), recording_of(data, STATED).acquisition)

    def measures(self, model: Model) -> Row:
        """What a model makes of it."""
        found = predict(model, self.data)
        null, right = self.truth == len(self.classes) - 1, found.labels == self.truth
        return {
            "n": len(self.data),
            "accuracy": float(right.mean()),
            "ece": calibration_error(found.confidence, right),
            "null right": float(right[null].mean()),
        }


def _of_set(target: Target, setting: Setting) -> Iterator[Row]:
    source_config = simulated_like(target, setting)
    source = simulate_set(source_config, _store_of(source_config, setting) / "set")
    fabric = make_fabric()
    training = SourceTraining(
        epochs=setting.scale.training.epochs, snr_range=SNR_RANGE, repair_noise=True, augment=True
    )
    trained = digest(training.model_dump_json())
    path = _store_of(source_config, setting) / f"{trained}.safetensors"
    model = trained_model(path, source, training, fabric=fabric, title="train source")
    for name in COMPARED:
        adapted = METHODS[name](model, default_options(name, seed=0), fabric).fit(
            source, target.data
        )
        yield {"method": name, **target.measures(adapted.model), "warning": adapted.warning}


def simulated_like(target: Target, setting: Setting) -> SimulationConfig:
    """A source of the target's classes, recorded as it was."""
    data = target.data
    return SimulationConfig(
        classes=target.classes,
        acquisition=target.acquisition,
        per_class=setting.scale.experimental_per_class,
        snr=float(np.sqrt(np.prod(SNR_RANGE))),
        seed=777,
        box=data.box,
        voxel_size_A=data.voxel_size_A,
        resolution_A=max(data.voxel_size_A, 8.0),
        even_noise=True,
    )


def _store_of(config: SimulationConfig, setting: Setting) -> Path:
    """Named after all that the set depends on."""
    return setting.store / f"third_party_source-{digest(config.identity)}"
