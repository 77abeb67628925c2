"""An average's state between iterations, and its result; both are saved as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.fsc import HalfMapFsc, Volume, resolution_A
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import angular_distance_deg
from tomadapt.runs.atomic import atomic_path
from tomadapt.simulate.dataset import DAMAGE

SHELLS_BEYOND_RESOLUTION = 2
"""The next iteration compares shells up to this many beyond the present resolution."""


@dataclass(frozen=True)
class Average:
    """A recovered structure.

    Attributes
    ----------
    volume
        (n, n, n) float32, [z, y, x], density positive, filtered by its FSC, masked, without CTF.
    half_maps
        Two of them, neither filtered nor masked.
    mask
        (n, n, n), 0 … 1: the mask of the map and of the FSC.
    voxel_size_A
        Å.
    fsc
        FSC of the half maps, with and without the mask.
    poses
        Poses of all particles, in their order.
    halves
        (n,) the half set of each particle, 0 or 1.
    history
        One record per iteration.
    """

    volume: Volume
    half_maps: tuple[Volume, Volume]
    mask: Volume
    voxel_size_A: float
    fsc: HalfMapFsc
    poses: Poses
    halves: NDArray[np.int64]
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it to an ``.npz`` file, atomically."""
        with atomic_path(path) as temporary:
            np.savez(
                temporary,
                volume=self.volume,
                half_maps=np.stack(self.half_maps),
                mask=self.mask,
                voxel_size_A=self.voxel_size_A,
                halves=self.halves,
                **{f"fsc_{name}": value for name, value in asdict(self.fsc).items()},
                **_packed(self.poses, self.history),
            )

    @classmethod
    def load(cls, path: Path) -> Average:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            When the file is damaged.
        """
        with _opened(path) as kept:
            poses, history = _unpacked(kept)
            one, other = kept["half_maps"]
            return cls(
                kept["volume"],
                (one, other),
                kept["mask"],
                float(kept["voxel_size_A"]),
                HalfMapFsc(*(kept[f"fsc_{curve.name}"] for curve in fields(HalfMapFsc))),
                poses,
                kept["halves"],
                history,
            )

    def resolution_A(self, threshold: float) -> float | None:
        """Where the half maps' corrected FSC falls below a threshold, in Å."""
        n, fsc = len(self.volume), self.fsc.corrected
        return resolution_A(fsc, voxel_size_A=self.voxel_size_A, n=n, threshold=threshold)


@dataclass(frozen=True)
class RefinementState:
    """The state at the beginning of an iteration.

    Attributes
    ----------
    references
        The references of the two halves.
    shell
        The highest shell that is compared.
    poses
        Poses of the last iteration.
    history
        One record per iteration so far.
    """

    references: list[Volume]
    shell: int
    poses: Poses | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def local(self) -> bool:
        """Whether poses change so little that they are refined locally, without a grid search."""
        return len(self.history) >= 2 and self.history[-1]["median_turn_deg"] < 3.0

    def finished(self, iterations: int) -> bool:
        """Whether poses and resolution are stable, or all iterations were done."""
        if len(self.history) < 2:
            return len(self.history) >= iterations
        last, before = self.history[-1], self.history[-2]
        stable = last["median_turn_deg"] < 0.3 and last["shell"] <= before["shell"]
        return stable or len(self.history) >= iterations

    def next(
        self,
        fsc: NDArray[np.float64],
        poses: Poses,
        sums: list[FourierSum],
        *,
        group: NDArray[np.float32],
        voxel_size_A: float,
    ) -> RefinementState:
        """The state after an iteration that gave these poses, sums and corrected FSC."""
        n = sums[0].n
        turn = float("nan")  # the first iteration has no earlier poses
        if self.poses is not None:
            before, now = self.poses.rotations[:, 0], poses.rotations[:, 0]
            # Poses that differ by a symmetry operation are the same: the smallest angle counts.
            turns = [angular_distance_deg(before @ copy, now) for copy in group]
            turn = float(np.median(np.min(turns, axis=0)))
        found = resolution_A(fsc, voxel_size_A=voxel_size_A, n=n, threshold=0.143)
        reached = 2 if found is None else round(n * voxel_size_A / found)
        ssnr = spectral_snr(fsc).to(sums[0].denominator.device)
        record = {
            "iteration": float(len(self.history) + 1),
            "mean_score": float(poses.scores[:, 0].mean()),
            "mean_gain": float(poses.log_likelihood_ratios[:, 0].mean()),
            "median_turn_deg": turn,
            "shell": float(self.shell),
            "resolution_nm": float("nan") if found is None else found / 10,
        }
        # No resolution beyond the shells that were compared is trusted, so these grow slowly.
        shell = min(
            max(reached, 4) + SHELLS_BEYOND_RESOLUTION,
            self.shell + 2 * SHELLS_BEYOND_RESOLUTION,
            n // 2 - 1,
        )
        return RefinementState(
            [one.volume(ssnr).cpu().numpy() for one in sums],
            shell,
            poses,
            [*self.history, record],
        )

    def write(self, path: Path | None) -> None:
        """Write it to a file; nothing is done when ``path`` is None."""
        if path is None:
            return
        arrays: dict[str, Any] = {"references": np.stack(self.references), "shell": self.shell}
        if self.poses is not None:
            arrays |= _packed(self.poses, self.history)
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)

    @classmethod
    def read(cls, path: Path | None) -> RefinementState | None:
        """Read what :meth:`write` wrote; None when there is no file.

        Raises
        ------
        InputError
            When the file is damaged.
        """
        if path is None or not path.exists():
            return None
        with _opened(path) as kept:
            references = list(kept["references"])
            if "history" not in kept:
                return cls(references, int(kept["shell"]))
            return cls(references, int(kept["shell"]), *_unpacked(kept))


def spectral_snr(fsc: NDArray[np.float64]) -> torch.Tensor:
    """Spectral signal-to-noise ratio of a half map, (n // 2,): FSC / (1 − FSC)."""
    clean = np.clip(np.nan_to_num(fsc), 0, 0.999)
    # Two neighbouring shells without signal end it: correlation in higher shells is chance. A
    # single one may be a zero of the CTF, or the first shell, which has a handful of voxels.
    low = clean[1:] < 0.1
    ends = np.flatnonzero(low[:-1] & low[1:]) + 1
    clean[0] = 0.999
    if len(ends):
        clean[ends[0] :] = np.minimum(clean[ends[0] :], 1e-3)
    return torch.from_numpy(clean / (1 - clean)).float()


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with np.load(path) as kept:
            yield kept
    except DAMAGE as error:
        raise InputError(
            f"{path} is damaged",
            expected="a file that an earlier run wrote",
            got=str(error),
            remedy="delete it; this average is then computed again",
        ) from error


_POSES = {
    "rotations": "rotations",
    "shifts": "shifts",
    "scores": "scores",
    "gains": "log_likelihood_ratios",
}
"""Name of an array in the file → attribute of ``Poses``."""


def _packed(poses: Poses, history: list[dict[str, float]]) -> dict[str, Any]:
    """Poses and records of iterations as arrays by name."""
    names = list(history[0])
    return {name: getattr(poses, attribute) for name, attribute in _POSES.items()} | {
        "history": np.array([[record[name] for name in names] for record in history]),
        "history_names": np.array(names),
    }


def _unpacked(kept: Mapping[str, Any]) -> tuple[Poses, list[dict[str, float]]]:
    names = [str(name) for name in kept["history_names"]]
    history = [dict(zip(names, map(float, row), strict=True)) for row in kept["history"]]
    return Poses(*(kept[name] for name in _POSES)), history
