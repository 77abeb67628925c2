"""What the cells of a grid are made of: sets, trained models, adapted models.

A task is a frozen description. Its key is a hash of all it depends on, so cells that need the same
set or the same source model share it, and what is finished is known again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tomadapt.errors import ConfigError, MismatchError
from tomadapt.io.labelled import open_labelled_folder
from tomadapt.io.volumes import open_target
from tomadapt.learn.catalogue import METHODS, MethodOptions
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.model import Model
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.metrics import accuracy, effective_classes
from tomadapt.prediction import predict
from tomadapt.simulate.dataset import SimulationConfig, open_set, simulate_set
from tomadapt.subtomograms import LabelledSubtomograms, same_voxel_size

FORMAT = "tomadapt-run-1"
"""Changed when what a task leaves in its folder changes its meaning: old runs are then not used."""


class Task(BaseModel):
    """A piece of work whose result is kept in a folder of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @property
    def key(self) -> str:
        """The name of the task's folder: its kind and a hash of its configuration."""
        content = json.dumps([FORMAT, self.model_dump(mode="json")], sort_keys=True)
        return f"{self.kind}-{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()}"

    @property
    def requires(self) -> Sequence[Task]:
        """The tasks whose results this one reads."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse, before any task is run, what can be known to fail."""

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Do it, leaving artefacts in ``folder``, and return the measures for the record."""
        raise NotImplementedError


class SimulateTask(Task):
    """A simulated set, which serves every SNR."""

    kind: Literal["set"] = "set"
    simulation: SimulationConfig

    @classmethod
    def of(cls, simulation: SimulationConfig) -> SimulateTask:
        """The task of a simulation; the SNR does not belong to it."""
        return cls(simulation=simulation.model_copy(update={"snr": 1.0}))

    @property
    def requires(self) -> Sequence[Task]:
        """Nothing."""
        return ()

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Simulate the set, or the rest of it."""
        data = simulate_set(self.simulation, folder / "set", device=make_fabric().device)
        return {"n": len(data)}


class Particles(BaseModel):
    """Some of a set's particles at an SNR.

    Parameters
    ----------
    made
        The set.
    snr
        At which it is read.
    per_class
        The first so many of each class are trained on or adapted to, the others held out.
    without
        Classes left out of both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made: SimulateTask
    snr: Annotated[float, Field(gt=0)]
    per_class: Annotated[int, Field(ge=2)]
    without: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.per_class > self.made.simulation.per_class:
            raise ValueError(f"the set has {self.made.simulation.per_class} of each class only")
        return self

    def all_classes(self, store: Path) -> LabelledSubtomograms:
        """The whole set, classes left out included."""
        return open_set(store / self.made.key / "set", snr=self.snr)

    def open(self, store: Path) -> tuple[LabelledSubtomograms, LabelledSubtomograms | None]:
        """The particles to use, and those held out."""
        return (
            self.all_classes(store)
            .without_classes(self.without)
            .first_of_each_class(self.per_class)
        )


class LabelledFolder(BaseModel):
    """Real particles with labels, of which none is held out.

    Parameters
    ----------
    path
        See :func:`tomadapt.io.labelled.open_labelled_folder`.
    classes
        In the order of the source's.
    voxel_size_A
        Å, where the files do not say it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    classes: tuple[str, ...]
    voxel_size_A: float | None = None

    def open(self, store: Path) -> tuple[LabelledSubtomograms, LabelledSubtomograms | None]:
        """All particles, and nothing held out."""
        data = open_labelled_folder(self.path, self.classes, voxel_size_A=self.voxel_size_A)
        return data, None


class OneClassFile(BaseModel):
    """Real particles that are all of one known class.

    Parameters
    ----------
    path
        See :func:`tomadapt.io.volumes.open_target`.
    classes
        The source's classes in order.
    label
        The one they are of.
    voxel_size_A
        Å, where the file does not say it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    classes: tuple[str, ...]
    label: str
    voxel_size_A: float | None = None

    def open(self, store: Path) -> tuple[LabelledSubtomograms, LabelledSubtomograms | None]:
        """All particles, and nothing held out."""
        data = open_target(self.path, voxel_size_A=self.voxel_size_A)
        labels = np.full(len(data), self.classes.index(self.label))
        return LabelledSubtomograms(data.source, labels=labels, class_names=self.classes), None


class TrainTask(Task):
    """A model trained with labels: a source model, or the oracle where the data are the target."""

    kind: Literal["train"] = "train"
    data: Particles
    training: SourceTraining

    @property
    def requires(self) -> Sequence[Task]:
        """The set."""
        return (self.data.made,)

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Train, or go on from the last whole epoch."""
        seen, held_out = self.data.open(store)
        checkpoint = folder / "checkpoint.pt"
        model, history = train_source(seen, self.training, checkpoint=checkpoint)
        model.save(folder / "model.safetensors")
        checkpoint.unlink(missing_ok=True)
        return {
            "accuracy": _accuracy(model, seen),
            "held_out_accuracy": _accuracy(model, held_out),
            "n": len(seen),
            "n_held_out": 0 if held_out is None else len(held_out),
            "history": history,
        }

    def model(self, store: Path) -> Model:
        """The trained model."""
        return Model.load(store / self.key / "model.safetensors")


class AdaptTask(Task):
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
        return self

    @property
    def requires(self) -> Sequence[Task]:
        """The source model, and the target where it is simulated."""
        made = [self.target.made] if isinstance(self.target, Particles) else []
        return (self.source_model, *made)

    def check(self) -> None:
        """Refuse a target whose cubes are not like the source's.

        Raises
        ------
        MismatchError
            Naming box or voxel size of both.
        """
        source = self.source_model.data.made.simulation
        if isinstance(self.target, Particles):
            target: Any = self.target.made.simulation
        else:
            target, _ = self.target.open(Path())
        if target.box != source.box:
            raise MismatchError(
                "the target and the simulated source differ in box",
                expected=f"{source.box} voxels (source)",
                got=f"{target.box} voxels (target)",
                remedy="extract the target's particles again with the source's box",
            )
        if not same_voxel_size(target.voxel_size_A, source.voxel_size_A):
            raise MismatchError(
                "the target and the simulated source differ in voxel size",
                expected=f"{source.voxel_size_A:g} Å (source)",
                got=f"{target.voxel_size_A:g} Å (target)",
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
        checkpoint = folder / "checkpoint.pt"
        adaptation = method.fit(source, seen.unlabelled(), checkpoint=checkpoint)
        if source_model.fingerprint != before:
            raise AssertionError(f"{self.method} changed the source model it was given")
        adaptation.model.save(folder / "model.safetensors")
        checkpoint.unlink(missing_ok=True)
        predicted = predict(adaptation.model, seen.unlabelled()).labels
        np.save(folder / "predicted.npy", predicted)
        return {
            "accuracy": accuracy(predicted, seen.labels),
            "held_out_accuracy": _accuracy(adaptation.model, held_out),
            "n": len(seen),
            "n_held_out": 0 if held_out is None else len(held_out),
            "effective_classes": effective_classes(predicted, len(seen.class_names)),
            "warning": adaptation.warning,
            "history": adaptation.history,
        }

    def model(self, store: Path) -> Model:
        """The adapted model."""
        return Model.load(store / self.key / "model.safetensors")


def _accuracy(model: Model, data: LabelledSubtomograms | None) -> float | None:
    if data is None:
        return None
    return accuracy(predict(model, data.unlabelled()).labels, data.labels)
