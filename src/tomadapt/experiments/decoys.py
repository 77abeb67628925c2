"""Particles of one known class against decoys: how many are called that class, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.experiments.records import Row
from tomadapt.experiments.scales import SCALES
from tomadapt.experiments.tables import markdown
from tomadapt.fsc import phases_randomised, shell_numbers
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.metrics import binomial_interval


@dataclass(frozen=True)
class Group:
    """Some particles with a title; the first of several is the one to find."""

    title: str
    particles: Subtomograms


def phase_randomised(data: Subtomograms, *, seed: int) -> Subtomograms:
    """Particles with the amplitudes of the given ones and the phases of white noise.

    This keeps the power spectrum and with it the missing wedge, and destroys the structure.
    """
    cubes = data.read(range(len(data))).numpy()
    rng = np.random.default_rng(seed)
    mixed = np.stack([phases_randomised(cube, from_shell=0, rng=rng) for cube in cubes])
    return Subtomograms(ArrayVolumes(mixed, data.voxel_size_A))


def shell_ratio(data: Subtomograms) -> float:
    """Mean power in shell d/4 of the box's frequencies over that in shell d/16."""
    cubes = data.read(range(min(len(data), 40))).numpy()
    power = (np.abs(np.fft.fftn(cubes, axes=(1, 2, 3))) ** 2).mean(axis=0)
    shell = shell_numbers(data.box)
    return float(power[shell == data.box // 4].mean() / power[shell == data.box // 16].mean())


def against(model: Model, groups: Sequence[Group], *, label: int) -> list[Row]:
    """A row for each group: how many are called ``label``, and the first group's AUC over it.

    The area under the ROC curve is the chance that a particle of the first group has a higher
    probability of the class than one of this group: 0.5 when they cannot be told apart.
    """
    predictions = [predict(model, group.particles) for group in groups]
    rows = []
    for group, prediction in zip(groups, predictions, strict=True):
        called = prediction.labels == label
        low, high = binomial_interval(float(called.mean()), len(called))
        scores = [p.probabilities[:, label] for p in (predictions[0], prediction)]
        is_first = np.repeat([1, 0], [len(score) for score in scores])
        rows.append(
            {
                "particles": group.title,
                "n": len(called),
                "called": int(called.sum()),
                "interval": [round(low, 3), round(high, 3)],
                "auc_of_first": round(float(roc_auc_score(is_first, np.concatenate(scores))), 3),
                "power_shell_ratio": round(shell_ratio(group.particles), 3),
            }
        )
    return rows


def decoy_table(title: str, rows: Sequence[Row]) -> str:
    """Markdown of :func:`against`'s rows of several methods."""
    scale, lines = SCALES[rows[0]["scale"]], []
    for row in rows:
        is_first = row["particles"] == rows[0]["particles"]
        lines.append(
            [
                str(row["method"]),
                str(row["particles"]),
                f"{row['called']}/{row['n']} ({row['interval'][0]:.2f}–{row['interval'][1]:.2f})",
                "–" if is_first else f"{row['auc_of_first']:.2f}",
                f"{row['power_shell_ratio']:.2f}",
            ]
        )
    names = ["method", "particles", "called so (95 % interval)", "AUC of real over these"]
    return (
        f"# {title}\n\nScale {scale.name}: {rows[0]['n_per_class']} source particles per class "
        f"({scale.note}). Last column: power in shell d/4 over that in shell d/16.\n\n"
        + markdown([*names, "power ratio"], lines)
    )
