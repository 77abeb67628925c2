"""Tasks that make a model: trained with labels, or adapted without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from tomadapt.data.subtomograms import LabelledSubtomograms, same_voxel_size
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.experiments.particles import (
    LabelledFolder,
    OneClassFile,
    Particles,
    RecolouredParticles,
)
from tomadapt.experiments.task import Task
from tomadapt.learn.catalogue import METHODS, MethodOptions, default_options
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.metrics import accuracy, effective_classes

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.pt"


class ModelTask(Task):
    """What the two have in common: a model file."""

    def model(self, store: Path) -> Model:
        """The model, when the task is finished."""
        return Model.load(store / self.key / MODEL)


class TrainTask(ModelTask):
    """A model trained with labels: a source model, or the oracle where the data are the target."""

    kind: Literal["train"] = "train"
    data: Particles | RecolouredParticles
    training: SourceTraining

    @property
    def requires(self) -> Sequence[Task]:
        """The set."""
        return self.data.requires

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Train, or go on from the last whole epoch."""
        seen, held_out = self.data.open(store)
        model, history = train_source(seen, self.training, checkpoint=folder / CHECKPOINT)
        model.save(folder / MODEL)
        predicted = predict(model, seen.unlabelled()).labels
        return _measures(model, predicted, seen, held_out) | {"history": history}


class AdaptTask(ModelTask):
    """A source model adapted to a target by a method, and evaluated with the target's labels."""

    kind: Literal["adapt"] = "adapt"
    method: str
    source_model: TrainTask
    target: Particles | LabelledFolder | OneClassFile
    options: MethodOptions | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.method not in METHODS:
            raise ConfigError(
                f"unknown method {self.method!r}",
                expected=f"one of {', '.join(METHODS)}",
                remedy="choose one of these",
            )
        wanted = type(default_options(self.method, seed=0))
        if not isinstance(self.options, wanted):
            raise ConfigError(
                f"the options are not those of method {self.method!r}",
                expected=wanted.__name__,
                got=type(self.options).__name__,
                remedy="see tomadapt.learn.catalogue.default_options",
            )
        return self

    @property
    def requires(self) -> Sequence[Task]:
        """The source model, and the target where it is simulated."""
        return (self.source_model, *self.target.requires)

    def check(self) -> None:
        """Refuse a target whose cubes are not like the source's.

        Raises
        ------
        MismatchError
            Naming box or voxel size of both.
        """
        (box, voxel_size_A), (expected_box, expected_A) = (
            self.target.size,
            self.source_model.data.size,
        )
        if box != expected_box:
            raise MismatchError(
                "the target and the simulated source differ in box",
                expected=f"{expected_box} voxels (source)",
                got=f"{box} voxels (target)",
                remedy="extract the target's particles again with the source's box",
            )
        if not same_voxel_size(voxel_size_A, expected_A):
            raise MismatchError(
                "the target and the simulated source differ in voxel size",
                expected=f"{expected_A:g} Å (source)",
                got=f"{voxel_size_A:g} Å (target)",
                remedy="rescale the target's particles, or mend the voxel size in their files",
            )

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Adapt without labels, then evaluate with them."""
        source, _ = self.source_model.data.open(store)
        seen, held_out = self.target.open(store)
        source_model = self.source_model.model(store)
        source_model.require_classes(seen.class_names, "the target")
        before = source_model.fingerprint
        method = METHODS[self.method](source_model, self.options, make_fabric())
        adaptation = method.fit(source, seen.unlabelled(), checkpoint=folder / CHECKPOINT)
        if source_model.fingerprint != before:
            raise RuntimeError(f"{self.method} changed the source model that it was given")
        adaptation.model.save(folder / MODEL)
        predicted = predict(adaptation.model, seen.unlabelled()).labels
        np.save(folder / "predicted.npy", predicted)
        return _measures(adaptation.model, predicted, seen, held_out) | {
            "effective_classes": effective_classes(predicted, len(seen.class_names)),
            "warning": adaptation.warning,
            "history": adaptation.history,
        }


def _measures(
    model: Model,
    predicted: np.ndarray[Any, np.dtype[np.int64]],
    seen: LabelledSubtomograms,
    held_out: LabelledSubtomograms | None,
) -> dict[str, Any]:
    """Accuracy on what was trained on or adapted to, and on what was held out."""
    measures: dict[str, Any] = {
        "accuracy": accuracy(predicted, seen.labels),
        "held_out_accuracy": None,
        "n": len(seen),
        "n_held_out": 0,
    }
    if held_out is not None:
        found = predict(model, held_out.unlabelled()).labels
        measures["held_out_accuracy"] = accuracy(found, held_out.labels)
        measures["n_held_out"] = len(held_out)
    return measures
