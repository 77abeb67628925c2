"""The task of Figure 7: each class of a target averaged by predicted or true labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.experiments.models import AdaptTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.task import Task
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.prediction import predict
from tomadapt.recover.average import AveragingOptions
from tomadapt.recover.averages import AveragedClass, average_classes
from tomadapt.recover.compare import Comparison, MapComparison
from tomadapt.recover.recording import measured_points
from tomadapt.simulate.dataset import make_templates


class RecoveredTask(Task):
    """Averages by one set of labels.

    Parameters
    ----------
    adapted
        The adaptation; its target is what is averaged.
    labels
        The source model's, the adapted model's, or the true ones.
    averaging
        How to average.
    """

    kind: Literal["recovered"] = "recovered"
    adapted: AdaptTask
    labels: Literal["before", "after", "truth"]
    averaging: AveragingOptions

    @property
    def requires(self) -> Sequence[Task]:
        """The adaptation."""
        return (self.adapted,)

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Label, average, and compare each map with the true structure."""
        rows = []
        for one, compared, right in self.recovered(store):
            row: dict[str, Any] = {"class": one.name, "particles": one.particles, "right": right}
            if compared is not None:
                row |= {"discrepancy_nm": compared.discrepancy_nm}
                row |= {"correlation": compared.correlation}
            rows.append(row | {k: v for k, v in one.record.items() if k.startswith("resolution")})
        return {"classes": rows}

    def recovered(self, store: Path) -> list[tuple[AveragedClass, Comparison | None, int]]:
        """Each class, its map beside the true one, and how many of its particles are of it.

        What was averaged before is read from the task's folder.
        """
        particles, _ = self.adapted.target.open(store)
        found = particles.labels
        if self.labels != "truth":
            before = self.labels == "before"
            model = self.adapted.source_model.model(store) if before else self.adapted.model(store)
            found = predict(model, particles.unlabelled()).labels
        names = np.array(particles.class_names)
        done = average_classes(
            particles.unlabelled(),
            names[found].tolist(),
            measured_points(particles, device=make_fabric().device),
            self.averaging,
            store / self.key / "averages",
        )
        truths = self.truths()
        recovered = []
        for one in done:
            right = int((found == particles.labels)[names[found] == one.name].sum())
            compared = None
            if one.result is not None:
                comparison = MapComparison(truths[one.name], voxel_size_A=particles.voxel_size_A)
                compared = comparison(one.result.volume)
            recovered.append((one, compared, right))
        return recovered

    def truths(self) -> dict[str, NDArray[np.float32]]:
        """The true structures, class → (n, n, n)."""
        assert isinstance(self.adapted.target, Particles)
        return make_templates(self.adapted.target.made.simulation)
