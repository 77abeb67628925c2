"""Fills a report's content from models, sets and predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import Prediction, predict
from tomadapt.report.content import Domain, Evaluation, ReportContent
from tomadapt.runs.versions import versions

EXAMPLES, UNLABELLED_EXAMPLES = 3, 16
"""Slices shown of each class, and of a target without classes."""


def describe_domain(title: str, data: Subtomograms) -> Domain:
    """Introduce a domain: its acquisition, SNRs and some central slices of each class."""
    groups, shown = {"unlabelled": np.arange(len(data))}, UNLABELLED_EXAMPLES
    if isinstance(data, LabelledSubtomograms):
        shown = EXAMPLES
        groups = {
            name: np.flatnonzero(data.labels == label)
            for label, name in enumerate(data.class_names)
        }
    examples = {
        name: data.read(rows[:shown])[:, data.box // 2].numpy()
        for name, rows in groups.items()
        if len(rows)
    }
    mixable = data.source.mixable
    ratio = None if mixable is None else mixable.before_ctf_ratio
    return Domain(
        title=title,
        n_particles=len(data),
        box=data.box,
        voxel_size_A=data.voxel_size_A,
        acquisition=data.acquisition,
        snr=data.snr,
        snr_before_ctf=None if data.snr is None or ratio is None else data.snr * ratio,
        examples=examples,
    )


def evaluate(models: dict[str, Model], data: Subtomograms) -> Evaluation:
    """Predict some particles with each model."""
    labels = data.labels if isinstance(data, LabelledSubtomograms) else None
    predictions: dict[str, Prediction] = {name: predict(m, data) for name, m in models.items()}
    return Evaluation(predictions, labels)


def report_content(
    source_model: Model,
    adapted_model: Model,
    *,
    source: LabelledSubtomograms,
    target: Subtomograms,
    evaluations: tuple[Evaluation, Evaluation | None],
    source_held_out: tuple[float, int] | None = None,
    title: str = "tomadapt report",
    provenance: dict[str, Any] | None = None,
) -> ReportContent:
    """Put a report's content together.

    Parameters
    ----------
    source_model, adapted_model
        Before and after; their cards carry the training histories.
    source, target
        The two domains' particles.
    evaluations
        Of target particles that adaptation saw, and of held-out ones (None where there are none).
    source_held_out
        Accuracy and number of held-out source particles.
    title, provenance
        Printed as they are; ``provenance["seconds"]`` are the stages' wall times.
    """
    extra = dict(provenance or {})
    training = adapted_model.card.training
    return ReportContent(
        title=title,
        class_names=source_model.card.class_names,
        source=describe_domain("source", source),
        target=describe_domain("target", target),
        source_history=training.get("history", []),
        # Other methods' records have no opponents to draw.
        adaptation_history=[
            record
            for record in training.get("adaptation_history", [])
            if "discriminator_accuracy" in record
        ],
        source_held_out=source_held_out,
        transductive=evaluations[0],
        held_out=evaluations[1],
        warning=training.get("adaptation_warning"),
        seconds=extra.pop("seconds", {}),
        provenance={
            **{key: training[key] for key in ("source", "adaptation") if key in training},
            "versions": versions(),
            **extra,
        },
    )
