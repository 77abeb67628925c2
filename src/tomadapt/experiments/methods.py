"""Every adaptation method by the name that records and tables use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tomadapt.learn.adversarial import AdversarialAdaptation, AdversarialOptions
from tomadapt.learn.correspondence import CorrespondenceOptions, StructuralCorrespondence
from tomadapt.learn.importance import ImportanceEstimation, ImportanceOptions
from tomadapt.learn.method import AdaptationMethod, SourceOnly
from tomadapt.learn.model import Model
from tomadapt.learn.statistics import TargetStatistics

MethodOptions = AdversarialOptions | ImportanceOptions | CorrespondenceOptions

METHODS: dict[str, Callable[[Model, Any], AdaptationMethod]] = {
    "source_only": lambda model, _: SourceOnly(model),
    "target_statistics": lambda model, _: TargetStatistics(model),
    "ie": ImportanceEstimation,
    "sc": StructuralCorrespondence,
    "ada": AdversarialAdaptation,
    "ada_paper_recipe": lambda model, options: AdversarialAdaptation(
        model, options, fall_back=False, name="ada_paper_recipe"
    ),
}
"""Name → maker from a source model and options. (The oracle is no method: it needs labels.)"""
