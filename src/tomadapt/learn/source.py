"""Stage 1: train F_s and C on labelled source subtomograms by cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn.functional import cross_entropy

from tomadapt.data.subtomograms import LabelledSubtomograms
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
from tomadapt.learn.prediction import predict
from tomadapt.metrics import accuracy

EpochReport = Callable[[dict[str, float]], None]
"""Called after each epoch with its record."""


class SourceTraining(BaseModel):
    """Options of stage 1, by default for the ``default`` network.

    ``PAPER_TRAINING`` quotes the released code of Lin et al. 2019.

    Parameters
    ----------
    network
        ``default`` or ``paper``.
    epochs, batch_size, learning_rate, weight_decay
        Of AdamW.
    schedule
        ``cosine`` (to zero at the end) or ``constant``.
    snr_range
        Draw each sample's SNR log-uniformly from this range; the set's own SNR when None.
    repair_noise
        Whether each sample gets the noise of another particle, drawn anew every epoch.
    augment
        Whether particles get random half-turns that keep the wedge, and shifts of up to two voxels.
    validation_fraction
        Fraction of each class that is held out of training; its accuracy is recorded every epoch.
    seed
        Seed of the initial weights, the split and all random draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["default", "paper"] = "default"
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    snr_range: tuple[float, float] | None = None
    repair_noise: bool = False
    augment: bool = False
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.snr_range is not None and not 0 < self.snr_range[0] <= self.snr_range[1]:
            raise ValueError(f"snr_range must be 0 < low <= high; got {self.snr_range}")
        return self


PAPER_TRAINING = SourceTraining(
    network="paper",
    epochs=100,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.0,
    schedule="constant",
)


SNR_FACTOR = 4.0
"""The SNR of a target may differ by up to this factor from the source's."""


def with_snr_range(options: SourceTraining, data: LabelledSubtomograms) -> SourceTraining:
    """The options with a range of SNRs, from a quarter of the set's own SNR to four times it.

    A target's SNR is rarely known. Nothing is changed when the options have a range already, for
    the paper's network, and for data whose signal and noise are not kept apart.
    """
    own = data.snr
    if options.snr_range is not None or options.network == "paper" or own is None:
        return options
    return options.model_copy(update={"snr_range": (own / SNR_FACTOR, own * SNR_FACTOR)})


def snr_sentence(options: SourceTraining, data: LabelledSubtomograms) -> str:
    """A sentence on the SNRs in training, after the CTF and, if known, before it.

    Empty for data of unknown SNR.
    """
    own = data.snr
    if options.snr_range is not None:
        low, high = options.snr_range
    elif own is not None:
        low = high = own
    else:
        return ""

    def snrs(factor: float) -> str:
        ends = f"{low * factor:.3g} and {high * factor:.3g}"
        return ends if low < high else f"{low * factor:.3g}"

    text = "SNRs are drawn between" if low < high else "The SNR is"
    text = f"{text} {snrs(1)} after the CTF"
    mixable = data.source.mixable
    ratio = None if mixable is None else mixable.before_ctf_ratio
    return text if ratio is None else f"{text}, {snrs(ratio)} before it"


