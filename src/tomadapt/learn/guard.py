"""Detection of collapse after adversarial training, without labels, and the choice of a fallback.

Adversarial training may map all target particles onto few classes, or exchange classes, while both
losses look normal. Each sign below detects one of these failures.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.learn.statistics import TargetStatistics, re_estimate_statistics
from tomadapt.metrics import effective_classes, kappa, recall_per_class

Candidate = Literal["ada", "target_statistics", "source_only"]

MIN_EFFECTIVE_CLASS_RATIO = 0.5
"""Least ratio of (effective classes − 1) to that of the safer model's predictions."""
MIN_KAPPA = 0.1
"""Least Cohen's kappa with the safer model's labels; unrelated labels have a kappa of 0."""
MIN_SOURCE_ACCURACY_RATIO = 0.5
"""Least ratio of the accuracy above chance on source particles to that of the source model."""
MIN_SOURCE_PROBABILITY = 0.25
"""D counts as fooled when it gives target particles at least this probability of being source
particles (geometric mean). It is 0.5 when D can only guess."""
MIN_KAPPA_IF_D_NOT_FOOLED = 0.7
"""Least Cohen's kappa with the safer model's labels when D is not fooled. With a lower kappa many
labels changed although the domains are still apart, so training went wrong. With a higher one the
adaptation is merely unfinished."""

MAX_SOURCE_PARTICLES = 1000


@dataclass(frozen=True)
class Signs:
    """Measures of a model from which a collapse is seen, without labels of the target.

    Attributes
    ----------
    effective_classes
        ``exp`` of the entropy of the histogram of predicted classes.
    mean_confidence
        Mean probability of the predicted class.
    agreement
        Cohen's kappa of its labels with those of the model with re-estimated statistics.
    source_accuracy
        Mean over the classes of the accuracy on source particles, with normalisation statistics
        re-estimated on them. As a mean over classes, it has the same chance level for a source
        of unequal classes.
    taken_for_source
        Geometric mean of the probability of being a source particle that D gives target particles;
        None for models that were not trained against a D.
    """

    effective_classes: float
    mean_confidence: float
    agreement: float
    source_accuracy: float
    taken_for_source: float | None = None


@dataclass(frozen=True)
class Choice:
    """The model that is used, and the reasons against those that were rejected.

    Attributes
    ----------
    name, model
        The candidate that is used.
    signs
        Measures of all candidates.
    objections
        Reasons against each rejected candidate.
    """

    name: Candidate
    model: Model
    signs: dict[Candidate, Signs]
    objections: dict[Candidate, tuple[str, ...]]

    def record(self) -> dict[str, object]:
        """The choice as plain data, for model cards and reports."""
        return {
            "chosen": self.name,
            "signs": {name: asdict(signs) for name, signs in self.signs.items()},
            "objections": {name: list(texts) for name, texts in self.objections.items()},
        }


def choose(
    source_model: Model,
    adapted: Model,
    source: LabelledSubtomograms,
    target: Subtomograms,
    *,
    feature_loss: float,
    fabric: Fabric,
) -> Choice:
    """Choose between the adapted model, re-estimated statistics alone, and the source model.

    Parameters
    ----------
    source_model, adapted
        The models before and after adversarial training.
    source, target
        Particles of the two domains; no labels of the target are used.
    feature_loss
        Eq. 1 in the last epoch: −log of the probability of being a source particle that D gives
        target particles.
    fabric
        Device and precision.

    Returns
    -------
    Choice
        The first of ``ada``, ``target_statistics``, ``source_only`` without objections.
    """
    statistics = TargetStatistics(source_model, fabric).fit(source, target).model
    candidates: dict[Candidate, Model] = {
        "ada": adapted,
        "target_statistics": statistics,
        "source_only": source_model,
    }
    some = _sample(source)
    reference = predict(statistics, target, fabric=fabric).labels
    signs: dict[Candidate, Signs] = {
        name: _signs(model, some, target, reference=reference, fabric=fabric)
        for name, model in candidates.items()
    }
    signs["ada"] = replace(signs["ada"], taken_for_source=math.exp(-feature_loss))
    chance = 1 / len(source_model.card.class_names)
    objections: dict[Candidate, tuple[str, ...]] = {}
    for name, safer in itertools.pairwise(candidates):  # each with the next safer one
        against = _objections(signs[name], signs[safer], signs["source_only"], chance)
        if not against:
            return Choice(name, candidates[name], signs, objections)
        objections[name] = against
    return Choice("source_only", source_model, signs, objections)


def _sample(source: LabelledSubtomograms) -> LabelledSubtomograms:
    """At most :data:`MAX_SOURCE_PARTICLES`, spread over the whole set."""
    step = max(1, math.ceil(len(source) / MAX_SOURCE_PARTICLES))
    return source.subset(np.arange(0, len(source), step))


def _signs(
    model: Model,
    source: LabelledSubtomograms,
    target: Subtomograms,
    *,
    reference: NDArray[np.int64],
    fabric: Fabric,
) -> Signs:
    prediction = predict(model, target, fabric=fabric)
    n_classes = len(model.card.class_names)
    on_source = model.copy()
    on_source.extractor.to(fabric.device)
    re_estimate_statistics(on_source.extractor, source.unlabelled(), fabric)
    return Signs(
        effective_classes=effective_classes(prediction.labels, n_classes),
        mean_confidence=float(prediction.confidence.mean()),
        agreement=kappa(prediction.labels, reference, n_classes),
        source_accuracy=_mean_recall(on_source, source, fabric),
    )


def _mean_recall(model: Model, source: LabelledSubtomograms, fabric: Fabric) -> float:
    """Accuracy as a mean over classes: predicting one class only gives the chance level."""
    labels = predict(model, source, fabric=fabric).labels
    return float(np.nanmean(recall_per_class(labels, source.labels, len(source.class_names))))


def _objections(signs: Signs, safer: Signs, before: Signs, chance: float) -> tuple[str, ...]:
    """Reasons against a model, from comparison with the safer one and the source model."""
    against = []
    if signs.effective_classes - 1 < MIN_EFFECTIVE_CLASS_RATIO * (safer.effective_classes - 1):
        against.append(
            f"its predictions use {signs.effective_classes:.1f} effective classes, "
            f"those of the safer model {safer.effective_classes:.1f}"
        )
    # Only for ADA: across a large domain gap, re-estimated statistics may rightly disagree as much
    # with the source model.
    if signs.taken_for_source is not None and signs.agreement < MIN_KAPPA:
        against.append(
            "its labels agree with those after re-estimated statistics hardly better than by "
            f"chance (kappa {signs.agreement:.2f})"
        )
    kept = MIN_SOURCE_ACCURACY_RATIO * (before.source_accuracy - chance)
    if signs.source_accuracy - chance < kept:
        against.append(
            f"it names {signs.source_accuracy:.0%} of source particles right, "
            f"the source model {before.source_accuracy:.0%}"
        )
    not_fooled = (
        signs.taken_for_source is not None and signs.taken_for_source < MIN_SOURCE_PROBABILITY
    )
    if not_fooled and signs.agreement < MIN_KAPPA_IF_D_NOT_FOOLED:
        against.append(
            "many labels changed though the discriminator still tells its target features from "
            f"source features (taken for source with probability {signs.taken_for_source:.2f}, "
            f"0.5 if alike; kappa {signs.agreement:.2f})"
        )
    return tuple(against)
