"""The judge: which of the wanted structures and their rivals explains each particle best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.judge.groups import (
    Group,
    Some,
    Transfers,
    groups_of,
    refined_by_group,
    values_by_group,
)
from tomadapt.judge.lead import ExpectedLeads
from tomadapt.judge.misfit import residual_power
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.null import evidence_in_noise
from tomadapt.judge.optics import (
    SAMPLE,
    MeasuredOptics,
    Sample,
    b_factor_log_likelihoods,
    defocus_sums,
    scale_log_likelihoods,
    signal_to_noise,
    with_envelope,
)
from tomadapt.judge.refine import Refined, refine
from tomadapt.judge.rivals import Hypothesis, mirror_image, mirrors, proteins, shapes
from tomadapt.judge.screen import Screen, Screened, screen_all, search_shell
from tomadapt.judge.verdicts import Verdicts, verdicts

MAX_PROTEIN_CORRELATION, MAX_SHAPE_CORRELATION = 0.9, 0.97
"""Largest correlation of a rival with a wanted structure. Above it the rival does not compete: a
protein is then a homologue or the structure itself, a shape cannot be distinguished from it at this
resolution."""
SURE_NATS = 10.0
"""Least evidence over noise of a certain label. The optics are measured on such particles, if no
rival explains them."""
HANDEDNESS_NATS, HANDEDNESS_SIGMA = 25.0, 2.5
"""The particles are taken for mirror images when their summed votes exceed both: nats, and standard
deviations of random votes. A particle's vote is at most :data:`SURE_NATS`."""
MIN_SURE_PARTICLES = 8
_Sure = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Row numbers of particles with certain labels, and their wanted structures."""
REFINED_WANTED, REFINED_RIVALS = (2, 8), 3
CLOSE_NATS = 10.0
"""The best two wanted structures are refined, and up to eight whose evidence is within this of the
best: the coarse screen ranks structures of faint particles badly."""


@dataclass(frozen=True)
class JudgeOptions:
    """Options of the judge.

    Attributes
    ----------
    reach_voxels
        Largest shift of particles from their cubes' centres; a sixteenth of the box when None.
    rivals
        Whether rivals compete with the wanted structures, besides noise (False for ablations).
    seed
        Seed of the simulated noise and of the pieces of proteins.
    """

    reach_voxels: float | None = None
    rivals: bool = True
    seed: int = 0

    def reach(self, box: int) -> float:
        """The largest shift, in voxels."""
        return box / 16 if self.reach_voxels is None else self.reach_voxels


def judge(
    cubes: Cubes,
    wanted: Sequence[Hypothesis],
    noise: Noise,
    *,
    acquisition: Acquisition | None,
    voxel_size_A: float,
    transfers: Transfers | None = None,
    options: JudgeOptions | None = None,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> Verdicts:
    """Label each particle, with its pose and probability.

    Parameters
    ----------
    cubes
        The particles, density positive.
    wanted
        The structures that the user named, on the cubes' grid.
    noise
        Noise of the cubes, at the points where they were measured.
    acquisition
        As stated; None when no CTF applies.
    voxel_size_A
        Of the cubes, in Å.
    transfers
        For particles from several tilt series: the transfer of each, which replaces that of the
        noise's points. ``acquisition`` must then be None.
    options
        See :class:`JudgeOptions`.
    progress
        Called with the stage, the number of finished steps and their total.
    """
    options = options or JudgeOptions()
    groups = groups_of(noise, transfers, len(cubes))
    shell = search_shell(noise, wanted)
    whitened = transfers is not None
    search = _Search(cubes, noise, groups, voxel_size_A, shell, whitened, options, progress)
    hypotheses = [*wanted, *mirrors(list(wanted))]
    own = search.screen(hypotheses)
    count = counter(progress, "screen", len(cubes) * (2 if options.rivals else 1))
    screened = search.screened(own, count)
    freedom = own.freedom
    hand, sure_by_hand = search.hand(screened, hypotheses, freedom)
    if hand == -1:
        hypotheses, screened = _other_hand(hypotheses, screened, len(wanted))
    dropped: tuple[tuple[str, str], ...] = ()
    similar = np.zeros((0, len(wanted)))
    if options.rivals:
        rivals = search.rivals(hand)
        of_hand = slice(len(wanted)) if hand == 1 else slice(len(wanted), 2 * len(wanted))
        with_rivals = np.stack([own.similarity(rival)[of_hand] for rival in rivals])
        dropped = _indistinguishable(wanted, rivals, with_rivals)
        stays = ~np.isin([r.name for r in rivals], [name for name, _ in dropped])
        similar = with_rivals[stays]
        others = search.screened(search.screen(rivals), count)
        hypotheses += rivals
        screened = Screened.joined([screened, others], axis=1)
    kinds = np.array([h.kind for h in hypotheses])
    names = {name for name, _ in dropped}
    competes = np.array([h.name not in names for h in hypotheses])
    evidence = screened.evidence(freedom)
    sure = _surest(evidence, np.where(competes, kinds, "dropped"))
    if len(sure[0]) < MIN_SURE_PARTICLES <= len(sure_by_hand[0]):
        # Faint particles are only certain at full resolution; rivals may explain them all the same.
        sure = _not_a_rivals(sure_by_hand, evidence, np.where(competes, kinds, "dropped"))
    optics = search.optics(screened, sure, hypotheses, acquisition)
    seen = search if optics is None else search.with_envelope(optics.b_factor_A2)
    pairs = _pairs(evidence, kinds, competes)
    refined = seen.refined(screened, pairs, hypotheses)
    null_evidence = evidence_in_noise(
        own,
        (noise, seen.pooled),
        reach_voxels=options.reach(search.box),
        seed=options.seed,
    )
    evidence = refined.log_likelihood_ratio() + screened.occam
    # A structure that finds more evidence in noise than others loses the difference.
    evidence[:, : 2 * len(wanted)] -= np.tile(null_evidence - null_evidence.mean(), 2)
    best = evidence[:, : len(wanted)].argmax(axis=1)
    found = verdicts(
        hypotheses,
        evidence,
        refined,
        residual_ratio=seen.residual_ratio(best, refined, hypotheses),
        null_evidence=float(null_evidence.mean()),
        optics=optics,
        expected=ExpectedLeads.of(_among(wanted, own), similar),
        dropped=dropped,
    )
    similarity = [float(own.similarity(h)[i]) for i, h in enumerate(mirrors(list(wanted)))]
    return replace(found, hand=hand, mirror_similarity=tuple(similarity))


@dataclass(frozen=True, eq=False)
class _Search:
    """The particles, their groups of recordings, and the options of the comparison."""

    cubes: Cubes
    pooled: Noise
    groups: Sequence[Group]
    voxel_size_A: float
    shell: int
    whitened: bool
    options: JudgeOptions
    progress: Callable[[str, int, int], None]

    @property
    def box(self) -> int:
        return self.pooled.points.n

    def screened(self, screen: Screen, count: Callable[[int], None]) -> Screened:
        """Screen all particles with the pooled noise and the mean transfer of all recordings."""
        return screen_all(self.cubes, screen, self.pooled, count)

    def screen(self, hypotheses: Sequence[Hypothesis]) -> Screen:
        """A screen of these structures, with the mean transfer of all recordings."""
        return Screen(
            hypotheses,
            self.pooled,
            shell=self.shell,
            reach_voxels=self.options.reach(self.box),
        )

    def rivals(self, hand: int) -> list[Hypothesis]:
        """Shapes, and proteins of the particles' handedness."""
        others = proteins(self.box, self.voxel_size_A, seed=self.options.seed)
        if hand == -1:
            others = [replace(h, density=mirror_image(h.density)) for h in others]
        return [*shapes(self.box, self.voxel_size_A), *others]

    def sample(self, rows: NDArray[np.int64]) -> _Search:
        """The same search for some of the particles, without progress."""
        places = [np.flatnonzero(np.isin(rows, g.rows)) for g in self.groups]
        return replace(
            self,
            cubes=Some(self.cubes, rows),
            groups=[replace(g, rows=p) for g, p in zip(self.groups, places, strict=True)],
            progress=lambda _stage, _done, _total: None,
        )

    def hand(
        self, screened: Screened, hypotheses: Sequence[Hypothesis], freedom: float
    ) -> tuple[Literal[1, -1], _Sure]:
        """Whether mirror images (the second half of the hypotheses) explain the particles better.

        Each particle votes with the difference of its evidence for both hands, at most
        :data:`SURE_NATS`. Particles of other structures vote at random.

        Returns
        -------
        hand
            -1 for mirror images.
        sure
            Certain particles at full resolution: their structure, in this hand, explains them much
            better than noise and the other hand do.
        """
        evidence = screened.evidence(freedom)
        n, half = len(evidence), evidence.shape[1] // 2
        own, mirror = evidence[:, :half].argmax(axis=1), evidence[:, half:].argmax(axis=1) + half
        rows = np.sort(np.argsort(-evidence.max(axis=1), kind="stable")[:SAMPLE])
        pairs = np.zeros(evidence.shape, dtype=bool)
        pairs[np.arange(n), own] = pairs[np.arange(n), mirror] = True
        refined = self.sample(rows).refined(screened.take(rows), pairs[rows], hypotheses)
        found = refined.log_likelihood_ratio() + screened.occam[rows]
        at = np.arange(len(rows))
        for_own, for_mirror = found[at, own[rows]], found[at, mirror[rows]]
        counted = np.maximum(for_own, for_mirror) > SURE_NATS
        votes = np.clip(for_mirror - for_own, -SURE_NATS, SURE_NATS)[counted]
        clear = votes.sum() > max(
            HANDEDNESS_NATS, HANDEDNESS_SIGMA * float(np.sqrt(np.square(votes).sum()))
        )
        if len(votes) >= MIN_SURE_PARTICLES and clear:
            sure = for_mirror - np.maximum(for_own, 0) > SURE_NATS
            return -1, (rows[sure], (mirror - half)[rows][sure])
        sure = for_own - np.maximum(for_mirror, 0) > SURE_NATS
        return 1, (rows[sure], own[rows][sure])

    def with_envelope(self, b_factor_A2: float) -> _Search:
        def damped(noise: Noise) -> Noise:
            return with_envelope(noise, b_factor_A2, self.voxel_size_A, at_least=self.shell)

        groups = [replace(g, noise=damped(g.noise)) for g in self.groups]
        return replace(self, pooled=damped(self.pooled), groups=groups)

    def refined(
        self,
        screened: Screened,
        pairs: NDArray[np.bool_],
        hypotheses: Sequence[Hypothesis],
    ) -> Refined:
        count = counter(self.progress, "refine", int(pairs.sum()))
        return refined_by_group(
            self.groups,
            lambda g: refine(
                g.of(self.cubes),
                screened.take(g.rows),
                pairs[g.rows],
                hypotheses,
                g.noise,
                shell=self.shell,
                reach_voxels=self.options.reach(self.box),
                progress=count,
            ),
        )

    def residual_ratio(
        self, best: NDArray[np.integer], refined: Refined, hypotheses: Sequence[Hypothesis]
    ) -> NDArray[np.float64]:
        """(n,) residual power of the best wanted structure, over that of noise."""
        return values_by_group(
            self.groups,
            lambda g: residual_power(
                g.of(self.cubes), best[g.rows], refined.take(g.rows), hypotheses, g.noise
            ),
        )

    def optics(
        self,
        screened: Screened,
        sure: _Sure,
        hypotheses: Sequence[Hypothesis],
        acquisition: Acquisition | None,
    ) -> MeasuredOptics | None:
        """The optics measured on particles with certain labels; None without any."""
        rows, columns = sure
        if not len(rows):
            return None
        sample = self.sample(rows)
        pairs = np.zeros((len(rows), len(hypotheses)), dtype=bool)
        pairs[np.arange(len(rows)), columns] = True
        refined = sample.refined(screened.take(rows), pairs, hypotheses)
        parts = [
            Sample(
                g.of(sample.cubes),
                columns[g.rows],
                refined.take(g.rows),
                hypotheses,
                g.noise,
                self.voxel_size_A,
            )
            for g in sample.groups
        ]
        b_factors = torch.stack([b_factor_log_likelihoods(part) for part in parts]).sum(dim=0)
        scales = torch.stack([scale_log_likelihoods(part, acquisition) for part in parts]).sum(
            dim=0
        )
        found = MeasuredOptics.of(b_factors, len(rows)).with_scale(scales)
        if acquisition is not None:
            sums = torch.stack([defocus_sums(part, acquisition) for part in parts]).sum(dim=0)
            found = found.with_defocus(sums, acquisition)
        if self.whitened:
            return found
        ratios = [signal_to_noise(part, found.b_factor_A2) for part in parts]
        return found.with_snr(np.concatenate(ratios))


