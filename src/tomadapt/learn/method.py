"""The interface of every adaptation method, and the trivial one.

A method is made from a source model and its options; ``fit(source, target)`` returns an adapted
model. The target has no labels by its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.model import Model
from tomadapt.learn.source import EpochReport


@dataclass(frozen=True)
class Adaptation:
    """What a method gives back.

    Attributes
    ----------
    model
        To predict the target with.
    history
        One record an epoch, of label-free measures.
    warning
        Set when the method distrusts its own result; says why, and what it gave back instead, if
        anything.
    """

    model: Model
    history: list[dict[str, float]] = field(default_factory=list)
    warning: str | None = None


def adapted_training(
    source_model: Model,
    target: Subtomograms,
    *,
    options: Mapping[str, Any],
    history: list[dict[str, float]],
    warning: str | None = None,
) -> dict[str, Any]:
    """What the card of an adapted model says of its making, beside what the source model's says."""
    return source_model.card.training | {
        "adaptation": dict(options),
        "adaptation_history": history,
        "adaptation_warning": warning,
        "adapted_from": source_model.fingerprint,
        "adapted_to": target.fingerprint,
    }


class AdaptationMethod(Protocol):
    """Adapts a source model to an unlabelled target."""

    @property
    def name(self) -> str:
        """What records call it."""

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Adapt; the source model given to the method is left as it was."""


@dataclass(frozen=True)
class SourceOnly:
    """No adaptation: C(F_s(x))."""

    source_model: Model
    name: str = "source_only"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Give the source model back, after checking that the target fits it."""
        self.source_model.require_matching(target, "the target")
        return Adaptation(self.source_model)
