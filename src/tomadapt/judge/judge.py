"""The judge: what explains each particle best, of wanted structures and all that rivals them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.judge.misfit import residual_power
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import (
    SAMPLE,
    MeasuredOptics,
    measure_optics,
    refine,
    with_envelope,
)
from tomadapt.judge.rivals import Hypothesis, mirrors, proteins, shapes
from tomadapt.judge.screen import Screen, Screened, search_shell
from tomadapt.judge.verdicts import Verdicts, verdicts

STEP_DEG, RIVAL_STEP_DEG = 20.0, 30.0
SAME_PROTEIN, SAME_SHAPE = 0.9, 0.97
"""A rival whose correlation with a wanted structure is higher does not compete: a protein is then a
homologue or the structure itself, a shape cannot be told from it at this resolution."""
SURE_NATS = 10.0
"""Evidence over noise from which on a particle measures the optics, if no rival explains it."""
HAND_NATS = 25.0
"""Summed evidence from which on mirror images are what the particles are."""
_FEWEST_SURE = 8
REFINED_WANTED, REFINED_RIVALS = 2, 3
_BATCH = 8
_NOISE_CUBES = 48


@dataclass(frozen=True)
class JudgeOptions:
    """How the judge compares.

    Attributes
    ----------
    reach_voxels
        How far particles may lie from their cubes' centres; a sixteenth of the box when None.
    rivals
        Whether anything but noise competes with the wanted structures (for ablations).
    seed
        Of the noise that the judge is tried on, and of the pieces of proteins.
    """

    reach_voxels: float | None = None
    rivals: bool = True
    seed: int = 0

    def reach(self, box: int) -> float:
        """How far shifts go, in voxels."""
        return box / 16 if self.reach_voxels is None else self.reach_voxels


def judge(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    noise: Noise,
    *,
    acquisition: Acquisition | None,
    voxel_size_A: float,
    options: JudgeOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> Verdicts:
    """Say what each particle is, with its pose and how sure that is.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    noise
        Of the cubes, at the points where they were measured.
    acquisition
        As stated; None where no CTF applies.
    voxel_size_A
        Of the cubes, in Å.
    options
        How to compare.
    progress
        Told of the stage, and how many of how many are done.
    """
    options = options or JudgeOptions()
    box = noise.points.n
    hypotheses = [*wanted, *mirrors(list(wanted))]
    own = _screen(hypotheses, noise, STEP_DEG, options)
    dropped: tuple[tuple[str, str], ...] = ()
    screens = [own]
    if options.rivals:
        rivals = [*shapes(box, voxel_size_A), *proteins(box, voxel_size_A, seed=options.seed)]
        other = _screen(rivals, noise, RIVAL_STEP_DEG, options)
        dropped = _indistinguishable(wanted, rivals, own)
        hypotheses += rivals
        screens.append(other)
    kinds = np.array([h.kind for h in hypotheses])
    screened = _screened(cubes, screens, noise, progress)
    hand = 1
    if _is_mirrored(screened.evidence(own.freedom)[:, : len(own.names)]):
        hand = -1
        hypotheses, screened = _other_hand(hypotheses, screened, len(wanted))
    names = {name for name, _ in dropped}
    competes = np.array([h.name not in names for h in hypotheses])
    pairs = _pairs(screened, kinds, competes, own.freedom)
    reach = options.reach(box)
    shell = search_shell(box)
    sure = _surest(screened.evidence(own.freedom), np.where(competes, kinds, "dropped"))
    optics, seen = None, noise
    if len(sure[0]):
        optics = _measured(
            _Some(cubes, sure[0]),
            screened.take(sure[0]),
            sure[1],
            hypotheses,
            noise,
            (reach, acquisition, voxel_size_A),
        )
        seen = with_envelope(noise, optics.b_factor_A2, voxel_size_A)
    told = _counter(progress, "refine", int(pairs.sum()))
    refined = refine(
        cubes, screened, pairs, hypotheses, seen, shell=shell, reach_voxels=reach, progress=told
    )
    evidence = refined.gain() + screened.occam
    spare = _climbed_in_noise(own, (noise, seen), options)
    best = evidence[:, : len(wanted)].argmax(axis=1)
    found = verdicts(
        hypotheses,
        evidence,
        refined,
        leftover=residual_power(cubes, best, refined, hypotheses, seen),
        spare=spare,
        optics=optics,
        dropped=dropped,
    )
    return replace(found, hand=hand)


def _is_mirrored(evidence: NDArray[np.float64]) -> bool:
    """Whether mirror images, the second half of the columns, explain the particles better."""
    half = evidence.shape[1] // 2
    own, mirror = evidence[:, :half].max(axis=1), evidence[:, half:].max(axis=1)
    sure = np.maximum(own, mirror) > SURE_NATS
    return bool(sure.sum() >= _FEWEST_SURE and (own - mirror)[sure].sum() < -HAND_NATS)


def _other_hand(
    hypotheses: Sequence[Hypothesis], screened: Screened, n: int
) -> tuple[list[Hypothesis], Screened]:
    """Wanted structures and their mirror images, the first 2 n, change places."""
    order = np.arange(len(hypotheses))
    order[:n], order[n : 2 * n] = np.arange(n, 2 * n), np.arange(n)
    exchanged = [
        replace(h, density=hypotheses[i].density)
        for h, i in zip(hypotheses, order.tolist(), strict=True)
    ]
    names = ("z", "occam", "rotations", "shifts")
    columns = {name: getattr(screened, name)[:, order] for name in names}
    return exchanged, replace(screened, **columns)


def _screen(
    hypotheses: Sequence[Hypothesis], noise: Noise, step_deg: float, options: JudgeOptions
) -> Screen:
    box = noise.points.n
    return Screen(
        hypotheses,
        noise,
        step_deg=step_deg,
        shell=search_shell(box),
        reach_voxels=options.reach(box),
    )


def _indistinguishable(
    wanted: Sequence[Hypothesis], rivals: Sequence[Hypothesis], screen: Screen
) -> tuple[tuple[str, str], ...]:
    """Rivals that look like a wanted structure at the resolution of the wanted ones' screen."""
    found = []
    for rival in rivals:
        alike = screen.similarity(rival)[: len(wanted)]
        if alike.max() > (SAME_PROTEIN if rival.kind == "protein" else SAME_SHAPE):
            found.append((rival.name, wanted[int(alike.argmax())].name))
    return tuple(found)


