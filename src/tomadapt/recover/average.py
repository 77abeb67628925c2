"""Averages of one class: half maps refined apart from each other, their FSC, and the whole map.

The two halves share a first reference of low resolution and nothing beyond it (Scheres & Chen 2012,
Nat. Methods 9, 853): what their FSC shows above that is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tomadapt.errors import InputError
from tomadapt.fsc import fourier_shell_correlation, resolution_A, soft_sphere
from tomadapt.io.atomic import atomic_path
from tomadapt.recover.align import Aligner, AlignmentOptions, align
from tomadapt.recover.fourier import MeasuredPoints, shell_power
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.from_nothing import first_reference
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import angular_distance_deg, symmetry_group
from tomadapt.recover.symmetry import rotate_volume, symmetry_axes
from tomadapt.simulate.dataset import DAMAGE
from tomadapt.subtomograms import Subtomograms

Volume = NDArray[np.float32]

FEWEST = 4
"""Particles: two in each half."""
BEYOND = 2
"""Shells beyond the present resolution that the next iteration looks at."""


class AveragingOptions(BaseModel):
    """How to average.

    Parameters
    ----------
    symmetry
        A point group (C1, C4, D7, O, …).
    iterations
        Of the refinement, at most; it ends when poses and resolution no longer change.
    starts
        From random poses, where there is no template.
    alignment
        How poses are searched.
    seed
        Of the halves and the random poses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symmetry: str = "C1"
    iterations: Annotated[int, Field(ge=1, le=50)] = 5
    starts: Annotated[int, Field(ge=1, le=50)] = 2
    alignment: AlignmentOptions = AlignmentOptions()
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Average:
    """A recovered structure.

    Attributes
    ----------
    volume
        (n, n, n) float32, [z, y, x], density positive, filtered by its FSC, without CTF.
    half_maps
        Two of them, not filtered.
    voxel_size_A
        Å.
    fsc
        (n // 2,) of the half maps inside a soft sphere.
    poses
        Of all particles, in their order.
    halves
        (n,) which half each particle is in, 0 or 1.
    history
        A record an iteration.
    """

    volume: Volume
    half_maps: tuple[Volume, Volume]
    voxel_size_A: float
    fsc: NDArray[np.float64]
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
                voxel_size_A=self.voxel_size_A,
                fsc=self.fsc,
                halves=self.halves,
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
                float(kept["voxel_size_A"]),
                kept["fsc"],
                poses,
                kept["halves"],
                history,
            )

    def resolution_A(self, threshold: float) -> float | None:
        """Where the half maps' FSC falls below a threshold, in Å."""
        n = len(self.volume)
        return resolution_A(self.fsc, voxel_size_A=self.voxel_size_A, n=n, threshold=threshold)


