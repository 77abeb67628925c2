"""The task of Figures 8 and 9: a target with an unseen class is clustered, scored and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.errors import ConfigError
from tomadapt.experiments.models import AdaptTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.task import Task
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.prediction import predict
from tomadapt.recover.averages import AveragedClass
from tomadapt.recover.clusters import ClusterOptions, best_cluster_f1, cluster
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.discover import (
    DiscoveryOptions,
    FoundCluster,
    cluster_names,
    discover,
    embed_target,
)
from tomadapt.recover.recording import measured_points
from tomadapt.recover.unknown import auroc, unknown_scores
from tomadapt.simulate.dataset import make_templates


class NovelTask(Task):
    """Structures discovered with the features from before or after adaptation, held to the truth.

    Parameters
    ----------
    adapted
        An adaptation whose source and target both lack one class.
    when
        Whose features: the source model's or the adapted one's.
    options
        How to discover.
    """

    kind: Literal["novel"] = "novel"
    adapted: AdaptTask
    when: Literal["before", "after"]
    options: DiscoveryOptions

    @property
    def requires(self) -> Sequence[Task]:
        """The adaptation."""
        return (self.adapted,)

    def check(self) -> None:
        """Refuse a target that does not lack just one class of a simulated set.

        Raises
        ------
        ConfigError
            Naming what it lacks.
        """
        self._unseen()

    def _unseen(self) -> tuple[Particles, str]:
        """The adaptation's target, and the class it lacks."""
        seen = self.adapted.target
        without = seen.without if isinstance(seen, Particles) else ()
        if not isinstance(seen, Particles) or len(without) != 1:
            raise ConfigError(
                "a novel structure is looked for in a simulated set adapted to without it",
                expected="one class left out",
                got=", ".join(without) or "none",
                remedy="adapt without one class",
            )
        return seen, without[0]

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Discover without labels, then evaluate with them."""
        seen, novel = self._unseen()
        target = seen.made.open(store, snr=seen.snr)
        templates = make_templates(seen.made.simulation)
        source, _ = self.adapted.source_model.data.open(store)
        before = self.adapted.source_model.model(store)
        model = before if self.when == "before" else self.adapted.model(store)
        embedding = embed_target(before, model, source, target.unlabelled())
        groups = cluster(embedding.features, self.options.clusters)
        found, averages = discover(
            embedding,
            groups,
            points=measured_points(target, device=make_fabric().device),
            known={name: volume for name, volume in templates.items() if name != novel},
            out=folder / "found",
            options=self.options,
        )
        is_novel = target.labels == target.class_names.index(novel)
        by_class = ClusterOptions(count=len(target.class_names))
        known = predict(before, source).features
        mahalanobis = unknown_scores(embedding.features, known, source.labels, kind="mahalanobis")
        return {
            "n": len(target),
            "left_out": novel,
            "clusters": self.options.clusters.count,
            "f1_paper": best_cluster_f1(groups, is_novel)[0],
            "f1_classes": best_cluster_f1(cluster(embedding.features, by_class), is_novel)[0],
            "auroc_neighbours": auroc(embedding.unknown, is_novel),
            "auroc_mahalanobis": auroc(mahalanobis, is_novel),
            **recovered(target, groups, found, averages, templates),
        }


def recovered(
    target: LabelledSubtomograms,
    groups: NDArray[np.int64],
    found: Sequence[FoundCluster],
    averages: Sequence[AveragedClass],
    templates: Mapping[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """What each cluster is in truth, and how far its map is from that structure.

    Returns
    -------
    dict
        ``found``: for each cluster the class that most of its particles are of, their share, its
        size, whether it was called a candidate, and its structural discrepancy from that class in
        nm (None where there is no map, or no structure: the noise class). ``best_nm``: for each
        class the least discrepancy among the three maps that correlate best with it.
    """
    truths = {
        name: MapComparison(density, voxel_size_A=target.voxel_size_A)
        for name, density in templates.items()
    }
    names = np.array(cluster_names(groups))
    maps = {one.name: one.result.volume for one in averages if one.result is not None}
    rows = []
    for one in found:
        members = np.bincount(target.labels[names == one.name])
        majority = target.class_names[members.argmax()]
        known = one.name in maps and majority in truths
        nm = truths[majority](maps[one.name]).discrepancy_nm if known else None
        rows.append(
            {
                "majority": majority,
                "share": round(float(members.max() / members.sum()), 3),
                "particles": one.particles,
                "candidate": one.candidate,
                "discrepancy_nm": None if nm is None else round(nm, 3),
            }
        )
    best, volumes = {}, list(maps.values())
    for name, truth in truths.items():
        likest = np.argsort(-truth.correlations(volumes))[:3]
        best[name] = round(min(truth(volumes[i]).discrepancy_nm for i in likest), 3)
    return {"found": rows, "best_nm": best}
