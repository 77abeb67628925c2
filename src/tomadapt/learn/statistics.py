"""Normalisation statistics re-estimated on the target (AdaBN, Li et al. 2016): no training.

Batch normalisation carries means and variances of the source into the target, where they are
wrong. A network without such layers is left as it is.
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

from tomadapt.learn.engine import make_fabric, to_network
from tomadapt.learn.method import Adaptation, adapted_training
from tomadapt.learn.model import Model
from tomadapt.learn.source import EpochReport
from tomadapt.subtomograms import LabelledSubtomograms, Subtomograms

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
