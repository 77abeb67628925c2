"""Normalisation statistics re-estimated on the target (AdaBN, Li et al. 2016): no training.

Batch normalisation carries means and variances of the source into the target, where they are
wrong. A network without such layers is left as it is.

Statistics hold the proportions of classes too. Where those of the target are far from the source's
(mostly noise, say), its whole statistics destroy a model, and a mean of both does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.consistency import consistency
from tomadapt.learn.engine import make_fabric, to_network
from tomadapt.learn.method import Adaptation, adapted_training
from tomadapt.learn.model import Model
from tomadapt.learn.source import EpochReport

BATCH = 64
Norm = nn.modules.batchnorm._BatchNorm


def norm_layers(network: nn.Module) -> list[Norm]:
    """The batch-normalisation layers of a network."""
    return [m for m in network.modules() if isinstance(m, Norm)]


def re_estimate_statistics(network: nn.Module, target: Subtomograms, fabric: Fabric) -> None:
    """Replace a network's running means and variances by averages over the target, in place.

    The particles are taken in a fixed random order and in parts of equal size, so that the result
    depends neither on how the target is sorted nor on what a last, smaller batch happens to hold.
    """
    layers = norm_layers(network)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    was_training = network.training
    network.eval()  # dropout must not disturb the statistics
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over batches
        layer.train()
    with torch.no_grad(), fabric.autocast():
        order = np.random.default_rng(0).permutation(len(target))
        for part in np.array_split(order, math.ceil(len(target) / BATCH)):
            network(to_network(target.read(part), fabric))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(was_training)


Statistics = Literal["source", "target"]


def with_statistics(
    model: Model, statistics: Statistics, target: Subtomograms, fabric: Fabric
) -> Model:
    """A copy of a model that has its own statistics, or those of the target."""
    copy = model.copy()
    copy.extractor.to(fabric.device)
    if statistics == "target":
        re_estimate_statistics(copy.extractor, target, fabric)
    copy.extractor.eval()
    return copy


@dataclass(frozen=True)
class TargetStatistics:
    """The source model with the target's normalisation statistics."""

    source_model: Model
    fabric: Fabric | None = None
    name: str = "target_statistics"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Copy the source model and re-estimate the copy's statistics."""
        self.source_model.require_matching(target, "the target")
        fabric = self.fabric or make_fabric()
        training = adapted_training(self.source_model, target, options={}, history=[])
        model = with_statistics(self.source_model, "target", target, fabric)
        return Adaptation(model.copy(method=self.name, training=training))


TARGET_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the target's statistics that are tried."""


def blended(model: Model, target: Model, share: float) -> Model:
    """A model with the mean of two models' statistics (Schneider et al. 2020, NeurIPS 33, Eq. 2).

    Parameters
    ----------
    model
        With the source's statistics; all else is taken from it.
    target
        The same with the target's.
    share
        Of the target's, 0 to 1.
    """
    copy = model.copy()
    pairs = zip(norm_layers(copy.extractor), norm_layers(target.extractor), strict=True)
    with torch.no_grad():
        for layer, other in pairs:
            for name in ("running_mean", "running_var"):
                getattr(layer, name).lerp_(getattr(other, name).to(getattr(layer, name)), share)
    copy.extractor.eval()
    return copy


@dataclass(frozen=True)
class PartialStatistics:
    """The source model with a mean of the source's and the target's statistics.

    Of several shares the one is taken with which the model is most consistent on the target, see
    :func:`~tomadapt.learn.consistency.consistency`; no label is used.
    """

    source_model: Model
    fabric: Fabric | None = None
    name: str = "partial_statistics"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Try every share; its consistency is in the model's card."""
        self.source_model.require_matching(target, "the target")
        fabric = self.fabric or make_fabric()
        whole = with_statistics(self.source_model, "target", target, fabric)
        tried = {share: blended(self.source_model, whole, share) for share in TARGET_SHARES}
        signs = {share: consistency(m, target, fabric=fabric) for share, m in tried.items()}
        best = max(TARGET_SHARES, key=lambda share: signs[share])
        options = {"share": best, "consistency": {f"{k:g}": round(v, 4) for k, v in signs.items()}}
        training = adapted_training(self.source_model, target, options=options, history=[])
        return Adaptation(tried[best].copy(method=self.name, training=training))
