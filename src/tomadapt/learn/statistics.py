"""Normalisation statistics re-estimated on the target (AdaBN, Li et al. 2016): no training.

Batch normalisation uses means and variances of the source, which do not fit the target. A network
without such layers is left unchanged.

Statistics depend on class frequencies as well. When those of the target differ much from the
source's (mostly noise, for example), the target's statistics make a model useless. A weighted mean
of both domains' statistics can be used instead.
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

    The particles are taken in a fixed random order and in parts of nearly equal size, so that the
    result does not depend on how the target is sorted or on a small last batch.
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
    """A copy of a model with its own statistics, or with those of the target."""
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
"""Weights of the target's statistics that are tried."""


def blended(model: Model, target: Model, share: float) -> Model:
    """A model with a weighted mean of two models' statistics.

    Parameters
    ----------
    model
        The model with the source's statistics; its weights are used.
    target
        The same model with the target's statistics.
    share
        Weight of the target's statistics, 0 to 1.

    Notes
    -----
    Schneider et al. 2020, NeurIPS 33, Eq. 2.
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
    """The source model with a weighted mean of the source's and the target's statistics.

    Of several weights, the one is used with which the model is most consistent on the target, see
    :func:`~tomadapt.learn.consistency.consistency`; no labels are needed.
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
        """Try every weight; the card records the consistency of each."""
        self.source_model.require_matching(target, "the target")
        fabric = self.fabric or make_fabric()
        whole = with_statistics(self.source_model, "target", target, fabric)
        tried = {share: blended(self.source_model, whole, share) for share in TARGET_SHARES}
        signs = {share: consistency(m, target, fabric=fabric) for share, m in tried.items()}
        best = max(TARGET_SHARES, key=lambda share: signs[share])
        options = {"share": best, "consistency": {f"{k:g}": round(v, 4) for k, v in signs.items()}}
        training = adapted_training(self.source_model, target, options=options, history=[])
        return Adaptation(tried[best].copy(method=self.name, training=training))
