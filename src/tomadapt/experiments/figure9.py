"""Figures 8 and 9: a class never seen, found among clusters of features and recovered.

The class is left out of both domains in training and adaptation; batch B at SNR 1000 is the source,
batch A at SNR 0.5 the target, all of whose particles are then clustered, and each cluster averaged.
The paper: structural discrepancy 5.42 ± 1.28 nm before and 5.17 ± 1.27 nm after 3D-ADA, of the
unseen class 4.84 and 4.19 nm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.experiments.domains import Batches, Cell
from tomadapt.experiments.figure8 import NOVEL
from tomadapt.experiments.novel_table import novel_table
from tomadapt.experiments.records import Row, write_rows
from tomadapt.experiments.scales import Setting
from tomadapt.io.atomic import write_text
from tomadapt.prediction import predict
from tomadapt.recover.averages import average_classes
from tomadapt.recover.clusters import ClusterOptions, best_cluster_f1, cluster
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.discover import CLUSTER_AVERAGING
from tomadapt.recover.recording import measured_points
from tomadapt.recover.unknown import auroc, unknown_scores
from tomadapt.simulate.dataset import make_templates
from tomadapt.subtomograms import LabelledSubtomograms

AVERAGED_SEEDS = (0,)
"""Averages of all clusters are made with these seeds; the rest is measured with all."""


def run(setting: Setting) -> list[Path]:
    """Cluster, score and average the target's particles, before and after adaptation."""
    records: list[Row] = []
    out = setting.file("figure9.jsonl"), setting.file("figure9.md")
    for seed in range(setting.scale.seeds_marked):
        for record in _of_seed(setting, seed):
            records.append(record)
            write_rows(out[0], records)
            write_text(out[1], novel_table(records, setting.scale.line))
    return list(out)


def _of_seed(setting: Setting, seed: int) -> Iterator[Row]:
    scale = setting.scale
    batches = Batches(scale, scale.classes(setting.data))
    cell = Cell(1000.0, 0.5 if 0.5 in scale.snrs else scale.snrs[-1], seed)
    novel = next((n for n in NOVEL if n in batches.classes), next(iter(batches.classes)))
    task = batches.adapted(cell, "ada", without=(novel,))
    setting.finish([task], f"figure9, seed {seed}")
    source, _ = batches.source(cell, without=(novel,)).open(setting.store)
    made = batches.target(cell).made
    target = made.open(setting.store, snr=cell.target_snr)
    is_novel = target.labels == target.class_names.index(novel)
    before = task.source_model.model(setting.store)
    known = predict(before, source).features
    for when, model in {"before": before, "after": task.model(setting.store)}.items():
        features = predict(model, target.unlabelled()).features
        counts = {"paper": min(100, len(target) // 4), "classes": len(target.class_names)}
        groups = {k: cluster(features, ClusterOptions(count=n)) for k, n in counts.items()}
        record: Row = {"experiment": "figure9", "scale": scale.name, "seed": seed, "when": when}
        record |= {"left_out": novel, "n": len(target), "clusters": counts["paper"]}
        record |= {f"f1_{k}": best_cluster_f1(g, is_novel)[0] for k, g in groups.items()}
        for kind in ("neighbours", "mahalanobis"):
            scores = unknown_scores(features, known, source.labels, kind=kind)
            record[f"auroc_{kind}"] = auroc(scores, is_novel)
        if seed in AVERAGED_SEEDS:
            folder = setting.store / f"figure9-{task.key}-{when}"
            templates = make_templates(made.simulation)
            record |= recovered(target, groups["paper"], templates, folder)
        yield record


def recovered(
    target: LabelledSubtomograms,
    groups: NDArray[np.int64],
    templates: Mapping[str, NDArray[np.float32]],
    folder: Path,
) -> Row:
    """Structural discrepancies in nm: of each class's best cluster, and of all clusters.

    Recovered and true structures are matched with the truth at hand, in the paper by eye. For a
    class, of the three clusters that correlate best with it the one of least discrepancy counts; a
    cluster is held against the class that most of its particles are of.
    """
    names = [f"cluster_{group:02d}" for group in groups]
    points = measured_points(target)
    done = average_classes(target.unlabelled(), names, points, CLUSTER_AVERAGING, folder)
    maps = {one.name: one.result.volume for one in done if one.result is not None}
    volumes = list(maps.values())
    truths = {
        name: MapComparison(density, voxel_size_A=target.voxel_size_A)
        for name, density in templates.items()
    }
    classes = {}
    for name, truth in truths.items():
        likest = np.argsort(-truth.correlations(volumes))[:3]
        classes[name] = min(truth(volumes[i]).discrepancy_nm for i in likest)
    clusters = []
    for name, volume in maps.items():
        members = target.labels[np.array(names) == name]
        majority = target.class_names[np.bincount(members).argmax()]
        if majority in truths:  # and not the class without a structure
            clusters.append(round(truths[majority](volume).discrepancy_nm, 3))
    return {"discrepancy_nm": classes, "clusters_nm": clusters}
