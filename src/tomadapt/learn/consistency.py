"""Consistency of a model's predictions under augmentation: a measure that needs no labels.

A particle that is turned about the tilt axis and shifted a little is still the same particle. A
model whose normalisation or features do not fit the target predicts different classes for both; a
model that has collapsed predicts one class for all particles. In both cases the mutual information
of the two predictions is low, whatever the class frequencies are (Ji, Henriques & Vedaldi 2019,
ICCV, section 3.1).
"""

from __future__ import annotations

import math

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.learn.augmentation import half_turns
from tomadapt.learn.model import Model
from tomadapt.learn.turned import turned_probabilities

MAX_PARTICLES = 600
_TURNS = ((1, 0), (0, 1), (1, 1))
_MIN_PROBABILITY = 1e-12


def consistency(model: Model, target: Subtomograms, *, fabric: Fabric) -> float:
    """Mutual information of predictions for particles and for the same particles augmented.

    Parameters
    ----------
    model
        The model.
    target
        The particles; a subset spread over all of them is used when there are many.
    fabric
        Device and precision.

    Returns
    -------
    float
        In nats, from 0 to the entropy of the predicted classes.
    """
    rows = np.arange(0, len(target), math.ceil(len(target) / MAX_PARTICLES))
    some = target.subset(rows)
    turns = half_turns(target.acquisition or model.card.acquisition)
    rng = np.random.default_rng(0)
    still = np.zeros((len(rows), 2), dtype=np.int64), np.zeros((len(rows), 3), dtype=np.int64)
    first = turned_probabilities(model, some, *still, turns=turns, fabric=fabric)
    joint = np.zeros((first.shape[1], first.shape[1]))
    for bits in _TURNS:
        flips = np.tile(bits, (len(rows), 1))
        shifts = rng.integers(-2, 3, (len(rows), 3))
        joint += first.T @ turned_probabilities(
            model, some, flips, shifts, turns=turns, fabric=fabric
        )
    return mutual_information(joint)


def mutual_information(joint: NDArray[np.floating]) -> float:
    """Mutual information of two classifications, in nats.

    Parameters
    ----------
    joint
        (c, c) how often each pair of classes occurs together, on any scale; it is symmetrised.
    """
    p = np.asarray(joint + joint.T, dtype=np.float64)
    p /= p.sum()
    alone = p.sum(axis=1)
    expected = np.outer(alone, alone)
    return float((p * np.log((p + _MIN_PROBABILITY) / (expected + _MIN_PROBABILITY))).sum())
