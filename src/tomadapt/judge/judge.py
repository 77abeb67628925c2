"""The judge: what explains each particle best, of wanted structures and all that rivals them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.judge.mixture import Mixture, false_discovery_rates, fit_mixture, temper
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import (
    SAMPLE,
    MeasuredOptics,
    Refined,
    measure_optics,
    refine,
    with_envelope,
)
from tomadapt.judge.rivals import Hypothesis, mirrors, proteins, shapes
from tomadapt.judge.screen import Screen, Screened, search_shell

STEP_DEG, RIVAL_STEP_DEG = 20.0, 30.0
SAME_PROTEIN, SAME_SHAPE = 0.9, 0.97
"""A rival whose correlation with a wanted structure is higher does not compete: a protein is then a
homologue or the structure itself, a shape cannot be told from it at this resolution."""
SURE_NATS = 10.0
"""A particle's lead over noise and over all rivals from which on it helps to measure the optics."""
HAND_NATS = 25.0
"""Summed evidence from which on mirror images are what the particles are."""
_FEWEST_SURE = 8
REFINED_WANTED, REFINED_RIVALS = 2, 3
_BATCH = 8
_NOISE_CUBES = 32
JUNK_KINDS = ("gold", "membrane", "filament", "edge", "sphere", "shell")
UNNAMED = ("protein", "sphere", "shell")
"""Kinds that may be particles of a structure that was not named."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What the judge says of each particle.

    Attributes
    ----------
    hypotheses
        What was compared: wanted structures first, then mirror images, then rivals.
    label
        (n,) the wanted structure, or −1 for none.
    kind
        (n,) ``wanted``, ``null`` (noise), ``other`` (a protein that was not named), ``unknown``
        (a wanted structure explains it in part), or the kind of junk.
    score
        (n,) posterior probability of the label where there is one, else that of being none.
    best
        (n,) the wanted structure with the largest evidence, label or not.
    second
        (n,) index of the second most probable of all hypotheses.
    fdr
        (n,) q-value among the particles of the same label; 1 without a label.
    unknown
        (n,) 0 … 1, how probably it is a particle of no wanted structure.
    probabilities
        (n, w + 1) of the wanted structures, and of everything else.
    evidence
        (n, h) nats against noise; −inf where it was not compared at full resolution.
    amplitude
        (n,) of the best wanted structure over the median of its particles.
    rotations, shifts
        (n, 3, 3) and (n, 3) voxels, of the best wanted structure.
    mixture
        Over wanted structures, rivals and, last, noise.
    temper
        What evidence was multiplied by, see :func:`~tomadapt.judge.mixture.temper`.
    optics
        As measured; None where no particle was sure.
    dropped
        Rivals that cannot be told from a wanted structure, with that structure.
    hand
        −1 where the particles are mirror images of the structures: then these were compared, and
        poses are those of the mirror images.
    """

    hypotheses: tuple[Hypothesis, ...]
    label: NDArray[np.int64]
    kind: NDArray[np.str_]
    score: NDArray[np.float64]
    best: NDArray[np.int64]
    second: NDArray[np.int64]
    fdr: NDArray[np.float64]
    unknown: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    evidence: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    mixture: Mixture
    temper: float
    optics: MeasuredOptics | None
    dropped: tuple[tuple[str, str], ...]
    hand: int = 1

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the wanted structures."""
        return tuple(h.name for h in self.hypotheses if h.kind == "wanted")

    def with_gold(self, on_gold: NDArray[np.bool_]) -> Verdicts:
        """The same, but particles (n,) that are on gold have no label, whatever explains them."""
        label = np.where(on_gold, -1, self.label)
        return replace(
            self,
            label=label,
            kind=np.where(on_gold, "gold", self.kind),
            score=np.where(on_gold, 1.0, self.score),
            unknown=np.where(on_gold, 0.0, self.unknown),
            fdr=np.where(on_gold, 1.0, self.fdr),
        )


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
    optics, seen = _measured(
        cubes,
        screened,
        kinds,
        hypotheses,
        noise,
        own.freedom,
        shell=shell,
        reach=reach,
        acquisition=acquisition,
        voxel_size_A=voxel_size_A,
    )
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress("refine", done, int(pairs.sum()))

    refined = refine(
        cubes, screened, pairs, hypotheses, seen, shell=shell, reach_voxels=reach, progress=told
    )
    evidence = refined.gain() + screened.occam
    spare = _climbed_in_noise(own, hypotheses[: len(own.names)], (noise, seen), shell, options)
    found = verdicts(hypotheses, evidence, refined, spare=spare, optics=optics, dropped=dropped)
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


def _screened(
    cubes: Cubes,
    screens: Sequence[Screen],
    noise: Noise,
    progress: Callable[[str, int, int], None],
) -> Screened:
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress("screen", done, len(cubes) * len(screens))

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


def _measured(
    cubes: Cubes,
    screened: Screened,
    kinds: NDArray[np.str_],
    hypotheses: Sequence[Hypothesis],
    noise: Noise,
    freedom: float,
    *,
    shell: int,
    reach: float,
    acquisition: Acquisition | None,
    voxel_size_A: float,
) -> tuple[MeasuredOptics | None, Noise]:
    """The optics that the surest particles show, and the noise with the envelope they show."""
    evidence = screened.evidence(freedom)
    wanted = np.flatnonzero(kinds == "wanted")
    rivals = np.flatnonzero((kinds != "wanted") & (kinds != "mirror"))
    best = evidence[:, wanted].argmax(axis=1)
    lead = evidence[np.arange(len(best)), best]
    if len(rivals):
        lead = np.minimum(lead, lead - evidence[:, rivals].max(axis=1) + SURE_NATS)
    sure = np.flatnonzero(lead > SURE_NATS)
    if len(sure) < _FEWEST_SURE:
        return None, noise
    chosen = np.sort(sure[np.argsort(-lead[sure], kind="stable")][:SAMPLE])
    pairs = np.zeros((len(chosen), len(hypotheses)), dtype=bool)
    pairs[np.arange(len(chosen)), best[chosen]] = True
    sample = _Some(cubes, chosen)
    refined = refine(
        sample,
        screened.take(chosen),
        pairs,
        hypotheses,
        noise,
        shell=shell,
        reach_voxels=reach,
    )
    optics = measure_optics(
        sample,
        np.arange(len(chosen)),
        best[chosen],
        refined,
        hypotheses,
        noise,
        acquisition=acquisition,
        voxel_size_A=voxel_size_A,
    )
    return optics, with_envelope(noise, optics.b_factor_A2, voxel_size_A)


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


def _climbed_in_noise(
    screen: Screen,
    hypotheses: Sequence[Hypothesis],
    noises: tuple[Noise, Noise],
    shell: int,
    options: JudgeOptions,
) -> float:
    """The evidence that climbing finds in noise alone, in nats: the mean over simulated noise.

    The screen's evidence is a mean over poses, but the last climb is a maximum, and finds some
    likelihood in noise too.
    """
    noise, seen = noises  # as the screen has it, and with the envelope that was measured
    cubes = _Held(noise.sample(_NOISE_CUBES, seed=options.seed))
    screened = screen_all(cubes, screen, noise)
    n_wanted = len(hypotheses) // 2  # their mirror images follow
    best = screened.evidence(screen.freedom)[:, :n_wanted].argmax(axis=1)
    pairs = np.zeros((len(cubes), len(hypotheses)), dtype=bool)
    pairs[np.arange(len(cubes)), best] = True
    refined = refine(
        cubes,
        screened,
        pairs,
        hypotheses,
        seen,
        shell=shell,
        reach_voxels=options.reach(noise.points.n),
    )
    evidence = refined.gain() + screened.occam
    return float(np.mean(evidence[np.arange(len(cubes)), best]))


def verdicts(
    hypotheses: Sequence[Hypothesis],
    evidence: NDArray[np.float64],
    refined: Refined,
    *,
    spare: float,
    optics: MeasuredOptics | None,
    dropped: tuple[tuple[str, str], ...] = (),
) -> Verdicts:
    """Weigh the evidence: proportions, probabilities, labels and their false-discovery rates.

    Parameters
    ----------
    hypotheses
        The h that were compared.
    evidence
        (n, h) nats; −inf where a particle was not compared with a structure.
    refined
        Poses and amplitudes.
    spare
        What noise alone has of evidence.
    optics, dropped
        To be handed on.
    """
    kinds = np.array([h.kind for h in hypotheses])
    wanted = np.flatnonzero(kinds == "wanted")
    n = len(evidence)
    # A set of particles has one hand: its mirror images do not compete particle by particle.
    components = np.flatnonzero(kinds != "mirror")
    table = np.concatenate([evidence[:, components], np.full((n, 1), spare)], axis=1)
    trust = temper(
        table[:, :-1], np.where(table.argmax(axis=1) < len(wanted), table.argmax(axis=1), -1)
    )
    mixture = fit_mixture(trust * table)
    amplitude = _relative_amplitudes(refined, wanted, mixture)
    table = trust * table
    table[:, : len(wanted)] -= amplitude.penalty
    mixture = fit_mixture(table)
    posterior = mixture.posterior
    order = np.argsort(-posterior, axis=1, kind="stable")
    label = np.where(order[:, 0] < len(wanted), order[:, 0], -1)
    best = table[:, : len(wanted)].argmax(axis=1)
    of_wanted = posterior[:, : len(wanted)]
    score = np.where(label >= 0, of_wanted.max(axis=1), 1 - of_wanted.sum(axis=1))
    fdr = false_discovery_rates(score, label)
    names = np.array([*kinds[components], "null"])
    kind = np.where(names[order[:, 0]] == "protein", "other", names[order[:, 0]])
    unnamed = posterior[:, np.flatnonzero(np.isin(names, UNNAMED))].sum(axis=1)
    at = np.arange(n), wanted[best]
    return Verdicts(
        hypotheses=tuple(hypotheses),
        label=label.astype(np.int64),
        kind=kind,
        score=score,
        best=best.astype(np.int64),
        second=order[:, 1].astype(np.int64),
        fdr=np.where(label >= 0, fdr, 1.0),
        unknown=unnamed,
        probabilities=np.concatenate([of_wanted, 1 - of_wanted.sum(axis=1, keepdims=True)], axis=1),
        evidence=evidence,
        amplitude=amplitude.relative[np.arange(n), best],
        rotations=refined.rotations[at],
        shifts=refined.shifts[at],
        mixture=mixture,
        temper=trust,
        optics=optics,
        dropped=dropped,
    )


AMPLITUDE_SPREAD = 0.15
"""Particles of one class in one tomogram scatter at least so much in contrast."""


@dataclass(frozen=True, eq=False)
class _Amplitudes:
    """(n, w) amplitudes over their class's median, and what that costs in nats."""

    relative: NDArray[np.float64]
    penalty: NDArray[np.float64]


def _relative_amplitudes(
    refined: Refined, wanted: NDArray[np.integer], mixture: Mixture
) -> _Amplitudes:
    amplitude, z = refined.amplitude[:, wanted], refined.z[:, wanted]
    relative = np.ones_like(amplitude)
    penalty = np.zeros_like(amplitude)
    for column in range(len(wanted)):
        sure = (mixture.posterior[:, column] > 0.5) & np.isfinite(amplitude[:, column])
        if sure.sum() < _FEWEST_SURE:
            continue
        middle = np.median(amplitude[sure, column])
        ratio = amplitude[:, column] / middle
        spread = 1.4826 * np.median(np.abs(ratio[sure] - 1))
        # The error of one amplitude is that of its z, which is 1.
        error = ratio / np.maximum(z[:, column], 1.0)
        variance = max(spread, AMPLITUDE_SPREAD) ** 2 + error**2
        known = np.isfinite(ratio)
        relative[known, column] = ratio[known]
        penalty[known, column] = 0.5 * ((ratio - 1) ** 2 / variance)[known]
    return _Amplitudes(relative, penalty)
