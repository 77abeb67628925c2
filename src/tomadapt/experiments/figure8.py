"""Figure 8: a class that training and adaptation never saw, in the target's features.

RNA polymerase (2GHO) is left out of both domains; batch B at SNR 1000 is the source, batch A at SNR
0.5 the target. The paper shows that its particles cluster better after 3D-ADA; here this is also
measured. ``figure8.npz`` keeps what Figure 9's averages are made from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from tomadapt.experiments.domains import Batches, Cell
from tomadapt.experiments.novel_figure import draw_novel
from tomadapt.experiments.scales import Setting
from tomadapt.io.atomic import atomic_path, write_text
from tomadapt.prediction import predict
from tomadapt.report.embedding import embed
from tomadapt.report.style import write_figure

TITLE = "Figure 8: features of a class left out of training and adaptation"
FILES = ("figure8.png", "figure8.npz", "figure8.md")
NOVEL = ("2gho", "1f4a")
"""The paper's, and what stands in for it."""


def run(setting: Setting) -> None:
    """Train and adapt without the class, then embed all of the target with it."""
    scale = setting.scale
    batches = Batches(scale, scale.classes(setting.data))
    cell = Cell(1000.0, 0.5 if 0.5 in scale.snrs else scale.snrs[-1])
    novel = next((n for n in NOVEL if n in batches.classes), next(iter(batches.classes)))
    task = batches.adapted(cell, "ada", without=(novel,))
    for _ in setting.run([task], TITLE):
        pass
    target = batches.target(cell).all_classes(setting.store)
    models = {"before": task.source_model.model(setting.store), "after": task.model(setting.store)}
    features = {when: predict(m, target.unlabelled()).features for when, m in models.items()}
    positions = {when: embed(f) for when, f in features.items()}
    is_novel = target.labels == target.class_names.index(novel)
    with atomic_path(setting.file(FILES[1])) as temporary:
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
    write_figure(draw_novel(positions, is_novel, novel, scale.line), setting.file(FILES[0]))
    lines = [f"{when} 3D-ADA: {value:.3f}" for when, value in purity.items()]
    chance = (is_novel.sum() - 1) / (len(is_novel) - 1)
    write_text(
        setting.file(FILES[2]),
        f"# {TITLE}\n\n{scale.line}\n\nLeft out: {novel}. Of the ten nearest neighbours (in "
        f"features) of its {is_novel.sum()} particles among {len(is_novel)}, this fraction is of "
        f"it too (by chance {chance:.3f}):\n\n" + "\n".join(f"- {line}" for line in lines) + "\n",
    )


def neighbour_purity(
    features: NDArray[np.floating], member: NDArray[np.bool_], k: int = 10
) -> float:
    """Mean fraction of members among the k nearest other particles of each member."""
    k = min(k, len(features) - 1)
    nearest = NearestNeighbors(n_neighbors=k + 1).fit(features)
    found = nearest.kneighbors(features[member], return_distance=False)[:, 1:]
    return float(member[found].mean())
