"""The interface of all adaptation methods, and the method that does nothing.

A method is made from a source model and options; ``fit(source, target)`` returns an adapted model.
The type of the target has no labels.
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
    """The result of a method.

    Attributes
    ----------
    model
        The model to predict the target with.
    history
        One record per epoch, of measures that need no labels.
    warning
        Set when the method found its own result unreliable: the reason, and which model was
        returned instead, if any.
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
    """The card's ``training`` of an adapted model: that of the source model, and the adaptation."""
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
        """The method's name in records."""

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Adapt; the source model given to the method is not changed."""


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
        """Return the source model, after checking that the target fits it."""
        self.source_model.require_matching(target, "the target")
        return Adaptation(self.source_model)
