"""Particles labelled by networks: the source model, re-estimated statistics, and adaptation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.classify.matched_source import MatchedSource
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import MismatchError
from tomadapt.inputs.particles import inverted
from tomadapt.learn.adversarial import AdversarialAdaptation, AdversarialOptions
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import Prediction, predict
from tomadapt.learn.proportions import corrected, estimate_proportions, with_proportions
from tomadapt.learn.statistics import TargetStatistics
from tomadapt.runs.stages import StageClock
from tomadapt.workflows.models import adapted_model


@dataclass(frozen=True, eq=False)
class NetworkLabels:
    """What networks say of some particles.

    Attributes
    ----------
    predictions
        ``source_only``, ``target_statistics`` and ``ada`` → what each predicts.
    proportions
        (classes,) as estimated after adaptation; what ``ada`` predicts is corrected for them.
    adapted
        The adapted model.
    preference
        By how much the source model is surer of the particles than of them inverted; 0 where they
        cannot be inverted.
    """

    predictions: dict[str, Prediction]
    proportions: NDArray[np.float64]
    adapted: Model
    preference: float


def predict_by_networks(
    source: MatchedSource,
    target: Subtomograms,
    adapt: AdversarialOptions,
    out: Path,
    *,
    fabric: Fabric,
    clock: StageClock,
) -> NetworkLabels:
    """Adapt the source model to particles and predict them, with and without adaptation.

    Parameters
    ----------
    source
        Its labelled particles and its model.
    target
        The particles.
    adapt
        Options of Algorithm 1; the seed is the source model's.
    out
        Where the adapted model is kept.
    fabric, clock
        Device and precision; the run's stages.

    Raises
    ------
    MismatchError
        When the adapted model in ``out`` came from another source model.
    """
    with clock.stage("adapt"):
        method = AdversarialAdaptation(source.model, adapt, fabric)
        statistics = TargetStatistics(source.model, fabric).fit(source.data, target).model
        first = predict(statistics, target, fabric=fabric)
        proportions = estimate_proportions(first.probabilities)
        alike = with_proportions(source.data, proportions)
        adapted = adapted_model(out, method, alike, target)
        _require_adapted_from(source.model, adapted, out)
    with clock.stage("predict"):
        models = {"source_only": source.model, "target_statistics": statistics, "ada": adapted}
        predictions = {name: predict(m, target, fabric=fabric) for name, m in models.items()}
        found = predictions["ada"]
        settled = estimate_proportions(found.probabilities)
        predictions["ada"] = replace(found, probabilities=corrected(found.probabilities, settled))
        preference = 0.0
        if (other := inverted(target)) is not None:
            preference = _preferred_sign(source, other, predictions["target_statistics"], fabric)
    return NetworkLabels(predictions, settled, adapted, preference)


def _require_adapted_from(source: Model, adapted: Model, out: Path) -> None:
    """Refuse an adapted model of an earlier run whose source model was another one."""
    found = adapted.card.training.get("adapted_from")
    if found is not None and found != source.fingerprint:
        raise MismatchError(
            f"the model in {out} was adapted from another source model",
            expected="the source model that structures and options give now",
            got="one of other densities, or of another version",
            remedy="choose another --out, or delete that folder",
        )


def _preferred_sign(
    source: MatchedSource, other: Subtomograms, upright: Prediction, fabric: Fabric
) -> float:
    """By how much the source model is surer of the particles as they are than of them inverted.

    Mean probability of the class that it names, with statistics re-estimated on either.
    """
    model = TargetStatistics(source.model, fabric).fit(source.data, other).model
    turned = predict(model, other, fabric=fabric)
    return float(np.mean(upright.confidence) - np.mean(turned.confidence))
