"""Simulated targets labelled by likelihood, and by networks that learn from it, as tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.experiments.grid import read_record
from tomadapt.experiments.models import CHECKPOINT, MODEL, ModelTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.task import Task
from tomadapt.judge.acquisition import estimated_acquisition, judge_as_recorded
from tomadapt.judge.rivals import Hypothesis, wanted_structures
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.recolouring import recoloured
from tomadapt.learn.student import (
    SoftLabelled,
    StudentTraining,
    snr_range_about,
    train_student,
)
from tomadapt.learn.turned import over_half_turns
from tomadapt.metrics import accuracy
from tomadapt.simulate.simulator import NULL_CLASS

PROBABILITIES, RECORD = "probabilities.npz", "record.json"


class JudgeTask(Task):
    """A target labelled by likelihood: no training, no source, but structures and optics.

    Parameters
    ----------
    target
        The particles; those held out are labelled too.
    stated
        The acquisition that is stated.
    estimated
        Whether the defocus is measured first, beginning from the stated one. It is measured on the
        particles that are not held out, and only those held out are labelled.
    """

    kind: Literal["judge"] = "judge"
    version: ClassVar[int] = 4
    target: Particles
    stated: Acquisition
    estimated: bool = False

    @property
    def requires(self) -> Sequence[Task]:
        """The set."""
        return self.target.requires

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Label the particles and keep what each class is given."""
        seen, held_out = self.target.open(store)
        assert held_out is not None
        acquisition = self.stated
        if self.estimated:
            acquisition = estimated_acquisition(seen.unlabelled(), self.structures, self.stated)
        further, snr = self._label(held_out, acquisition)
        found, record = further[:0], {}
        if not self.estimated:
            found, snr = self._label(seen, acquisition)
            record = {"accuracy": accuracy(found.argmax(axis=1), seen.labels)}
        np.savez(folder / PROBABILITIES, seen=found, held_out=further)
        return record | {
            "held_out_accuracy": accuracy(further.argmax(axis=1), held_out.labels),
            "n": len(seen),
            "n_held_out": len(held_out),
            "defocus_um": acquisition.defocus_um,
            "snr": snr,
        }

    def probabilities(self, store: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n, classes) of those seen and those held out, when the task is finished.

        None are there of those seen where the acquisition was estimated.
        """
        with np.load(store / self.key / PROBABILITIES) as file:
            return file["seen"], file["held_out"]

    @property
    def structures(self) -> list[Hypothesis]:
        """Of all classes but NULL, on the cubes' grid."""
        box, voxel_size_A = self.target.size
        simulation = self.target.made.simulation
        return wanted_structures(
            simulation.classes, box=box, voxel_size_A=voxel_size_A, folder=simulation.folder
        )

    def _label(
        self, data: LabelledSubtomograms, acquisition: Acquisition
    ) -> tuple[NDArray[np.float64], float | None]:
        """(n, classes) in the order of the data's classes, and the SNR as measured."""
        verdicts = judge_as_recorded(data.unlabelled(), self.structures, acquisition)
        # The judge's last column is all that is no named structure.
        order = [
            len(verdicts.wanted) if name == NULL_CLASS else verdicts.wanted.index(name)
            for name in data.class_names
        ]
        snr = None if verdicts.optics is None else verdicts.optics.snr
        return verdicts.probabilities[:, order], snr


class StudentTask(ModelTask):
    """A network that learns from a judged target and from particles simulated like it.

    Parameters
    ----------
    judge
        Of the target; of those held out nothing is used in training.
    source
        Simulated with the acquisition that the judge was given or measured.
    training
        How; its range of SNRs only where the judge could not measure one.

    Raises
    ------
    ValueError
        When the judge labels only those held out.
    """

    kind: Literal["student"] = "student"
    version: ClassVar[int] = 4
    judge: JudgeTask
    source: Particles
    training: StudentTraining

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.judge.estimated:
            raise ValueError("a judge that estimates the acquisition labels none to learn from")
        return self

    @property
    def requires(self) -> Sequence[Task]:
        """The judge, and the source's set."""
        return (self.judge, *self.source.requires)

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Train, or go on from the last whole epoch; compare with the truth and with the judge."""
        seen, held_out = self.judge.target.open(store)
        assert held_out is not None
        source, _ = self.source.open(store)
        taught, judged_held_out = self.judge.probabilities(store)
        training, measured = self.training, read_record(store / self.judge.key / RECORD)["snr"]
        if measured is not None:
            training = training.model_copy(update={"snr_range": snr_range_about(measured)})
        model, history = train_student(
            SoftLabelled(seen.unlabelled(), taught),
            recoloured(source, seen.unlabelled(), snr=self.source.snr)[0],
            training,
            checkpoint=folder / CHECKPOINT,
        )
        model.save(folder / MODEL)
        fabric = make_fabric()
        predicted, unseen = (
            over_half_turns(model, data.unlabelled(), fabric=fabric).argmax(axis=1)
            for data in (seen, held_out)
        )
        return {
            "accuracy": accuracy(predicted, seen.labels),
            "held_out_accuracy": accuracy(unseen, held_out.labels),
            "agreement": accuracy(unseen, judged_held_out.argmax(axis=1)),
            "n": len(seen),
            "n_held_out": len(held_out),
            "history": history,
        }
