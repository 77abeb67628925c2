"""Comparison of two maps: alignment, FSC, and the structural discrepancy of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.fsc import Volume, fourier_shell_correlation, resolution_A
from tomadapt.recover.align import Aligner, AlignmentOptions
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.mask import whole_box_mask
from tomadapt.recover.symmetry import rotate_volume


@dataclass(frozen=True)
class Comparison:
    """Similarity of two maps.

    Attributes
    ----------
    fsc
        (n // 2,) of the aligned map and the other, inside a soft sphere.
    correlation
        Correlation of their transforms up to the search's resolution, −1 … 1.
    discrepancy_nm
        Resolution in nm where the FSC falls below 0.5: the structural discrepancy of Lin et al.
        2019 (section 3.4). It is set to twice the box when the first three shells are all below.
    aligned
        (n, n, n) the first map, in the second one's frame.
    """

    fsc: NDArray[np.float64]
    correlation: float
    discrepancy_nm: float
    aligned: Volume


class MapComparison:
    """Compares one map, the truth or a known class, with others.

    Parameters
    ----------
    known
        (n, n, n) [z, y, x].
    voxel_size_A
        Å, the same for all maps.
    max_shift_voxels
        Largest distance of their centres along each axis.
    """

    def __init__(
        self, known: Volume, *, voxel_size_A: float, max_shift_voxels: float = 4.0
    ) -> None:
        n = len(known)
        self.known = known
        self.voxel_size_A = voxel_size_A
        self.mask = whole_box_mask(n)
        self.points = MeasuredPoints.everywhere(n)
        # All shells get the same weight: a map's power falls by orders of magnitude with frequency.
        power = _power(torch.from_numpy(known)[None], self.points)
        options = AlignmentOptions(
            step_deg=20.0, max_shift_voxels=max_shift_voxels, max_shell=round(n / 4), finalists=1
        )
        self.aligner = Aligner(torch.from_numpy(known), self.points, power, options)

    def correlations(self, others: Sequence[Volume]) -> NDArray[np.float64]:
        """The best correlation of each of several maps with the known one, (m,)."""
        found: list[float] = []
        for first in range(0, len(others), self.aligner.batch):
            some = np.stack(others[first : first + self.aligner.batch]) * self.mask
            with torch.inference_mode():
                found += self.aligner(torch.from_numpy(some)).scores[:, 0].tolist()
        return np.array(found)

    def __call__(self, other: Volume) -> Comparison:
        """Align another map to the known one and compare both."""
        with torch.inference_mode():
            pose = self.aligner(torch.from_numpy(other * self.mask)[None])
        back = pose.rotations[0, 0].T
        aligned = rotate_volume(other, back, -back @ pose.shifts[0, 0])
        fsc = fourier_shell_correlation(aligned * self.mask, self.known * self.mask)
        n = len(other)
        found = resolution_A(fsc, voxel_size_A=self.voxel_size_A, n=n, threshold=0.5)
        worst = 2 * n * self.voxel_size_A
        return Comparison(
            fsc,
            float(pose.scores[0, 0]),
            (worst if found is None else found) / 10,
            aligned.astype(np.float32),
        )


def _power(volumes: torch.Tensor, points: MeasuredPoints) -> torch.Tensor:
    """Power in shells, (n // 2,), of the first of some volumes."""
    count = torch.zeros(points.n // 2).index_add_(0, points.shell, points.multiplicity)
    power = points.transforms(volumes)[0].abs().square() * points.multiplicity
    total = torch.zeros_like(count).index_add_(0, points.shell, power)
    return (total / count.clamp_min(1)).clamp_min(float(total.max()) * 1e-9)