def _other_hand(
    hypotheses: Sequence[Hypothesis], screened: Screened, n: int
) -> tuple[list[Hypothesis], Screened]:
    """Exchange the n wanted structures with their n mirror images."""
    order = np.arange(len(hypotheses))
    order[:n], order[n : 2 * n] = np.arange(n, 2 * n), np.arange(n)
    exchanged = [
        replace(h, density=hypotheses[i].density)
        for h, i in zip(hypotheses, order.tolist(), strict=True)
    ]
    names = ("z", "occam", "rotations", "shifts")
    columns = {name: getattr(screened, name)[:, order] for name in names}
    return exchanged, replace(screened, **columns)


def _among(wanted: Sequence[Hypothesis], screen: Screen) -> NDArray[np.float64]:
    """(w, w) correlations of the wanted structures with each other."""
    return np.stack([screen.similarity(h)[: len(wanted)] for h in wanted])


def _indistinguishable(
    wanted: Sequence[Hypothesis], rivals: Sequence[Hypothesis], similar: NDArray[np.float64]
) -> tuple[tuple[str, str], ...]:
    """Rivals that cannot be distinguished from a wanted structure at the screen's resolution.

    Parameters
    ----------
    wanted, rivals
        w and r structures.
    similar
        (r, w) correlations.
    """
    found = []
    for rival, correlations in zip(rivals, similar, strict=True):
        if correlations.max() > (
            MAX_PROTEIN_CORRELATION if rival.kind == "protein" else MAX_SHAPE_CORRELATION
        ):
            found.append((rival.name, wanted[int(correlations.argmax())].name))
    return tuple(found)


