"""A student network, trained on cubes of the target that the judge labelled (distillation).

Labels by likelihood are accurate but slow. The student is trained on particles that were labelled
so, and on simulated ones; it labels the other particles a thousand times faster (Hinton, Vinyals &
Dean 2015, arXiv:1503.02531). No domain adaptation is needed: it learns the target's noise from the
target's own cubes, and the structures in all poses from the simulated ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn.functional import cross_entropy

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.learn.augmentation import half_turns, turn_and_shift
from tomadapt.learn.engine import (
    EpochPlan,
    dropout_seed,
    load_checkpoint,
    make_fabric,
    save_checkpoint,
    to_network,
)
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.source import EpochReport
from tomadapt.runs.digest import digest

JUDGED_PASSES = 2
"""Passes over the judged particles in an epoch, unless their share of a batch is stated."""
JUDGED, SIMULATED = 0, 1
"""Keys of the random draws for judged and for simulated particles."""


@dataclass(frozen=True, eq=False)
class SoftLabelled:
    """Particles with class probabilities from a judge, which may be wrong.

    Attributes
    ----------
    data
        The particles.
    probabilities
        (n, classes), rows sum to 1.

    Raises
    ------
    ConfigError
        When there are not as many rows as particles.
    """

    data: Subtomograms
    probabilities: NDArray[np.floating]

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.data):
            raise ConfigError(
                "labels of other particles",
                expected=f"a row for each of {len(self.data)} particles",
                got=len(self.probabilities),
            )

    def subset(self, rows: NDArray[np.integer]) -> SoftLabelled:
        """The particles at some positions."""
        return SoftLabelled(self.data.subset(rows), self.probabilities[rows])


class StudentTraining(BaseModel):
    """Options of the training of a student.

    Parameters
    ----------
    epochs
        Number of epochs; each takes all simulated particles, or as many as the next option says.
    particles_per_epoch
        Number of simulated particles in each epoch: each epoch takes the next ones, so that no
        particle of a stream comes twice. When None, every epoch takes all of them, and pairs their
        noise anew.
    batch_size
        Judged and simulated particles together.
    judged_share
        Fraction of judged particles in each batch. When None, it is chosen for two passes over the
        judged particles per epoch, with at least one particle and at most half of a batch: with
        more passes over few particles, these would be learnt by heart.
    learning_rate, weight_decay
        Of AdamW, with a cosine schedule to zero.
    snr_range
        Range of the simulated particles' SNRs, drawn log-uniformly.
    seed
        Seed of the initial weights and all random draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[int, Field(ge=1)] = 20
    particles_per_epoch: Annotated[int, Field(ge=4)] | None = None
    batch_size: Annotated[int, Field(ge=4)] = 32
    judged_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    snr_range: tuple[float, float]
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.snr_range[0] <= self.snr_range[1]:
            raise ValueError(f"snr_range must be 0 < low <= high; got {self.snr_range}")
        return self


def snr_range_about(snr: float) -> tuple[float, float]:
    """From half of a measured SNR to twice it: SNRs of cubes and of their images differ by less."""
    return snr / 2, snr * 2


