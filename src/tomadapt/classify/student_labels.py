"""Labels of many cubes: the likelihood's where it judged, its student's elsewhere."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.classify.judged_summary import LABEL_COLUMNS, labelled_reason, rejection_reasons
from tomadapt.data.cube_keys import CubeKeys
from tomadapt.io.particle_lists.model import relion_angles_deg
from tomadapt.judge.mixture import false_discovery_rates
from tomadapt.judge.verdicts import Verdicts
from tomadapt.runs.atomic import atomic_path
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
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    verdicts: Verdicts

    @classmethod
    def of(cls, rows: NDArray[np.int64], verdicts: Verdicts) -> JudgedCubes:
        """Cubes in these rows, which the judge said this of."""
        other = np.minimum(verdicts.unknown, verdicts.probabilities[:, -1])
        rest = verdicts.probabilities[:, -1] - other
        p = np.column_stack([verdicts.probabilities[:, :-1], rest, other])
        return cls(rows, p, verdicts)


@dataclass(frozen=True, eq=False)
class StudentLabels:
    """What is written of every cube."""

    names: tuple[str, ...]
    label: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    fdr: NDArray[np.float64]

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
        return cls(names, label.astype(np.int64), p, fdr)

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
        n_wanted = len(self.names) - 2
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
        not_posed = [""] * 6
        with (
            atomic_path(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            classes = (*self.names[:n_wanted], NULL_CLASS)
            writer.writerow(
                [*LABEL_COLUMNS, *(f"p_{name}" for name in classes), "by", *keys.columns]
            )
            for i, (label, p) in enumerate(zip(self.label, self.probabilities, strict=True)):
                none = p[n_wanted:].sum()
                name = self.names[label] if label >= 0 else NULL_CLASS
                second = self.names[int(np.argsort(-p, kind="stable")[1])]
                kind = self.names[n_wanted + int(p[n_wanted:].argmax())]
                if label >= 0:
                    kind = "wanted"
                elif p[:n_wanted].max() > none:
                    kind = ABOVE
                pose, by, reason = not_posed, "student", ""
                if i in judged:
                    verdicts, place = judged[i]
                    pose, by = _pose(verdicts, place, voxel_size_A), "likelihood"
                    reason = reasons.get(i, "")
                    if label >= 0 and not reason:
                        reason = labelled_reason(verdicts, place)
                    kind = kind if kind in ("wanted", ABOVE) else str(verdicts.kind[place])
                numbers = (p[label] if label >= 0 else none, self.fdr[i], p[-1])
                cells = [i, name, *(f"{v:.4f}" for v in numbers), kind, second, *pose, reason]
                cells += [f"{v:.4f}" for v in (*p[:n_wanted], none)]
                writer.writerow([*cells, by, *keys.of(i)])


def _pose(verdicts: Verdicts, place: int, voxel_size_A: float) -> list[str]:
    turned = Rotation.from_matrix(verdicts.rotations[place : place + 1].astype(np.float64))
    angles = relion_angles_deg(turned)[0]
    return [
        *(f"{a:.3f}" for a in angles),
        *(f"{s * voxel_size_A:.3f}" for s in verdicts.shifts[place]),
    ]
