"""What a report shows, as plain data: whoever ran the stages fills it in, the pages draw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.learn.prediction import Prediction


@dataclass(frozen=True)
class Domain:
    """One domain as the report introduces it.

    Attributes
    ----------
    title
        For example ``source: batch_b``.
    n_particles, box, voxel_size_A
        Of its set (voxels; Å).
    acquisition
        How it was recorded; None where unknown.
    snr, snr_before_ctf
        As stated, and against the projections before the CTF; None where unknown.
    examples
        Class name → (k, d, d) central x–y slices; the only key is ``unlabelled`` where there are
        no labels.
    named_by_model
        Whether classes of the examples are what a model predicts.
    """

    title: str
    n_particles: int
    box: int
    voxel_size_A: float
    acquisition: Acquisition | None
    snr: float | None
    snr_before_ctf: float | None
    examples: dict[str, NDArray[np.float32]]
    named_by_model: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Some target particles as each model labels them.

    Attributes
    ----------
    predictions
        Method name → what it predicts. ``source_only`` and the adaptation method (``ada``) are
        always there; ``target_statistics`` may be.
    labels
        (n,) true classes; None where they are unknown.
    title
        What to call these particles, where it is not what their place in the report says.
    """

    predictions: dict[str, Prediction]
    labels: NDArray[np.int64] | None
    title: str | None = None


@dataclass(frozen=True)
class ReportContent:
    """Everything in a report.

    Attributes
    ----------
    title
        Heading of the page.
    class_names
        The classes in order.
    source, target
        The two domains.
    source_history
        A record an epoch: ``epoch, loss, accuracy, validation_accuracy``.
    adaptation_history
        A record an epoch: ``epoch, discriminator_loss, discriminator_accuracy, feature_loss,
        effective_classes``.
    source_held_out
        (accuracy, number of particles) of the source model on source particles it never saw.
    transductive
        The target particles that adaptation saw (without labels).
    held_out
        Target particles it never saw; None where there are none.
    warning
        What the adaptation method said against its own result.
    recording
        What was found out about the tomogram, row by row; empty where there was none.
    assumed
        Decision → the sentence that says what it rests on; empty where there was no tomogram.
    further_warnings
        What else should be doubted.
    seconds
        Wall time of each stage.
    provenance
        Seed, versions, configuration: printed as they are.
    """

    title: str
    class_names: tuple[str, ...]
    source: Domain
    target: Domain
    source_history: list[dict[str, float]]
    adaptation_history: list[dict[str, float]]
    source_held_out: tuple[float, int] | None
    transductive: Evaluation
    held_out: Evaluation | None
    warning: str | None = None
    recording: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    further_warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
