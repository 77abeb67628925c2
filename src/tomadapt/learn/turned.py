"""Predictions for rotated and shifted particles, and their mean over all half-turns.

A network is trained to predict the same class for a particle and its half-turns, but does so only
approximately. The mean over half-turns is right more often than a single prediction (test-time
augmentation).
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.learn.augmentation import half_turns, turn_and_shift
from tomadapt.learn.calibration import normalised
from tomadapt.learn.engine import to_network
from tomadapt.learn.model import Model

_BATCH = 64
_MIN_PROBABILITY = 1e-12


def turned_probabilities(
    model: Model,
    data: Subtomograms,
    flips: NDArray[np.integer],
    shifts: NDArray[np.integer],
    *,
    turns: tuple[bool, bool],
    fabric: Fabric,
) -> NDArray[np.float64]:
    """Class probabilities (n, classes) of particles that are rotated and shifted.

    Parameters
    ----------
    model, data
        The model and n particles.
    flips, shifts, turns
        See :func:`~tomadapt.learn.augmentation.turn_and_shift`.
    fabric
        Device and precision.
    """
    extractor = model.extractor.to(fabric.device).eval()
    head = model.classifier.to(fabric.device).eval()
    found = []
    with torch.inference_mode(), fabric.autocast():
        for first in range(0, len(data), _BATCH):
            part = np.arange(first, min(first + _BATCH, len(data)))
            seen = turn_and_shift(data.read(part), flips[part], shifts[part], turns=turns)
            found.append(head(extractor(to_network(seen, fabric))).float().softmax(dim=1).cpu())
    return torch.cat(found).double().numpy()


def over_half_turns(model: Model, data: Subtomograms, *, fabric: Fabric) -> NDArray[np.float64]:
    """Geometric mean (n, classes) of class probabilities over all allowed half-turns.

    When neither data nor model know the acquisition, only the half-turn about y is allowed, see
    :func:`~tomadapt.learn.augmentation.half_turns`.

    Parameters
    ----------
    model, data
        The model and n particles.
    fabric
        Device and precision.
    """
    turns = half_turns(data.acquisition or model.card.acquisition)
    still = np.zeros((len(data), 3), dtype=np.int64)
    of_turns = [
        turned_probabilities(
            model, data, np.tile(bits, (len(data), 1)), still, turns=turns, fabric=fabric
        )
        for bits in itertools.product(*((0, 1) if allowed else (0,) for allowed in turns))
    ]
    return normalised(np.mean([np.log(np.maximum(p, _MIN_PROBABILITY)) for p in of_turns], axis=0))
