"""Figures 8 and 9: a class never seen, found among clusters of features and recovered.

The class is left out of both domains in training and adaptation; batch B at SNR 1000 is the source,
batch A at SNR 0.5 the target, all of whose particles are then clustered, and each cluster averaged.
The paper: structural discrepancy 5.42 ± 1.28 nm before and 5.17 ± 1.27 nm after 3D-ADA, of the
unseen class 4.84 and 4.19 nm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.errors import ConfigError
from tomadapt.experiments.figure8 import adapted_without
from tomadapt.experiments.models import AdaptTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import markdown, mean_sd, quotes_paper, select
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
from tomadapt.runs.atomic import write_text
from tomadapt.simulate.dataset import make_templates

CLUSTERS = 100
"""As in the paper; a quarter of the particles where they are few."""


def run(setting: Setting) -> list[Path]:
    """Discover structures before and after adaptation, with every seed."""
    out = setting.file("figure9.jsonl"), setting.file("figure9.md")
    tasks = [task for seed in range(setting.scale.seeds_marked) for task in plan(setting, seed)]
    rows: list[Row] = []
    for task, record in setting.run([tasks], "figure9"):
        if not isinstance(task, NovelTask):
            continue
        about: Row = {"experiment": "figure9", "scale": setting.scale.name, "when": task.when}
        about |= {"seed": task.adapted.source_model.training.seed, "run": task.key}
        kept = {k: v for k, v in record.items() if k not in ("key", "resumed", "machine")}
        rows.append(about | kept)
        rows.sort(key=lambda row: (row["seed"], row["when"] == "after"))
        write_rows(out[0], rows)
        if {row["when"] for row in rows} == {"before", "after"}:
            write_text(out[1], novel_table(rows, setting.scale.line))
    return list(out)


def plan(setting: Setting, seed: int) -> list[NovelTask]:
    """The two runs of a seed."""
    adapted, whole, _ = adapted_without(setting, seed)
    particles = whole.made.simulation
    count = min(CLUSTERS, particles.per_class * len(particles.classes) // 4)
    options = DiscoveryOptions(clusters=ClusterOptions(count=count))
    return [
        NovelTask(adapted=adapted, when="before", options=options),
        NovelTask(adapted=adapted, when="after", options=options),
    ]


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


WHEN = ("before", "after")
PAPER_NM = {"before": "5.42 ± 1.28", "after": "5.17 ± 1.27"}
PAPER_UNSEEN_NM = {"before": "4.84", "after": "4.19"}
MEASURES = {
    "f1_paper": "F1 of its best cluster, {clusters} clusters",
    "f1_classes": "F1 of its best cluster, as many clusters as classes",
    "auroc_neighbours": "AUROC as unknown, nearest neighbours",
    "auroc_mahalanobis": "AUROC as unknown, Mahalanobis",
}


def novel_table(records: Sequence[Row], line: str) -> str:
    """All tables as Markdown: means over seeds ± standard deviations."""
    novel, seeds = records[0]["left_out"], sorted({r["seed"] for r in records})
    lines = []
    for key, title in MEASURES.items():
        cells = [mean_sd([r[key] for r in select(records, when=when)]) for when in WHEN]
        lines.append([title.format(clusters=records[0]["clusters"]), *cells])
    text = (
        f"# Figures 8 and 9: a class left out of training and adaptation\n\nLeft out: {novel}. "
        f"{line}.\n\nSeeds {', '.join(map(str, seeds))}; mean ± standard deviation over seeds.\n\n"
    )
    text += markdown(["", "before 3D-ADA", "after"], lines)
    text += (
        "\nStructural discrepancy in nm: where the FSC between a recovered map and the true "
        "structure falls below 0.5. In brackets the paper's, whose ± is over maps.\n\n"
    )
    text += markdown(["maps", "before 3D-ADA", "after"], _of_all(records, novel))
    text += (
        "\nCandidates are the clusters that the program calls so, without labels. A class's "
        "clusters are those of whose particles most are of it; its best map is the one of least "
        "discrepancy among the three that correlate best with it.\n\n"
    )
    header = ["class", "its clusters, before", "after", "its best map, before", "after"]
    return text + markdown(header, [_of_class(records, n, novel) for n in records[0]["best_nm"]])


def _of_all(records: Sequence[Row], novel: str) -> list[list[str]]:
    """Rows over all clusters."""

    def row(
        title: str, value: Callable[[Row], float | None], paper: dict[str, str] | None = None
    ) -> list[str]:
        cells = []
        for when in WHEN:
            values = [v for r in select(records, when=when) if (v := value(r)) is not None]
            said = f" ({paper[when]})" if paper and quotes_paper(records) else ""
            cells.append(mean_sd(values, 2) + said)
        return [title, *cells]

    def is_novel(one: Row) -> bool:
        return bool(one["majority"] == novel)

    def count_of(of: Callable[[Row], bool]) -> Callable[[Row], float]:
        return lambda r: float(sum(of(one) for one in r["found"]))

    def has_map(one: Row) -> bool:
        return one["discrepancy_nm"] is not None

    def mean_of(of: Callable[[Row], bool]) -> Callable[[Row], float | None]:
        def mean(r: Row) -> float | None:
            found = [one["discrepancy_nm"] for one in r["found"] if of(one) and has_map(one)]
            return float(np.mean(found)) if found else None

        return mean

    def share(r: Row) -> float | None:
        called = [is_novel(one) for one in r["found"] if one["candidate"]]
        return float(np.mean(called)) if called else None

    return [
        row("all clusters, mean", mean_of(lambda _: True), PAPER_NM),
        row(f"clusters of {novel} (never seen), mean", mean_of(is_novel), PAPER_UNSEEN_NM),
        row(f"best map of {novel}", lambda r: float(r["best_nm"][novel])),
        row("best map of each class, mean", lambda r: float(np.mean([*r["best_nm"].values()]))),
        row("clusters with a map and a structure", count_of(has_map)),
        row(f"clusters of {novel}", count_of(is_novel)),
        row("candidates", count_of(lambda one: bool(one["candidate"]))),
        row(f"share of {novel} among candidates", share),
    ]


def _of_class(records: Sequence[Row], name: str, novel: str) -> list[str]:
    cells = [f"{name} (never seen)" if name == novel else name]
    for when in WHEN:
        found = [
            one["discrepancy_nm"]
            for r in select(records, when=when)
            for one in r["found"]
            if one["majority"] == name and one["discrepancy_nm"] is not None
        ]
        cells.append(f"{np.mean(found):.2f}" if found else "–")
    for when in WHEN:
        cells.append(mean_sd([r["best_nm"][name] for r in select(records, when=when)], 2))
    return cells
