"""Labels macromolecules in cryo-electron tomograms with training data from another source.

The public names, in the order of the data: structure → density → tilt series → subtomograms →
source model → adapted model → predictions → recovered structures → report. They are loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOME = {
    "read_atomic_model": "tomadapt.structures",
    "voxelise": "tomadapt.structures",
    "template": "tomadapt.structures",
    "Acquisition": "tomadapt.acquisition",
    "BATCH_A": "tomadapt.acquisition",
    "BATCH_B": "tomadapt.acquisition",
    "Simulator": "tomadapt.simulate.simulator",
    "SimulationConfig": "tomadapt.simulate.dataset",
    "simulate_set": "tomadapt.simulate.dataset",
    "open_set": "tomadapt.simulate.dataset",
    "open_target": "tomadapt.inputs.particles",
    "Subtomograms": "tomadapt.data.subtomograms",
    "LabelledSubtomograms": "tomadapt.data.subtomograms",
    "SourceTraining": "tomadapt.learn.source",
    "train_source": "tomadapt.learn.source",
    "Model": "tomadapt.learn.model",
    "SourceOnly": "tomadapt.learn.method",
    "TargetStatistics": "tomadapt.learn.statistics",
    "AdversarialOptions": "tomadapt.learn.adversarial",
    "AdversarialAdaptation": "tomadapt.learn.adversarial",
    "predict": "tomadapt.learn.prediction",
    "StatedRecording": "tomadapt.recover.recording",
    "measured_points": "tomadapt.recover.recording",
    "shell_power": "tomadapt.recover.fourier",
    "AlignmentOptions": "tomadapt.recover.align",
    "Aligner": "tomadapt.recover.align",
    "align": "tomadapt.recover.align",
    "AveragingOptions": "tomadapt.recover.average",
    "average": "tomadapt.recover.average",
    "MapComparison": "tomadapt.recover.compare",
    "write_report": "tomadapt.report.page",
    "RunConfig": "tomadapt.workflows.config",
    "run": "tomadapt.workflows.run",
    "TomadaptError": "tomadapt.errors",
}

__all__ = list(_HOME)
__version__ = version("tomadapt")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tomadapt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
