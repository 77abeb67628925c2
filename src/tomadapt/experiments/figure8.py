"""Figure 8: a class that training and adaptation never saw, in the target's features.

RNA polymerase (2GHO) is left out of both domains; batch B at SNR 1000 is the source, batch A at SNR
0.5 the target. The paper shows that its particles cluster better after 3D-ADA; here this is also
measured. ``figure8.npz`` keeps what Figure 9's averages are made from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.models import AdaptTask
from tomadapt.experiments.particles import Particles
from tomadapt.experiments.scales import Setting
from tomadapt.learn.prediction import predict
from tomadapt.report.embedding import embed
from tomadapt.report.style import styled, write_figure
from tomadapt.runs.atomic import atomic_path, write_text

NOVEL = ("2gho", "1f4a")
"""The paper's, and what stands in for it."""
SOURCE_SNR = 1000.0


def run(setting: Setting) -> list[Path]:
    """Train and adapt without the class, then embed all of the target with it."""
    scale = setting.scale
    task, whole, novel = adapted_without(setting, 0)
    setting.finish([task], "figure8")
    target = whole.made.open(setting.store, snr=whole.snr)
    models = {"before": task.source_model.model(setting.store), "after": task.model(setting.store)}
    features = {when: predict(m, target.unlabelled()).features for when, m in models.items()}
    positions = {when: embed(f) for when, f in features.items()}
    is_novel = target.labels == target.class_names.index(novel)
    picture, kept, text = (setting.file(f"figure8.{suffix}") for suffix in ("png", "npz", "md"))
    with atomic_path(kept) as temporary:
        np.savez(
            temporary,
            labels=target.labels,
            class_names=np.array(target.class_names),
            novel=novel,
            features_before=features["before"],
            features_after=features["after"],
            embedded_before=positions["before"],
            embedded_after=positions["after"],
        )
    purity = {when: neighbour_purity(f, is_novel) for when, f in features.items()}
    warning = models["after"].card.training.get("adaptation_warning")
    note = f"t-SNE of all target particles; SNR {SOURCE_SNR:g} → {whole.snr:g}, seed 0\n"
    note += scale.line + ("" if warning is None else f"\n† {warning}")
    write_figure(draw_novel(positions, is_novel, novel, note), picture)
    chance = (is_novel.sum() - 1) / (len(is_novel) - 1)
    lines = [f"- {when} 3D-ADA: {value:.3f}" for when, value in purity.items()]
    write_text(
        text,
        f"# Figure 8: features of a class left out of training and adaptation\n\n{note}\n\n"
        f"Left out: {novel}. Of the ten nearest neighbours (in features) of its {is_novel.sum()} "
        f"particles among {len(is_novel)}, this fraction is of it too (by chance {chance:.3f}):\n\n"
        + "\n".join(lines)
        + "\n",
    )
    return [picture, kept, text]


def adapted_without(setting: Setting, seed: int) -> tuple[AdaptTask, Particles, str]:
    """The adaptation that lacks one class, the whole target, and the class."""
    scale = setting.scale
    batches = PaperDomains(scale, scale.classes(setting.data))
    cell = Cell(SOURCE_SNR, 0.5 if 0.5 in scale.snrs else scale.snrs[-1], seed)
    novel = next((n for n in NOVEL if n in batches.classes), next(iter(batches.classes)))
    return batches.adapted(cell, "ada", without=(novel,)), batches.target(cell), novel


def neighbour_purity(
    features: NDArray[np.floating], member: NDArray[np.bool_], k: int = 10
) -> float:
    """Mean fraction of members among the k nearest other particles of each member."""
    nearest = NearestNeighbors(n_neighbors=min(k, len(features) - 1)).fit(features)
    found = nearest.kneighbors(return_distance=False)[member]  # without themselves
    return float(member[found].mean())


@styled
def draw_novel(
    positions: dict[str, NDArray[np.float64]], is_novel: NDArray[np.bool_], name: str, note: str
) -> Figure:
    """Draw embeddings (n, 2) before and after, the novel class in red as in the paper."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    for axes, (when, points) in zip(figure.subplots(1, 2), positions.items(), strict=True):
        axes.scatter(*points[~is_novel].T, s=7, color="#9aa7b3", linewidths=0, label="others")
        axes.scatter(*points[is_novel].T, s=14, color="#c0182b", linewidths=0, label=name)
        axes.set(xticks=[], yticks=[], title=f"{when} 3D-ADA")
    figure.axes[0].legend(loc="lower left")
    figure.supxlabel(note, fontsize=8)
    return figure
