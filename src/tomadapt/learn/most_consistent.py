"""For targets whose structures are not known: adapt in several ways, use the most consistent.

Statistics are blended as far as the target bears it; 3D-ADA starts from a source whose classes are
as frequent as the blended model finds them in the target, or it would move particles between
classes until they were. Which of them is used is decided without labels.
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
    """A source whose classes are as frequent as a model finds them in the target.

    Parameters
    ----------
    source
        With equally frequent classes.
    model
        That suits the target so far.
    target
        No labels are used.
    fabric
        Device and precision.

    Returns
    -------
    source
        Particles of each class as often as in the target.
    proportions
        (classes,) as estimated.
    """
    found = estimate_proportions(predict(model, target, fabric=fabric).probabilities)
    return with_proportions(source, found), found


@dataclass(frozen=True)
class MostConsistent:
    """Partial statistics, or 3D-ADA where its answers are more consistent.

    Attributes
    ----------
    source_model
        Left as it is.
    options
        Of 3D-ADA.
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
        """Adapt, compare, and choose; the card says how consistent each is."""
        fabric = self.fabric or make_fabric()
        partial = PartialStatistics(self.source_model, fabric).fit(source, target).model
        alike, _ = as_in_target(source, partial, target, fabric)
        adversarial = AdversarialAdaptation(self.source_model, self.options, fabric)
        adapted = adversarial.fit(alike, target, checkpoint=checkpoint, on_epoch=on_epoch)
        models = {"partial_statistics": partial, "ada": adapted.model}
        signs = {name: consistency(m, target, fabric=fabric) for name, m in models.items()}
        best = max(models, key=lambda name: signs[name])
        chosen = {"chosen": best, "consistency": {k: round(v, 4) for k, v in signs.items()}}
        training = models[best].card.training | {"most_consistent": chosen}
        model = models[best].copy(method=self.name, training=training)
        return Adaptation(model, adapted.history, adapted.warning if best == "ada" else None)