def counter(
    progress: Callable[[str, int, int], None], stage: str, total: int
) -> Callable[[int], None]:
    """A function that adds up finished steps of a stage and reports their sum."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(stage, done, total)

    return count


def _pairs(
    evidence: NDArray[np.float64], kinds: NDArray[np.str_], competes: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(n, h) pairs to refine: the best wanted structures, the mirror of the best, and rivals."""
    rows = np.arange(len(evidence))[:, None]
    pairs = np.zeros(evidence.shape, dtype=bool)
    wanted = np.flatnonzero(kinds == "wanted")
    rivals = np.flatnonzero((kinds != "wanted") & (kinds != "mirror") & competes)
    least, most = REFINED_WANTED
    best = wanted[np.argsort(-evidence[:, wanted], axis=1)[:, :most]]
    close = np.take_along_axis(evidence, best, axis=1) > evidence[rows, best[:, :1]] - CLOSE_NATS
    close[:, :least] = True
    pairs[rows, best] = close
    # Mirror images follow the wanted structures, in the same order.
    pairs[rows[:, 0], best[:, 0] + len(wanted)] = True
    if len(rivals):
        pairs[rows, rivals[np.argsort(-evidence[:, rivals], axis=1)[:, :REFINED_RIVALS]]] = True
    return pairs


