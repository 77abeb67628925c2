"""Novel structures: clusters of features, their averages, and the most similar known classes.

As in Lin et al. 2019, section 3.4: features of all target particles are clustered, each cluster is
averaged, and the averages are compared with the known structures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.fsc import Volume
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.recover.align import AlignmentOptions
from tomadapt.recover.average import AveragingOptions, shared_shell
from tomadapt.recover.averages import AveragedClass, average_classes
from tomadapt.recover.clusters import ClusterOptions
from tomadapt.recover.compare import MapComparison
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.unknown import UnknownKind, unknown_scores
from tomadapt.runs.atomic import output_folder, write_json, write_rows
from tomadapt.runs.versions import versions

NO_CLUSTER = "none"
CLUSTER_AVERAGING = AveragingOptions(
    iterations=3, starts=1, alignment=AlignmentOptions(step_deg=20.0)
)
"""There are many small clusters: one start and three iterations are enough to compare them."""


class DiscoveryOptions(BaseModel):
    """Options of the search for novel structures.

    Parameters
    ----------
    clusters
        Options of the clustering.
    averaging
        Options of the averages of clusters.
    candidate_ratio
        A cluster is a candidate for a novel structure when two conditions hold. Its half maps agree
        (FSC 0.5) to a resolution that is finer, by this factor, than its discrepancy from every
        known class. And that resolution is finer than the initial model's, which the half maps
        share; half maps of noise agree up to there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clusters: ClusterOptions = ClusterOptions()
    averaging: AveragingOptions = CLUSTER_AVERAGING
    candidate_ratio: Annotated[float, Field(gt=1)] = 1.3


@dataclass(frozen=True)
class FoundCluster:
    """One cluster; the fields are the columns of ``clusters.csv``.

    Attributes
    ----------
    name, particles
        Its name in files, and its number of particles.
    predicted, share
        The most frequent predicted class, and the fraction of particles with it.
    unknown_score
        Mean over its particles.
    resolution_nm
        Resolution of the half maps at FSC 0.5; None without an average.
    match, correlation, discrepancy_nm
        The known class that its average resembles most, and how closely.
    candidate
        Whether it is a candidate for a novel structure.
    """

    name: str
    particles: int
    predicted: str
    share: float
    unknown_score: float
    resolution_nm: float | None = None
    match: str | None = None
    correlation: float | None = None
    discrepancy_nm: float | None = None
    candidate: bool = False


@dataclass(frozen=True)
class TargetEmbedding:
    """Target particles with what an adapted model predicts of them.

    Attributes
    ----------
    data
        The particles.
    features
        (n, f).
    predicted
        (n,) predicted classes.
    unknown
        (n,) unknown scores, see :func:`~tomadapt.recover.unknown.unknown_scores`.
    """

    data: Subtomograms
    features: NDArray[np.floating]
    predicted: list[str]
    unknown: NDArray[np.floating]


def embed_target(
    source_model: Model,
    adapted_model: Model,
    source: LabelledSubtomograms,
    target: Subtomograms,
    *,
    unknown: UnknownKind = "neighbours",
    fabric: Fabric | None = None,
) -> TargetEmbedding:
    """Features, predictions and unknown scores of a target.

    Parameters
    ----------
    source_model, adapted_model
        Before and after adaptation: the first gives the source's features, the second the
        target's.
    source
        Particles with labels, from which the scores are computed.
    target
        Particles without labels.
    unknown
        Kind of score, see :func:`~tomadapt.recover.unknown.unknown_scores`.
    fabric
        Device and precision.
    """
    known = predict(source_model, source, fabric=fabric).features
    found = predict(adapted_model, target, fabric=fabric)
    head = adapted_model.classifier
    weights = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
    scores = unknown_scores(found.features, known, source.labels, kind=unknown, weights=weights)
    predicted = [found.class_names[label] for label in found.labels]
    return TargetEmbedding(target, found.features, predicted, scores)


