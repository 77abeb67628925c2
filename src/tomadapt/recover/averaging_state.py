"""What an average has come to: its state between iterations, and the result; both are kept."""

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
from tomadapt.fsc import HalfMapFsc, resolution_A
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import angular_distance_deg
from tomadapt.runs.atomic import atomic_path
from tomadapt.simulate.dataset import DAMAGE

Volume = NDArray[np.float32]

SHELLS_BEYOND_RESOLUTION = 2
"""Shells beyond the present resolution that the next iteration looks at."""


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
        (n, n, n), 0 … 1: what the map and the FSC were masked with.
    voxel_size_A
        Å.
    fsc
        Of the half maps, with and without the mask.
    poses
        Of all particles, in their order.
    halves
        (n,) which half each particle is in, 0 or 1.
    history
        A record an iteration.
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
        """Write all of it to an ``.npz``, atomically."""
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
    """What an iteration begins with.

    Attributes
    ----------
    references
        Of the two halves.
    shell
        The highest shell that is looked at.
    poses
        Of the last iteration.
    history
        A record of each iteration so far.
    """

    references: list[Volume]
    shell: int
    poses: Poses | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def local(self) -> bool:
        """Whether poses have settled so far that they are only followed."""
        return len(self.history) >= 2 and self.history[-1]["median_turn_deg"] < 3.0

    def finished(self, iterations: int) -> bool:
        """Whether nothing changes any more, or there were as many iterations as may be."""
        if len(self.history) < 2:
            return len(self.history) >= iterations
        last, before = self.history[-1], self.history[-2]
        still = last["median_turn_deg"] < 0.3 and last["shell"] <= before["shell"]
        return still or len(self.history) >= iterations

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
        turn = float("nan")  # there is nothing yet to have turned from
        if self.poses is not None:
            before, now = self.poses.rotations[:, 0], poses.rotations[:, 0]
            # A pose of a symmetric structure is as well any of its copies.
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
        # What was compared bounds what can have been found.
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
        """Keep it, where there is a place to."""
        if path is None:
            return
        arrays: dict[str, Any] = {"references": np.stack(self.references), "shell": self.shell}
        if self.poses is not None:
            arrays |= _packed(self.poses, self.history)
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)

    @classmethod
    def read(cls, path: Path | None) -> RefinementState | None:
        """What was kept there, if anything.

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
    # Behind the first two shells without signal there is none: what correlates there is chance.
    # One alone may be a zero of the CTF, or the first shell, which has a handful of voxels.
    low = clean[1:] < 0.1
    lost = np.flatnonzero(low[:-1] & low[1:]) + 1
    clean[0] = 0.999
    if len(lost):
        clean[lost[0] :] = np.minimum(clean[lost[0] :], 1e-3)
    return torch.from_numpy(clean / (1 - clean)).float()


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with np.load(path) as kept:
            yield kept
    except DAMAGE as error:
        raise InputError(
            f"{path} is damaged",
            expected="what an earlier run wrote",
            got=str(error),
            remedy="delete it; that average is then made again",
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
