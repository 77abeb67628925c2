"""Verdicts of the judge: labels, kinds, probabilities and false-discovery rates of particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomadapt.judge.lead import ExpectedLeads, lead_ratios
from tomadapt.judge.misfit import fit_with_fits
from tomadapt.judge.mixture import Mixture, false_discovery_rates, temper, tempered
from tomadapt.judge.optics import MeasuredOptics
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis

GOLD_NATS = 50.0
"""Evidence of a structure over all rivals from which on a particle is none of gold."""
JUNK_KINDS = ("gold", "membrane", "filament", "edge", "sphere", "shell")
CLEAR_NATS = 10.0
"""Least evidence over noise of particles that are used to estimate the scatter of evidence."""
UNNAMED = ("unknown", "protein", "sphere", "shell")
"""Kinds of particles that may be structures that the user did not name."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Verdicts of the judge on n particles.

    Attributes
    ----------
    hypotheses
        The structures that were compared: wanted ones, then mirror images, then rivals.
    label
        (n,) the wanted structure, or −1 for none.
    kind
        (n,) ``wanted``, ``null`` (noise), ``other`` (a protein that was not named), ``unknown``
        (a wanted structure explains it only in part), or a kind of contaminant.
    score
        (n,) posterior probability of the label, or of being no wanted structure.
    best
        (n,) the wanted structure with the largest evidence, also for particles without a label.
    second
        (n,) the most probable besides what gave the label, or the kind, as an index into
        :attr:`component_names`.
    fdr
        (n,) q-value among the particles of the same label; 1 without a label.
    unknown
        (n,) probability, 0 … 1, of being a structure that was not named (:data:`UNNAMED`).
    probabilities
        (n, w + 1) of the wanted structures, and of all else together.
    evidence
        (n, h) nats against noise; −inf for structures not compared at full resolution.
    amplitude
        (n,) amplitude of the best wanted structure over the median of its particles.
    rotations, shifts
        (n, 3, 3) and (n, 3) voxels: the pose of the best wanted structure.
    mixture
        Over :attr:`component_names`.
    temper
        Factor of the evidence, see :func:`~tomadapt.judge.mixture.temper`.
    optics
        Measured optics; None when no label was certain enough.
    dropped
        Pairs of a rival and a wanted structure that cannot be distinguished; the rival does not
        compete.
    lead
        (n,) how far the label's structure leads everything else, over its evidence, see
        :func:`~tomadapt.judge.lead.lead_ratios`; of the best wanted structure without a label.
    expected_leads
        (w,) what this should be, about, for particles of each wanted structure.
    hand
        −1 when the particles are mirror images of the structures. Then the mirror images were
        compared, and poses are those of the mirror images.
    mirror_similarity
        Of each wanted structure, the largest correlation with its mirror image at the search's
        resolution, whitened.
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
    lead: NDArray[np.float64]
    expected_leads: NDArray[np.float64]
    hand: int = 1
    mirror_similarity: tuple[float, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the wanted structures."""
        return tuple(h.name for h in self.hypotheses if h.kind == "wanted")

    @property
    def component_names(self) -> tuple[str, ...]:
        """Wanted structures, each of them in part, rivals and, last, ``null``."""
        parts = tuple(f"part of {name}" for name in self.wanted)
        others = tuple(h.name for h in self.hypotheses if h.kind not in ("wanted", "mirror"))
        return (*self.wanted, *parts, *others, "null")

    def best_rival(self, place: int) -> tuple[str, float]:
        """What else explains a particle best, and its evidence in nats; noise has none."""
        rivals = [i for i, h in enumerate(self.hypotheses) if h.kind not in ("wanted", "mirror")]
        if not rivals:
            return "noise", 0.0
        best = rivals[int(self.evidence[place, rivals].argmax())]
        nats = float(self.evidence[place, best])
        return (self.hypotheses[best].name, nats) if nats > 0 else ("noise", 0.0)

    def likeliest_other(self, place: int) -> tuple[str, float]:
        """The most probable of rivals and noise, and its evidence in nats; noise has none."""
        named = len(self.wanted)
        names = self.component_names[2 * named :]
        name = names[int(self.mixture.posterior[place, 2 * named :].argmax())]
        nats = {h.name: e for h, e in zip(self.hypotheses, self.evidence[place], strict=True)}
        return (name, float(nats[name])) if name in nats else ("noise", 0.0)

    def with_gold(self, on_gold: NDArray[np.bool_]) -> Verdicts:
        """The same, with the labels of particles (n,) on very strong voxels removed.

        A particle keeps its label where its structure explains it better than all rivals by
        :data:`GOLD_NATS`: gold does not look like that.
        """
        leads = [
            label >= 0 and self.evidence[i, label] - self.best_rival(i)[1] >= GOLD_NATS
            for i, label in enumerate(self.label.tolist())
        ]
        on_gold = on_gold & ~np.array(leads, dtype=bool)
        label = np.where(on_gold, -1, self.label)
        nothing = np.zeros_like(self.probabilities)
        nothing[:, -1] = 1
        found = replace(
            self,
            label=label,
            kind=np.where(on_gold, "gold", self.kind),
            score=np.where(on_gold, 1.0, self.score),
            unknown=np.where(on_gold, 0.0, self.unknown),
            probabilities=np.where(on_gold[:, None], nothing, self.probabilities),
        )
        return found.with_rates(np.ones(len(label), dtype=bool))

    def with_rates(self, stays: NDArray[np.bool_]) -> Verdicts:
        """The same with false-discovery rates among those labelled particles (n,) that are kept."""
        counted = np.where(stays, self.label, -1)
        rates = false_discovery_rates(self.score, counted)
        return replace(self, fdr=np.where(counted >= 0, rates, 1.0))


def verdicts(
    hypotheses: Sequence[Hypothesis],
    evidence: NDArray[np.float64],
    refined: Refined,
    *,
    residual_ratio: NDArray[np.float64],
    null_evidence: float,
    optics: MeasuredOptics | None,
    expected: ExpectedLeads,
    dropped: tuple[tuple[str, str], ...] = (),
) -> Verdicts:
    """Turn evidence into proportions, probabilities, labels and false-discovery rates.

    Parameters
    ----------
    hypotheses
        The h structures that were compared.
    evidence
        (n, h) nats; −inf for pairs that were not compared.
    refined
        Poses and amplitudes.
    residual_ratio
        (n,) from :func:`~tomadapt.judge.misfit.residual_power`, of the best wanted structure.
    null_evidence
        The evidence of noise alone, in nats.
    expected
        How far the wanted structures should lead.
    optics, dropped
        Copied into the result.
    """
    kinds = np.array([h.kind for h in hypotheses])
    wanted = np.flatnonzero(kinds == "wanted")
    n, w = len(evidence), len(wanted)
    # All particles of a set have the same handedness, so mirror images do not compete one by one.
    components = np.flatnonzero(kinds != "mirror")
    table = np.concatenate([evidence[:, components], np.full((n, 1), null_evidence)], axis=1)
    first = table.argmax(axis=1)
    lead = table[np.arange(n), first] - null_evidence
    # Scatter is that of the likelihood ratio at the best pose, without the mean over poses.
    ratios = refined.log_likelihood_ratio()[:, components]
    trust = temper(ratios, np.where((first < w) & (lead > CLEAR_NATS), first, -1))
    names_dropped = {name for name, _ in dropped}
    competes = [h.name not in names_dropped for h in np.array(hypotheses)[components[w:]]]
    decoys = np.isin([*kinds[components[w:]], "null"], UNNAMED) & [*competes, True]
    trusted = tempered(table, trust, nothing=null_evidence)
    # A structure that explains a particle no better than noise is excluded, however frequent it is.
    trusted[:, :w] = np.where(table[:, :w] > null_evidence, trusted[:, :w], -np.inf)
    mixture, relative = fit_with_fits(
        trusted, refined.amplitude[:, wanted], residual_ratio, decoys, expected
    )
    posterior = mixture.posterior  # (n, wanted + the same in part + rivals + noise)
    names = np.array([*["wanted"] * w, *["unknown"] * w, *kinds[components[w:]], "null"])
    of_wanted = posterior[:, :w]
    none = 1 - of_wanted.sum(axis=1)
    label = np.where(of_wanted.max(axis=1) > none, of_wanted.argmax(axis=1), -1)
    best = table[:, :w].argmax(axis=1)
    score = np.where(label >= 0, of_wanted.max(axis=1), none)
    decisive = np.where(label >= 0, label, w + posterior[:, w:].argmax(axis=1))
    kind = names[decisive]
    others = posterior.copy()
    others[np.arange(n), decisive] = -1.0
    at = np.arange(n), wanted[best]
    _, leads = lead_ratios(table, w, expected.twins)
    return Verdicts(
        hypotheses=tuple(hypotheses),
        label=label.astype(np.int64),
        kind=np.where(kind == "protein", "other", kind),
        score=score,
        best=best.astype(np.int64),
        second=others.argmax(axis=1),
        fdr=np.where(label >= 0, false_discovery_rates(score, label), 1.0),
        unknown=posterior[:, np.isin(names, UNNAMED)].sum(axis=1),
        probabilities=np.concatenate([of_wanted, none[:, None]], axis=1),
        evidence=evidence,
        amplitude=relative[np.arange(n), best],
        rotations=refined.rotations[at],
        shifts=refined.shifts[at],
        mixture=mixture,
        temper=trust,
        optics=optics,
        dropped=dropped,
        lead=leads[np.arange(n), np.where(label >= 0, label, best)],
        expected_leads=expected.ratios,
    )