def train_source(
    data: LabelledSubtomograms,
    options: SourceTraining,
    *,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    on_epoch: EpochReport = lambda _: None,
) -> tuple[Model, list[dict[str, float]]]:
    """Train a source model.

    Parameters
    ----------
    data
        Labelled source particles.
    options
        See :class:`SourceTraining`.
    fabric
        Device and processes; chosen automatically when None.
    checkpoint
        File in which the state is kept after each epoch. When it holds the state of the same
        training, that is continued. On a CPU the result has the same bits as without interruption.
    on_epoch
        Called with each epoch's record (``loss``, ``accuracy``, ``validation_accuracy``).

    Returns
    -------
    Model
        F_s and C after the last epoch.
    list of dict
        One record per epoch.

    Raises
    ------
    ConfigError
        When ``snr_range`` or ``repair_noise`` are asked for but the data do not keep signal and
        noise apart, or when a class has fewer than two particles.
    """
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    if counts.min() < 2:
        raise ConfigError(
            f"too few particles of class {data.class_names[int(counts.argmin())]!r}",
            expected="at least 2 (one is held out for validation)",
            got=int(counts.min()),
            remedy="simulate more per class",
        )
    fabric = fabric or make_fabric()
    torch.manual_seed(options.seed)
    model = Model.new(
        ModelCard(
            class_names=data.class_names,
            box=data.box,
            voxel_size_A=data.voxel_size_A,
            network=options.network,
            acquisition=data.acquisition,
        )
    )
    train, validation = data.split(options.validation_fraction, seed=options.seed)
    network = torch.nn.Sequential(model.extractor, model.classifier)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    wrapped, wrapped_optimiser = fabric.setup(network, optimiser)

    history: list[dict[str, float]] = []
    made_with = {
        "options": options.model_dump(mode="json"),
        "data": data.fingerprint,
        "classes": list(data.class_names),
    }
    if saved := load_checkpoint(checkpoint, made_with=made_with):
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        history = saved["history"]
    labels = torch.from_numpy(train.labels)
    turns = half_turns(data.acquisition)
    for epoch in range(len(history), options.epochs):
        torch.manual_seed(dropout_seed(options.seed, epoch, fabric))
        wrapped.train()
        plan = EpochPlan.draw(len(train), seed=options.seed, epoch=epoch)
        batches = list(plan.batches(options.batch_size, fabric))
        losses, hits, seen = [], 0, 0
        for step, indices in enumerate(batches):
            if options.schedule == "cosine":
                progress = (epoch + step / len(batches)) / options.epochs
                rate = options.learning_rate * (0.5 + 0.5 * math.cos(math.pi * progress))
                for group in optimiser.param_groups:
                    group["lr"] = rate
            volumes = _read(train, indices, plan, options)
            if options.augment:
                volumes = turn_and_shift(
                    volumes, plan.flips[indices], plan.shifts[indices], turns=turns
                )
            x, y = to_network(volumes, fabric), fabric.to_device(labels[indices])
            logits = wrapped(x)  # (b, classes)
            loss = cross_entropy(logits, y)
            wrapped_optimiser.zero_grad()
            fabric.backward(loss)
            wrapped_optimiser.step()
            losses.append(float(loss.detach()))
            hits += int((logits.argmax(dim=1) == y).sum())
            seen += len(indices)
        predicted = predict(model, validation, fabric=fabric).labels
        history.append(
            {
                "epoch": epoch + 1,
                "loss": float(np.mean(losses)),
                "accuracy": hits / seen,
                "validation_accuracy": accuracy(predicted, validation.labels),
            }
        )
        state: dict[str, Any] = {"made_with": made_with, "history": history}
        state |= {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, state, fabric)
        on_epoch(history[-1])
    model.extractor.eval()
    card = model.card.model_copy(
        update={
            "training": {
                "source": options.model_dump(mode="json"),
                "source_data": data.fingerprint,
                "history": history,
            }
        }
    )
    return Model(card, model.extractor, model.classifier), history


def _read(
    data: LabelledSubtomograms,
    indices: np.ndarray[Any, np.dtype[np.int64]],
    plan: EpochPlan,
    options: SourceTraining,
) -> torch.Tensor:
    """A batch (b, d, d, d) with the SNRs and the noise that the options ask for."""
    if options.snr_range is None and not options.repair_noise:
        return data.read(indices)
    if options.snr_range is None:
        snr = np.full(len(indices), data.snr)
    else:
        low, high = np.log(options.snr_range)
        snr = np.exp(low + (high - low) * plan.uniform[indices])
    noise_from = plan.noise_from[indices] if options.repair_noise else indices
    return data.read_mixed(indices, noise_from, snr)