def screen_all(
    cubes: Cubes, screen: Screen, noise: Noise, progress: Callable[[int], None] = lambda _: None
) -> Screened:
    """All particles through one screen, batch by batch."""
    parts = []
    with torch.inference_mode():
        for first in range(0, len(cubes), _BATCH):
            rows = range(first, min(first + _BATCH, len(cubes)))
            parts.append(screen(noise.transforms(cubes.read(rows))))
            progress(len(rows))
    return Screened.joined(parts)


def _counter(
    progress: Callable[[str, int, int], None], stage: str, total: int
) -> Callable[[int], None]:
    """What adds up how much of a stage is done, and tells it."""
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress(stage, done, total)

    return told


def _screened(
    cubes: Cubes,
    screens: Sequence[Screen],
    noise: Noise,
    progress: Callable[[str, int, int], None],
) -> Screened:
    told = _counter(progress, "screen", len(cubes) * len(screens))
    return Screened.joined([screen_all(cubes, s, noise, told) for s in screens], axis=1)


def _pairs(
    screened: Screened, kinds: NDArray[np.str_], competes: NDArray[np.bool_], freedom: float
) -> NDArray[np.bool_]:
    """(n, h) what to refine: the best few wanted structures, one's mirror, the best rivals."""
    evidence = screened.evidence(freedom)
    rows = np.arange(len(evidence))[:, None]
    pairs = np.zeros(evidence.shape, dtype=bool)
    wanted = np.flatnonzero(kinds == "wanted")
    rivals = np.flatnonzero((kinds != "wanted") & (kinds != "mirror") & competes)
    best = wanted[np.argsort(-evidence[:, wanted], axis=1)[:, :REFINED_WANTED]]
    pairs[rows, best] = True
    # Mirror images follow the wanted structures in the same order.
    pairs[rows[:, 0], best[:, 0] + len(wanted)] = True
    if len(rivals):
        pairs[rows, rivals[np.argsort(-evidence[:, rivals], axis=1)[:, :REFINED_RIVALS]]] = True
    return pairs


