"""Labels of many cubes: the likelihood's where it judged, its student's elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.classify.judged_summary import (
    LABEL_COLUMNS,
    above_the_rate,
    labelled_reason,
    rejection_reasons,
)
from tomadapt.data.cube_keys import CubeKeys
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.judge.mixture import false_discovery_rates
from tomadapt.judge.verdicts import Verdicts
from tomadapt.runs.atomic import write_rows
from tomadapt.simulate.simulator import NULL_CLASS

ABOVE = "above the rate"
"""The kind of what is more probably a structure than anything else, but not surely enough."""
OTHER = "other"
"""The student's last class: what may be a particle of a structure that was not named."""


@dataclass(frozen=True, eq=False)
class JudgedCubes:
    """Some cubes as the judge labels them.

    Attributes
    ----------
    rows
        (m,) which cubes.
    probabilities
        (m, classes) of the student's classes.
    verdicts
        Kinds, and what was measured.
    noise_share
        See :func:`~tomadapt.judge.particles.noise_share`.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    verdicts: Verdicts
    noise_share: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        verdicts: Verdicts,
        noise_share: NDArray[np.float64],
    ) -> JudgedCubes:
        """Cubes in these rows, which the judge said this of."""
        other = np.minimum(verdicts.unknown, verdicts.probabilities[:, -1])
        rest = verdicts.probabilities[:, -1] - other
        p = np.column_stack([verdicts.probabilities[:, :-1], rest, other])
        return cls(rows, p, verdicts, noise_share)


@dataclass(frozen=True, eq=False)
class StudentLabels:
    """What is written of every cube."""

    names: tuple[str, ...]
    label: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    fdr: NDArray[np.float64]
    asked: float | None = None

    @classmethod
    def of(
        cls,
        student: NDArray[np.float64],
        parts: list[JudgedCubes],
        names: tuple[str, ...],
        asked: float | None,
    ) -> StudentLabels:
        """The judge's word where it judged, the student's elsewhere."""
        p = student.copy()
        for part in parts:
            p[part.rows] = part.probabilities
        n_wanted = len(names) - 2
        best = p[:, :n_wanted].argmax(axis=1)
        score = p[np.arange(len(p)), best]
        label = np.where(score > p[:, n_wanted:].sum(axis=1), best, -1)
        fdr = np.where(label >= 0, false_discovery_rates(score, label), 1.0)
        if asked is not None:
            label = np.where(fdr <= asked, label, -1)
        return cls(names, label.astype(np.int64), p, fdr, asked)

    @property
    def counts(self) -> dict[str, int]:
        """Structure → how many cubes have its label."""
        n_wanted = len(self.names) - 2
        found = np.bincount(self.label[self.label >= 0], minlength=n_wanted)
        return dict(zip(self.names, found.tolist(), strict=False))

    def write_csv(
        self,
        path: Path,
        parts: list[JudgedCubes],
        voxel_size_A: float,
        keys: CubeKeys,
    ) -> None:
        """As :func:`~tomadapt.classify.judged_summary.write_labels_csv`, and who says so."""
        judged = {
            int(row): (part.verdicts, place)
            for part in parts
            for place, row in enumerate(part.rows)
        }
        reasons = {
            int(part.rows[place]): text
            for part in parts
            for place, text in rejection_reasons(part.verdicts, None, {}).items()
        }
        classes = (*self.names[:-2], NULL_CLASS)

        def cells(i: int) -> list[Any]:
            wanted, others = self.probabilities[i, :-2], self.probabilities[i, -2:]
            label, none = self.label[i], others.sum()
            kind = "wanted" if label >= 0 else self.names[int(others.argmax()) - 2]
            reason = f"{kind} by the student (probability {max(wanted.max(), none):.2f})"
            pose, by = [""] * 6, "student"
            if i in judged:
                verdicts, place = judged[i]
                pose, by = _pose(verdicts, place, voxel_size_A), "likelihood"
                kind = kind if label >= 0 else str(verdicts.kind[place])
                reason = reasons.get(i) or labelled_reason(verdicts, place)
            if label < 0 and wanted.max() > none:
                kind = ABOVE
                best = self.names[int(wanted.argmax())]
                reason = above_the_rate(best, self.fdr[i], self.asked or 0.0)
            second = self.names[int(np.argsort(-self.probabilities[i], kind="stable")[1])]
            numbers = (wanted[label] if label >= 0 else none, self.fdr[i], others[-1])
            return [
                *(i, self.names[label] if label >= 0 else NULL_CLASS),
                *(*(f"{v:.4f}" for v in numbers), kind, second, *pose, reason),
                *(f"{v:.4f}" for v in (*wanted, none)),
                *(by, *keys.of(i)),
            ]

        columns = (*LABEL_COLUMNS, *(f"p_{name}" for name in classes), "by", *keys.columns)
        write_rows(path, columns, map(cells, range(len(self.label))))


def _pose(verdicts: Verdicts, place: int, voxel_size_A: float) -> list[str]:
    turned = Rotation.from_matrix(verdicts.rotations[place : place + 1].astype(np.float64))
    angles = relion_angles_deg(turned)[0]
    return [
        *(f"{a:.3f}" for a in angles),
        *(f"{s * voxel_size_A:.3f}" for s in verdicts.shifts[place]),
    ]