def train_student(
    judged: SoftLabelled,
    source: LabelledSubtomograms,
    options: StudentTraining,
    *,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    on_epoch: EpochReport = lambda _: None,
) -> tuple[Model, list[dict[str, float]]]:
    """Train a network on judged and simulated particles.

    Parameters
    ----------
    judged
        Particles of the target with the judge's probabilities of the source's classes.
    source
        Simulated particles, whose signal and noise are kept apart.
    options
        See :class:`StudentTraining`.
    fabric
        Device and processes; chosen automatically when None.
    checkpoint
        File in which the state is kept after each epoch; training is continued from it.
    on_epoch
        Called with each epoch's record: ``loss_judged``, ``loss_simulated``.

    Returns
    -------
    Model
        After the last epoch.
    list of dict
        One record per epoch.

    Raises
    ------
    ConfigError
        When the judged particles have other classes than the source, or when the source does not
        keep signal and noise apart.
    MismatchError
        When their boxes or voxel sizes differ.
    """
    classes = len(source.class_names)
    if judged.probabilities.shape[1] != classes:
        raise ConfigError(
            "the judge and the source differ in classes",
            expected=f"probabilities of {classes} classes",
            got=judged.probabilities.shape[1],
        )
    fabric = fabric or make_fabric()
    torch.manual_seed(options.seed)
    card = ModelCard(
        class_names=source.class_names,
        box=source.box,
        voxel_size_A=source.voxel_size_A,
        network="default",
        acquisition=source.acquisition,
        method="student",
    )
    model = Model.new(card)
    model.require_matching(judged.data, "the target")
    network = torch.nn.Sequential(model.extractor, model.classifier)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    wrapped, wrapped_optimiser = fabric.setup(network, optimiser)
    history: list[dict[str, float]] = []
    made_with = {
        "options": options.model_dump(mode="json", exclude={"snr_range"}),
        "snr_range": list(options.snr_range),  # of the particles, as they were measured
        "judged": judged.data.fingerprint,
        "judged_probabilities": _digest(judged.probabilities),
        "source": source.fingerprint,
        "classes": list(source.class_names),
        "source_labels": _digest(source.labels),
    }
    if saved := load_checkpoint(checkpoint, made_with=made_with):
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        history = saved["history"]
    soft = torch.from_numpy(np.asarray(judged.probabilities, dtype=np.float32))
    hard = torch.from_numpy(source.labels)
    for number in range(len(history), options.epochs):
        torch.manual_seed(dropout_seed(options.seed, number, fabric))
        wrapped.train()
        epoch = _Epoch.draw(number, judged, source, options)
        batches = list(epoch.batches(fabric))
        losses = []
        for step, (real, simulated) in enumerate(batches):
            progress = (number + step / len(batches)) / options.epochs
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * (0.5 + 0.5 * math.cos(math.pi * progress))
            x = to_network(epoch.volumes(real, simulated), fabric)  # (b, 1, d, d, d)
            logits = wrapped(x)  # (b, classes)
            said = fabric.to_device(soft[real])
            true = fabric.to_device(hard[epoch.places(simulated)])
            of_judge = cross_entropy(logits[: len(real)], said)
            of_source = cross_entropy(logits[len(real) :], true)
            share = len(real) / len(logits)
            wrapped_optimiser.zero_grad()
            fabric.backward(share * of_judge + (1 - share) * of_source)
            wrapped_optimiser.step()
            losses.append([float(of_judge.detach()), float(of_source.detach())])
        means = np.mean(losses, axis=0)
        history.append(
            {
                "epoch": number + 1,
                "loss_judged": float(means[0]),
                "loss_simulated": float(means[1]),
            }
        )
        state: dict[str, Any] = {"made_with": made_with, "history": history}
        state |= {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, state, fabric)
        on_epoch(history[-1])
    model.extractor.eval()
    training = {
        "student": options.model_dump(mode="json"),
        "source_data": source.fingerprint,
        "judged_data": judged.data.fingerprint,
        "judged": len(judged.data),
        "history": history,
    }
    return model.copy(training=training), history


@dataclass(frozen=True, eq=False)
class _Epoch:
    """The random draws of one epoch, and its batches.

    Attributes
    ----------
    judged, source, options
        As for :func:`train_student`.
    of_judged, of_source
        The plans of both kinds of particles.
    first
        Number of the simulated particle at place 0; numbers start again after the last particle.
    """

    judged: SoftLabelled
    source: LabelledSubtomograms
    options: StudentTraining
    of_judged: EpochPlan
    of_source: EpochPlan
    first: int

    @classmethod
    def draw(
        cls,
        number: int,
        judged: SoftLabelled,
        source: LabelledSubtomograms,
        options: StudentTraining,
    ) -> _Epoch:
        """Draw the plans of an epoch."""
        count = min(options.particles_per_epoch or len(source), len(source))
        plans = [
            EpochPlan.draw(n, seed=options.seed, epoch=number, purpose=purpose)
            for n, purpose in ((len(judged.data), JUDGED), (count, SIMULATED))
        ]
        return cls(judged, source, options, plans[0], plans[1], number * count)

    def batches(self, fabric: Fabric) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows of judged particles, and places of simulated ones, batch by batch."""
        size, wanted = self.options.batch_size, self.options.judged_share
        if wanted is None:
            twice = JUDGED_PASSES * len(self.judged.data)
            wanted = min(0.5, twice / (twice + len(self.of_source.order)))
        share = min(max(1, round(wanted * size)), size - 1)
        simulated = list(self.of_source.batches(size - share, fabric))
        # Judged particles are repeated: there are mostly fewer of them than simulated ones.
        repeated = np.resize(self.of_judged.order, len(simulated) * share)
        for step, places in enumerate(simulated):
            yield repeated[step * share : (step + 1) * share], places

    def places(self, simulated: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the simulated particles at places of this epoch."""
        return (simulated + self.first) % len(self.source)

    def volumes(self, real: NDArray[np.int64], simulated: NDArray[np.int64]) -> torch.Tensor:
        """(b, d, d, d) an augmented batch, judged particles first."""
        plan, places = self.of_source, self.places(simulated)
        low, high = np.log(self.options.snr_range)
        snr = np.exp(low + (high - low) * plan.uniform[simulated])
        noise = places
        if self.options.particles_per_epoch is None:  # the same particles every epoch: other noise
            noise = plan.noise_from[simulated]
        parts = (
            (self.judged.data.read(real), self.of_judged, real),
            (self.source.read_mixed(places, noise, snr), plan, simulated),
        )
        turns = half_turns(self.source.acquisition)
        turned = [
            turn_and_shift(volumes, of.flips[rows], of.shifts[rows], turns=turns)
            for volumes, of, rows in parts
        ]
        return torch.cat(turned)


def _digest(labels: NDArray[Any]) -> str:
    """A digest of labels, rounded so that numerical noise does not change it."""
    return digest(np.round(np.asarray(labels, dtype=np.float64), 4))