def average(
    data: Subtomograms,
    points: MeasuredPoints,
    options: AveragingOptions,
    *,
    template: Volume | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Average:
    """Average particles of one class, from a template or from random poses.

    Parameters
    ----------
    data
        The particles; they are read batch by batch.
    points
        Where they were measured.
    options
        How.
    template
        (n, n, n) map to begin with; its low frequencies alone are used.
    checkpoint
        Where to keep the state after each iteration; an interrupted average goes on from it.
    progress
        Told of each iteration: ``options.iterations + 1`` in all.

    Raises
    ------
    InputError
        When there are fewer than four particles.
    ConfigError
        When the symmetry has an unknown name.
    """
    if len(data) < FEWEST:
        raise InputError(
            "too few particles to average", expected=f"at least {FEWEST}", got=len(data)
        )
    group = symmetry_group(options.symmetry)
    n, device = points.n, points.k.device
    power = shell_power(data, points)
    order = np.random.default_rng([options.seed, len(data)]).permutation(len(data))
    halves = np.empty(len(data), np.int64)
    halves[order] = np.arange(len(data)) % 2
    members = [np.flatnonzero(halves == h) for h in range(2)]
    mask = soft_sphere(n, radius_voxels=0.45 * n)
    first = min(options.alignment.search_shell or round(n / 5), n // 2 - 1)
    state = _State.read(checkpoint)
    if state is None:
        reference = template
        if reference is None:
            reference, _ = first_reference(
                data,
                points,
                power,
                shell=first,
                seed=options.seed,
                starts=options.starts,
                max_shift_voxels=options.alignment.max_shift_voxels,
            )
            if len(group) > 1:  # a map from random poses lies as it happens to
                axes, _ = symmetry_axes(reference, group)
                reference = rotate_volume(reference, axes)
        state = _State([reference, reference], first)
        state.write(checkpoint)
    progress(1 + len(state.history))
    while not state.finished(options.iterations):
        parts, sums = [], []
        for half, rows in enumerate(members):
            alignment = options.alignment.model_copy(update={"max_shell": state.shell})
            aligner = Aligner(state.references[half] * mask, points, power, alignment)
            begin = state.poses.take(rows) if state.poses is not None and state.local else None
            found = align(data.subset(rows), aligner, begin=begin)
            parts.append(found)
            sums.append(_summed(data.subset(rows), found, points, power, group))
        volumes = [one.volume().cpu().numpy() * mask for one in sums]
        fsc = fourier_shell_correlation(volumes[0], volumes[1])
        poses = _in_order(parts, members)
        state = state.next(fsc, poses, sums, voxel_size_A=data.voxel_size_A)
        state.write(checkpoint)
        progress(1)
    assert state.poses is not None  # there was at least one iteration
    assert state.fsc is not None
    sums = [_summed(data.subset(r), state.poses.take(r), points, power, group) for r in members]
    ssnr = _ssnr(state.fsc).to(device)
    whole = (sums[0] + sums[1]).volume(2 * ssnr)
    return Average(
        whole.cpu().numpy() * mask,
        (sums[0].volume().cpu().numpy(), sums[1].volume().cpu().numpy()),
        data.voxel_size_A,
        state.fsc,
        state.poses,
        halves,
        state.history,
    )


def average_of_poses(
    data: Subtomograms, poses: Poses, points: MeasuredPoints, *, group: NDArray[np.float32]
) -> Volume:
    """The plain weighted average of particles in known poses, (n, n, n), not filtered."""
    power = shell_power(data, points)
    return _summed(data, poses, points, power, group).volume().cpu().numpy()


def _summed(
    data: Subtomograms,
    poses: Poses,
    points: MeasuredPoints,
    power: torch.Tensor,
    group: NDArray[np.float32],
) -> FourierSum:
    """Particles in their candidate poses, each weighted by its probability, and in all copies."""
    device, total = points.k.device, FourierSum.empty(points.n, points.k.device)
    weights = torch.from_numpy(poses.weights())
    copies = torch.from_numpy(group).to(device)
    g = len(copies)
    with torch.inference_mode():
        for first in range(0, len(data), 32):
            rows = range(first, min(first + 32, len(data)))
            x = points.transforms(data.read(rows).to(device))
            w = weights[rows].to(device)
            row, candidate = (w > 1e-3).nonzero(as_tuple=True)
            at = row.cpu().numpy() + first, candidate.cpu().numpy()
            rotations = torch.from_numpy(poses.rotations[at]).to(device)
            shifts = torch.from_numpy(poses.shifts[at]).to(device)
            for copy in copies:  # a symmetric structure lies as well in each of them
                total.add(x[row], rotations @ copy, shifts, w[row, candidate] / g, points, power)
    return total


def _in_order(parts: list[Poses], members: list[NDArray[np.int64]]) -> Poses:
    joined = Poses.joined(parts)
    return joined.take(np.argsort(np.concatenate(members)))


def _ssnr(fsc: NDArray[np.float64]) -> torch.Tensor:
    """Spectral signal-to-noise ratio of a half map: FSC / (1 − FSC)."""
    clean = np.clip(np.nan_to_num(fsc), 0, 0.999)
    # Behind the first shell without signal there is none: what correlates there is chance.
    lost = np.flatnonzero(clean[1:] < 0.1) + 1
    clean[0] = 0.999
    if len(lost):
        clean[lost[0] :] = np.minimum(clean[lost[0] :], 1e-3)
    return torch.from_numpy(clean / (1 - clean)).float()


@dataclass(frozen=True)
class _State:
    """What an iteration begins with.

    Attributes
    ----------
    references
        Of the two halves.
    shell
        The highest shell that is looked at.
    poses, fsc
        Of the last iteration.
    history
        A record of each iteration so far.
    """

    references: list[Volume]
    shell: int
    poses: Poses | None = None
    fsc: NDArray[np.float64] | None = None
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
        voxel_size_A: float,
    ) -> _State:
        n = sums[0].n
        turn = 180.0
        if self.poses is not None:
            turns = angular_distance_deg(self.poses.rotations[:, 0], poses.rotations[:, 0])
            turn = float(np.median(turns))
        found = resolution_A(fsc, voxel_size_A=voxel_size_A, n=n, threshold=0.143)
        reached = 2 if found is None else round(n * voxel_size_A / found)
        ssnr = _ssnr(fsc).to(sums[0].denominator.device)
        record = {
            "iteration": float(len(self.history) + 1),
            "mean_score": float(poses.scores[:, 0].mean()),
            "mean_gain": float(poses.gains[:, 0].mean()),
            "median_turn_deg": turn,
            "shell": float(self.shell),
            "resolution_nm": float(n * voxel_size_A / reached if found is None else found) / 10,
        }
        # What was compared bounds what can have been found.
        shell = min(max(reached, 4) + BEYOND, self.shell + 2 * BEYOND, n // 2 - 1)
        return _State(
            [one.volume(ssnr).cpu().numpy() for one in sums],
            shell,
            poses,
            fsc,
            [*self.history, record],
        )

    def write(self, path: Path | None) -> None:
        if path is None:
            return
        arrays: dict[str, Any] = {"references": np.stack(self.references), "shell": self.shell}
        if self.poses is not None and self.fsc is not None:
            arrays |= {"fsc": self.fsc} | _packed(self.poses, self.history)
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)

    @classmethod
    def read(cls, path: Path | None) -> _State | None:
        if path is None or not path.exists():
            return None
        with _opened(path) as kept:
            references = list(kept["references"])
            if "fsc" not in kept:
                return cls(references, int(kept["shell"]))
            poses, history = _unpacked(kept)
            return cls(references, int(kept["shell"]), poses, kept["fsc"], history)


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


_POSES = ("rotations", "shifts", "scores", "gains")


def _packed(poses: Poses, history: list[dict[str, float]]) -> dict[str, Any]:
    """Poses and records of iterations as arrays by name."""
    names = list(history[0])
    return {name: getattr(poses, name) for name in _POSES} | {
        "history": np.array([[record[name] for name in names] for record in history]),
        "history_names": np.array(names),
    }


def _unpacked(kept: Mapping[str, Any]) -> tuple[Poses, list[dict[str, float]]]:
    names = [str(name) for name in kept["history_names"]]
    history = [dict(zip(names, map(float, row), strict=True)) for row in kept["history"]]
    return Poses(*(kept[name] for name in _POSES)), history