def discover(
    embedding: TargetEmbedding,
    groups: NDArray[np.integer],
    *,
    points: MeasuredPoints,
    known: Mapping[str, Volume],
    out: Path,
    options: DiscoveryOptions | None = None,
    progress: Callable[[int, str], None] = lambda _, __: None,
) -> tuple[list[FoundCluster], list[AveragedClass]]:
    """Average clusters of particles, and compare the averages with known structures.

    Parameters
    ----------
    embedding
        The particles, their features, predictions and unknown scores.
    groups
        (n,) cluster of each particle, from :func:`~tomadapt.recover.clusters.cluster`; −1 is none.
    points
        Where the particles were measured.
    known
        Class → (n, n, n) map of the particles' voxel size.
    out
        The folder: ``particles.csv``, ``clusters.csv``, ``averages/`` with every cluster's map, and
        ``candidate_<cluster>.mrc``. An interrupted run continues in it.
    options
        See :class:`DiscoveryOptions`; ``clusters`` is only recorded in the summary.
    progress
        Called with a number of finished steps and the cluster's name:
        ``options.averaging.iterations + 2`` steps for each cluster.

    Returns
    -------
    found
        Candidates first, then in descending order of the unknown score.
    averages
        In the same order.
    """
    options = options or DiscoveryOptions()
    data = embedding.data
    predicted, unknown = embedding.predicted, embedding.unknown
    names = cluster_names(groups)
    output_folder(out)
    rows = np.flatnonzero(groups >= 0)
    averaged = []
    if len(rows):  # HDBSCAN may find no cluster at all
        averaged = average_classes(
            data.subset(rows),
            [names[row] for row in rows],
            points,
            options.averaging,
            out / "averages",
            progress=progress,
        )
    _write_particles(out / "particles.csv", data.rows, names, predicted, unknown)
    matches = match_known(averaged, known, voxel_size_A=data.voxel_size_A, progress=progress)
    found = []
    for one in averaged:
        members = [i for i, name in enumerate(names) if name == one.name]
        labels, counts = np.unique([predicted[i] for i in members], return_counts=True)
        found.append(
            FoundCluster(
                one.name,
                one.particles,
                str(labels[counts.argmax()]),
                float(counts.max() / counts.sum()),
                float(np.mean(unknown[members])),
                one.record.get("resolution_0.5_nm"),
                *matches.get(one.name, (None, None, None)),
            )
        )
    shared_nm = data.box * data.voxel_size_A / 10 / shared_shell(data.box, options.averaging)
    found = [_judged(each, options.candidate_ratio, finer_than_nm=shared_nm) for each in found]
    found.sort(key=lambda each: (not each.candidate, -each.unknown_score))
    columns = tuple(field.name for field in fields(FoundCluster))
    rows_of_clusters = [[_text(getattr(one, c)) for c in columns] for one in found]
    write_rows(out / "clusters.csv", columns, rows_of_clusters)
    volumes = {one.name: one.result.volume for one in averaged if one.result is not None}
    for each in found:
        if each.candidate:
            path = out / f"candidate_{each.name}.mrc"
            write_mrc(path, volumes[each.name], voxel_size_A=data.voxel_size_A)
    summary = {
        "clusters": len(found),
        "candidates": [each.name for each in found if each.candidate],
        "in_no_cluster": int((groups < 0).sum()),
        "options": options.model_dump(mode="json"),
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    of = {one.name: one for one in averaged}
    return found, [of[each.name] for each in found]


def cluster_names(groups: NDArray[np.integer]) -> list[str]:
    """The name of each particle's cluster in files: ``cluster_07``, or ``none``."""
    width = len(str(max(int(groups.max()), 0)))
    return [NO_CLUSTER if g < 0 else f"cluster_{g:0{width}d}" for g in groups]


def match_known(
    averaged: list[AveragedClass],
    known: Mapping[str, Volume],
    *,
    voxel_size_A: float,
    progress: Callable[[int, str], None] = lambda _, __: None,
) -> dict[str, tuple[str, float, float]]:
    """The known class that each average resembles most.

    The three classes of highest correlation are compared shell by shell; the one of least
    structural discrepancy is returned.

    Parameters
    ----------
    averaged
        The averages; those without a map get no match.
    known
        Class → (n, n, n) map.
    voxel_size_A
        Å, the same for all maps.
    progress
        Called with a number of finished averages and a name.

    Returns
    -------
    dict
        Average's name → class, correlation, discrepancy in nm.
    """
    maps = {one.name: one.result.volume for one in averaged if one.result is not None}
    if not maps or not known:
        progress(len(averaged), "")
        return {}
    progress(len(averaged) - len(maps), "")
    comparisons = {
        name: MapComparison(volume, voxel_size_A=voxel_size_A) for name, volume in known.items()
    }
    volumes = list(maps.values())
    table = np.stack([one.correlations(volumes) for one in comparisons.values()])  # (k, m)
    matches = {}
    classes = list(comparisons)
    for column, (name, volume) in enumerate(maps.items()):
        best_three = np.argsort(-table[:, column])[:3]
        compared = [(classes[i], comparisons[classes[i]](volume)) for i in best_three]
        best, result = min(compared, key=lambda pair: pair[1].discrepancy_nm)
        matches[name] = best, result.correlation, result.discrepancy_nm
        progress(1, name)
    return matches


def _judged(one: FoundCluster, ratio: float, *, finer_than_nm: float) -> FoundCluster:
    if one.resolution_nm is None or one.discrepancy_nm is None:
        return one
    agrees = one.resolution_nm < finer_than_nm
    return replace(one, candidate=agrees and one.discrepancy_nm > ratio * one.resolution_nm)


def _write_particles(
    path: Path,
    index: NDArray[np.integer],
    names: list[str],
    predicted: list[str],
    unknown: NDArray[np.floating],
) -> None:
    """One row per particle; ``index`` is its number in the file or set that it was read from."""
    every = zip(index.tolist(), names, predicted, unknown, strict=True)
    rows = [[str(i), name, label, f"{score:.5f}"] for i, name, label, score in every]
    write_rows(path, ("index", "cluster", "predicted", "unknown_score"), rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
