"""All adaptation methods by the names that commands, records and tables use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_fabric import Fabric

from tomadapt.learn.adversarial import (
    DEFAULT_RECIPE,
    PAPER_RECIPE,
    AdversarialAdaptation,
    AdversarialOptions,
)
from tomadapt.learn.baselines.correspondence import CorrespondenceOptions, StructuralCorrespondence
from tomadapt.learn.baselines.importance import ImportanceEstimation, ImportanceOptions
from tomadapt.learn.method import AdaptationMethod, SourceOnly
from tomadapt.learn.model import Model
from tomadapt.learn.most_consistent import MostConsistent
from tomadapt.learn.statistics import PartialStatistics, TargetStatistics

MethodOptions = AdversarialOptions | ImportanceOptions | CorrespondenceOptions

METHODS: dict[str, Callable[[Model, Any, Fabric | None], AdaptationMethod]] = {
    "source_only": lambda model, _, __: SourceOnly(model),
    "target_statistics": lambda model, _, fabric: TargetStatistics(model, fabric),
    "partial_statistics": lambda model, _, fabric: PartialStatistics(model, fabric),
    "ie": ImportanceEstimation,
    "sc": StructuralCorrespondence,
    "ie_target_statistics": ImportanceEstimation,
    "sc_target_statistics": StructuralCorrespondence,
    "ada": AdversarialAdaptation,
    "most_consistent": MostConsistent,
    # The literal recipe is to be measured, so its result is kept even after a collapse.
    "ada_paper_recipe": lambda model, options, fabric: AdversarialAdaptation(
        model, options, fabric, fall_back=False
    ),
}
"""Name → function that makes the method from a source model, options and a fabric."""

_OPTIONS: dict[str, MethodOptions] = {
    "ie": ImportanceOptions(),
    "sc": CorrespondenceOptions(),
    "ie_target_statistics": ImportanceOptions(statistics="target"),
    "sc_target_statistics": CorrespondenceOptions(statistics="target"),
    "ada": DEFAULT_RECIPE,
    "most_consistent": DEFAULT_RECIPE,
    "ada_paper_recipe": PAPER_RECIPE,
}


def default_options(method: str, *, seed: int) -> MethodOptions | None:
    """A method's default options with a seed; None for a method without options."""
    if method not in _OPTIONS:
        return None
    return with_seed(_OPTIONS[method], seed)


def with_seed(options: MethodOptions, seed: int) -> MethodOptions:
    """The same options with another seed; unchanged for a method without random draws."""
    has_seed = "seed" in type(options).model_fields
    return options.model_copy(update={"seed": seed}) if has_seed else options