def _surest(
    evidence: NDArray[np.float64], kinds: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The particles that are most clearly a wanted structure, and which; none where few are."""
    wanted = np.flatnonzero(kinds == "wanted")
    rivals = np.flatnonzero(~np.isin(kinds, ("wanted", "mirror", "dropped")))
    best = evidence[:, wanted].argmax(axis=1)
    lead = evidence[np.arange(len(best)), best]
    if len(rivals):
        lead = np.minimum(lead, lead - evidence[:, rivals].max(axis=1) + SURE_NATS)
    sure = np.flatnonzero(lead > SURE_NATS)
    if len(sure) < _FEWEST_SURE:
        return sure[:0], best[:0]
    rows = np.sort(sure[np.argsort(-lead[sure], kind="stable")][:SAMPLE])
    return rows, best[rows]


def _measured(
    sample: Cubes,
    screened: Screened,
    columns: NDArray[np.int64],
    hypotheses: Sequence[Hypothesis],
    noise: Noise,
    about: tuple[float, Acquisition | None, float],
) -> MeasuredOptics:
    """The optics that some particles show, each with its structure (n,).

    ``about`` holds the reach in voxels, the acquisition and the voxel size.
    """
    reach, acquisition, voxel_size_A = about
    rows = np.arange(len(columns))
    pairs = np.zeros((len(columns), len(hypotheses)), dtype=bool)
    pairs[rows, columns] = True
    refined = refine(
        sample,
        screened,
        pairs,
        hypotheses,
        noise,
        shell=search_shell(noise.points.n),
        reach_voxels=reach,
    )
    return measure_optics(
        sample,
        rows,
        columns,
        refined,
        hypotheses,
        noise,
        acquisition=acquisition,
        voxel_size_A=voxel_size_A,
    )


@dataclass(frozen=True, eq=False)
class _Some:
    """Some of the cubes, by position."""

    cubes: Cubes
    rows: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> torch.Tensor:
        return self.cubes.read(self.rows[np.asarray(indices)])


@dataclass(frozen=True, eq=False)
class _Held:
    """Cubes in memory."""

    volumes: torch.Tensor

    def __len__(self) -> int:
        return len(self.volumes)

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> torch.Tensor:
        return self.volumes[np.asarray(indices)]


def _climbed_in_noise(screen: Screen, noises: tuple[Noise, Noise], options: JudgeOptions) -> float:
    """The evidence that is worth nothing, in nats, from simulated noise.

    The screen's evidence is a mean over poses, but the last climb is a maximum, and finds some
    likelihood in noise too. A likelihood ratio has the mean 1 in noise; of evidence that is normal
    there with mean m and variance v, that is so less m + v / 2.
    """
    noise, seen = noises  # as the screen has it, and with the envelope that was measured
    cubes = _Held(noise.sample(_NOISE_CUBES, seed=options.seed))
    screened = screen_all(cubes, screen, noise)
    n_wanted = len(screen.names) // 2  # their mirror images follow
    best = screened.evidence(screen.freedom)[:, :n_wanted].argmax(axis=1)
    pairs = np.zeros((len(cubes), len(screen.names)), dtype=bool)
    pairs[np.arange(len(cubes)), best] = True
    refined = refine(
        cubes,
        screened,
        pairs,
        screen.hypotheses,
        seen,
        shell=screen.shell,
        reach_voxels=options.reach(noise.points.n),
    )
    evidence = refined.gain() + screened.occam
    found = evidence[np.arange(len(cubes)), best]
    return float(found.mean() + found.var() / 2)
