"""Adaptation in two ways, of which the more consistent model is used; no labels are needed.

The first is partial re-estimation of normalisation statistics. The second is 3D-ADA from a source
whose class frequencies are those that the first model finds in the target. (With other frequencies,
3D-ADA would move particles between classes until they matched.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.adversarial import AdversarialAdaptation, AdversarialOptions
from tomadapt.learn.consistency import consistency
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.method import Adaptation
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.learn.proportions import estimate_proportions, with_proportions
from tomadapt.learn.source import EpochReport
from tomadapt.learn.statistics import PartialStatistics


def as_in_target(
    source: LabelledSubtomograms, model: Model, target: Subtomograms, fabric: Fabric
) -> tuple[LabelledSubtomograms, NDArray[np.float64]]:
    """A source with the class frequencies that a model finds in the target.

    Parameters
    ----------
    source
        Particles with equally frequent classes.
    model
        A model whose predictions of the target are used.
    target
        Particles of the target, without labels.
    fabric
        Device and precision.

    Returns
    -------
    source
        A subset with these class frequencies.
    proportions
        (classes,) the estimated frequencies.
    """
    found = estimate_proportions(predict(model, target, fabric=fabric).probabilities)
    return with_proportions(source, found), found


@dataclass(frozen=True)
class MostConsistent:
    """Partial statistics, or 3D-ADA when its predictions are more consistent.

    Attributes
    ----------
    source_model
        F_s and C; neither is changed.
    options
        Options of 3D-ADA.
    fabric
        Device and precision.
    """

    source_model: Model
    options: AdversarialOptions
    fabric: Fabric | None = None
    name: str = "most_consistent"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Adapt in both ways and choose; the card records how consistent each model is."""
        fabric = self.fabric or make_fabric()
        partial = PartialStatistics(self.source_model, fabric).fit(source, target).model
        matched, _ = as_in_target(source, partial, target, fabric)
        adversarial = AdversarialAdaptation(self.source_model, self.options, fabric)
        adapted = adversarial.fit(matched, target, checkpoint=checkpoint, on_epoch=on_epoch)
        models = {"partial_statistics": partial, "ada": adapted.model}
        signs = {name: consistency(m, target, fabric=fabric) for name, m in models.items()}
        best = max(models, key=lambda name: signs[name])
        chosen = {"chosen": best, "consistency": {k: round(v, 4) for k, v in signs.items()}}
        training = models[best].card.training | {"most_consistent": chosen}
        model = models[best].copy(method=self.name, training=training)
        return Adaptation(model, adapted.history, adapted.warning if best == "ada" else None)