def _competing_rivals(kinds: NDArray[np.str_]) -> NDArray[np.int64]:
    """Columns of what neither is wanted, nor a mirror image, nor indistinguishable from those."""
    return np.flatnonzero(~np.isin(kinds, ("wanted", "mirror", "dropped")))


def _not_a_rivals(sure: _Sure, evidence: NDArray[np.float64], kinds: NDArray[np.str_]) -> _Sure:
    """Those of the particles that no rival explains better; none where these are few."""
    rows, columns = sure
    rivals = _competing_rivals(kinds)
    if len(rivals):
        stays = evidence[rows, columns] > evidence[rows][:, rivals].max(axis=1)
        rows, columns = rows[stays], columns[stays]
    few = len(rows) < MIN_SURE_PARTICLES
    return (rows[:0], columns[:0]) if few else (rows, columns)


def _surest(evidence: NDArray[np.float64], kinds: NDArray[np.str_]) -> _Sure:
    """The particles of most certain labels; none if fewer than :data:`MIN_SURE_PARTICLES`."""
    wanted = np.flatnonzero(kinds == "wanted")
    rivals = _competing_rivals(kinds)
    best = evidence[:, wanted].argmax(axis=1)
    lead = evidence[np.arange(len(best)), best]
    if len(rivals):
        lead = np.minimum(lead, lead - evidence[:, rivals].max(axis=1) + SURE_NATS)
    sure = np.flatnonzero(lead > SURE_NATS)
    if len(sure) < MIN_SURE_PARTICLES:
        return sure[:0], best[:0]
    rows = np.sort(sure[np.argsort(-lead[sure], kind="stable")][:SAMPLE])
    return rows, best[rows]
