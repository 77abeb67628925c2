"""Importance weighting of source particles by a density ratio (KLIEP, Sugiyama et al. 2008).

Source particles get the weights w(x) = p_target(x) / p_source(x) of their features, and C is fitted
again to the weighted source. The features are not adapted.

Sugiyama, Suzuki, Nakajima, Kashima, von Bünau, Kawanabe, "Direct importance estimation for
covariate shift adaptation", Ann. Inst. Stat. Math. 60, 699–746 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.preprocessing import StandardScaler

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import ConfigError, InputError
from tomadapt.learn.baselines.heads import fit_classifier, require_two_classes
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.method import Adaptation, adapted_training
from tomadapt.learn.model import Model
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import EpochReport
from tomadapt.learn.statistics import Statistics, with_statistics

Array = NDArray[np.float64]

WIDTH_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
"""Kernel widths to choose from, as multiples of the target's median distance."""

TOLERANCE_NATS, CROSS_VALIDATION_TOLERANCE_NATS = 1e-3, 1e-2
"""How far the mean log-likelihood may end below its maximum, in nats: for the result, and for the
comparison of widths. The second takes a tenth of the time and chooses widths that are as good.
"""

CENTRES, FOLDS = 6, 7
"""Keys that are combined with the seed of random numbers; lower ones are in ``learn/engine.py``."""

MAX_LOG_FLOAT64 = math.log(np.finfo(np.float64).max)


class ImportanceOptions(BaseModel):
    """Options of importance estimation.

    Parameters
    ----------
    n_centres
        Largest number of kernels: b of the paper, which takes 100.
    folds
        Parts of the cross-validation that chooses the kernel width.
    width_factors
        Kernel widths to choose from, as multiples of the target's median distance.
    inverse_penalty
        For the weighted classifier, as for :func:`tomadapt.learn.baselines.heads.fit_classifier`.
    statistics
        Normalisation statistics of F on the target: the ``source``'s, as F_s has them, or
        re-estimated on the ``target``.
    seed
        Seed of the kernels' centres and the folds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_centres: Annotated[int, Field(ge=1)] = 100
    folds: Annotated[int, Field(ge=2)] = 5
    width_factors: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
    ] = WIDTH_FACTORS
    inverse_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    statistics: Statistics = "source"
    seed: Annotated[int, Field(ge=0)] = 0


DEFAULT_OPTIONS = ImportanceOptions()


@dataclass(frozen=True)
class DensityRatio:
    """w(x) = Σ_l α_l exp(−|x − c_l|² / 2σ²).

    Attributes
    ----------
    centres
        (l, f): c_l, drawn from the target.
    width
        σ.
    log_alpha
        (l,) log α_l, −inf for α_l = 0. (α itself may overflow when the domains are far apart.)
    cross_validation
        For each width that was tried, the mean log w (at most log n) of held-out target points.
    """

    centres: Array
    width: float
    log_alpha: Array
    cross_validation: dict[float, float]

    @property
    def alpha(self) -> Array:
        """(l,) coefficients of the kernels, not negative; at most the largest float64."""
        return np.exp(np.minimum(self.log_alpha, MAX_LOG_FLOAT64))

    def log(self, x: NDArray[np.floating]) -> Array:
        """(n, f) → (n,) log w(x): finite where w(x) itself would underflow or overflow."""
        squared = cdist(_points(x, "the points"), self.centres, "sqeuclidean")  # (n, l)
        return _log_sum(self.log_alpha - squared / (2 * self.width**2), axis=1)

    def __call__(self, x: NDArray[np.floating]) -> Array:
        """(n, f) → (n,) w(x), not negative; at most the largest float64."""
        return np.exp(np.minimum(self.log(x), MAX_LOG_FLOAT64))


def density_ratio(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    n_centres: int = DEFAULT_OPTIONS.n_centres,
    folds: int = DEFAULT_OPTIONS.folds,
    width_factors: Sequence[float] = WIDTH_FACTORS,
    seed: int = DEFAULT_OPTIONS.seed,
) -> DensityRatio:
    """Estimate p_target / p_source by KLIEP; the kernel width is chosen by cross-validation.

    The mean of log w over the target is maximised subject to α ≥ 0 and a mean of w over the
    source of 1 (Eq. 11 of Sugiyama et al. 2008). The width is chosen by likelihood
    cross-validation (their Fig. 2): a part of the target is held out, and no centres are drawn
    from it.

    One difference from the paper: a held-out w counts as at most n, the largest weight that a
    source particle can have when their mean is 1. Without this bound the likelihood is unbounded
    for target points outside the source, and kernels too narrow to reach any source point would be
    chosen. Of equally good widths the widest is taken.

    Parameters
    ----------
    source, target
        (n, f) and (m, f), in units that make the axes comparable.
    n_centres
        Largest number of kernels; their centres are drawn from the target.
    folds
        Parts of the cross-validation; at most m.
    width_factors
        Kernel widths to choose from, as multiples of the target's median distance.
    seed
        Seed of the centres and the folds.

    Raises
    ------
    ConfigError
        For fewer than one centre, fewer than two folds, no width, or a width that is not positive.
    InputError
        For points that are not finite, not of shape (n, f) or of different f, and for fewer than
        two target points.
    """
    factors = np.asarray(width_factors, dtype=np.float64)
    if n_centres < 1 or folds < 2 or len(factors) == 0 or not (factors > 0).all():
        raise ConfigError(
            "options of the density ratio",
            expected="n_centres of 1 or more, folds of 2 or more, positive width_factors",
            got=f"{n_centres}, {folds}, {list(width_factors)}",
            remedy="correct them",
        )
    x_s, x_t = _points(source, "the source"), _points(target, "the target")
    if x_s.shape[1] != x_t.shape[1]:
        raise InputError(
            "source and target differ in their number of features",
            expected=f"{x_s.shape[1]} (source)",
            got=f"{x_t.shape[1]} (target)",
            remedy="compute both with one model",
        )
    if len(x_t) < 2:
        raise _too_few(len(x_t))
    centres = _draw(x_t, n_centres, np.random.SeedSequence(seed, spawn_key=(CENTRES,)))
    widths = factors * _scale(x_s, x_t, centres)
    held_out = np.zeros((len(widths), len(x_t)))  # log w of each target point, (widths, m)
    of_folds = np.random.SeedSequence(seed, spawn_key=(FOLDS,))
    order = np.random.default_rng(of_folds).permutation(len(x_t))
    for fold, part in enumerate(np.array_split(order, min(folds, len(x_t)))):
        rest = np.delete(x_t, part, axis=0)
        c = _draw(rest, n_centres, np.random.SeedSequence(seed, spawn_key=(CENTRES, fold)))
        # Squared distances to the centres: (n, l), (m − part, l) and (part, l).
        to_source, to_rest, to_part = (cdist(x, c, "sqeuclidean") for x in (x_s, rest, x_t[part]))
        for row, width in enumerate(widths):
            log_alpha, _ = maximise_likelihood(
                to_source, to_rest, width=width, tolerance=CROSS_VALIDATION_TOLERANCE_NATS
            )
            log_w = _log_sum(log_alpha - to_part / (2 * width**2), axis=1)  # (part,)
            held_out[row, part] = np.minimum(log_w, math.log(len(x_s)))
    scores = held_out.mean(axis=1)
    width = float(widths[scores == scores.max()].max())
    to_source, to_target = (cdist(x, centres, "sqeuclidean") for x in (x_s, x_t))
    log_alpha, _ = maximise_likelihood(to_source, to_target, width=width)
    table = {float(w): float(s) for w, s in zip(widths, scores, strict=True)}
    return DensityRatio(centres, width, log_alpha, table)


def _too_few(n: int) -> InputError:
    return InputError(
        "too few target particles to choose a kernel width by cross-validation",
        expected="2 or more",
        got=n,
        remedy="give more target particles",
    )


def maximise_likelihood(
    to_source: Array, to_target: Array, *, width: float, tolerance: float = TOLERANCE_NATS
) -> tuple[Array, list[float]]:
    """The coefficients of KLIEP for given centres and width, by expectation–maximisation.

    Let b_l be the mean of kernel l over the source and β_l = α_l b_l. By the constraints the β_l
    are mixture proportions, and Eq. 11 of Sugiyama et al. 2008 is their maximum-likelihood
    problem, which is concave. Instead of the paper's projected gradient ascent we use
    expectation–maximisation, β_l ← β_l g_l with the gradient g. It has no step size, both
    constraints always hold, and J never decreases. The distance of J from its maximum is at most
    max g − 1, and at most log(L)/k after k steps from equal proportions (Cover, IEEE Trans. Inf.
    Theory 30, 369, 1984); these bounds end the loop.

    Parameters
    ----------
    to_source, to_target
        (n, l) and (m, l) squared distances to the centres.
    width
        σ, in the unit of the distances.
    tolerance
        How far J may end below its maximum, in nats.

    Returns
    -------
    numpy.ndarray
        (l,) log α.
    list of float
        J, the mean of log w over the target, at each iteration.
    """
    log_b = _log_sum(-to_source / (2 * width**2), axis=0) - math.log(len(to_source))  # (l,)
    log_A = -to_target / (2 * width**2) - log_b  # (m, l): kernel l at point m, over b_l
    # Divided by the largest entry of its row, so that no row underflows to zeros.
    shift = log_A.max(axis=1, keepdims=True)  # (m, 1)
    A = np.exp(log_A - shift)  # (m, l)
    beta = np.full(A.shape[1], 1 / A.shape[1])  # (l,)
    objective = []
    for _ in range(math.ceil(math.log(len(beta)) / tolerance) + 1):
        mixture = A @ beta  # (m,): w at the target points, divided by exp(shift)
        objective.append(float((np.log(mixture) + shift[:, 0]).mean()))
        g = A.T @ (1 / mixture) / len(A)  # (l,): gradient of J by β; the row scale cancels
        if g.max() - 1 <= tolerance:
            break
        beta *= g
        beta /= beta.sum()  # corrects rounding: the sum is 1
    with np.errstate(divide="ignore"):  # log 0 = −inf is intended
        return np.log(beta) - log_b, objective


def effective_sample_size(weights: Array) -> float:
    """Kish's effective sample size n_eff = (Σ w)² / Σ w²."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _log_sum(terms: Array, axis: int) -> Array:
    return np.asarray(logsumexp(terms, axis=axis), dtype=np.float64)


def _draw(x: Array, n: int, seed: np.random.SeedSequence) -> Array:
    rng = np.random.default_rng(seed)
    return x[rng.choice(len(x), size=min(n, len(x)), replace=False)]


def _points(x: NDArray[np.floating], what: str) -> Array:
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        finite = "finite" if np.isfinite(points).all() else "not all finite"
        raise InputError(
            f"the features of {what} cannot be used",
            expected="finite numbers of shape (n, f)",
            got=f"shape {points.shape}, {finite}",
            remedy="check the particles and the model",
        )
    return points


def _scale(source: Array, target: Array, centres: Array) -> float:
    """Median distance of target points from the centres, or of source points if that is 0."""
    for x in (target, source):
        distances = cdist(x, centres)
        if (distances > 0).any():
            return float(np.median(distances[distances > 0]))
    return 1.0  # all points are equal, and every width gives w = 1


@dataclass(frozen=True)
class ImportanceEstimation:
    """F_s with a C fitted again to the source particles, weighted by KLIEP.

    Parameters
    ----------
    source_model
        F_s and C.
    options
        See :class:`ImportanceOptions`.
    fabric
        Device and precision; chosen automatically when None.
    """

    source_model: Model
    options: ImportanceOptions = DEFAULT_OPTIONS
    fabric: Fabric | None = None
    name: str = "ie"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Fit C to the weighted features of the source; the model has a copy of F_s.

        Features are first standardised by the source's means and standard deviations. When the
        target lies far from the source, few source particles carry all the weight. A warning is
        given when n_eff is below 1 % of the source particles, or below two per class; C is fitted
        nevertheless.

        There is no training to resume, so ``checkpoint`` is not used.

        Raises
        ------
        MismatchError
            When the data do not fit the model, or the source has other classes.
        InputError
            When the source has particles of one class only, or the target fewer than two.
        """
        self.source_model.require_domains(source, target)
        require_two_classes(source)
        if len(target) < 2:
            raise _too_few(len(target))
        fabric = self.fabric or make_fabric()
        f_s = predict(self.source_model, source, fabric=fabric).features.astype(np.float64)
        model = with_statistics(self.source_model, self.options.statistics, target, fabric)
        f_t = predict(model, target, fabric=fabric).features.astype(np.float64)
        scaler = StandardScaler().fit(f_s)
        z_s, z_t = scaler.transform(f_s), scaler.transform(f_t)
        how = self.options.model_dump(exclude={"inverse_penalty", "statistics"})
        ratio = density_ratio(z_s, z_t, **how)
        weights = ratio(z_s)
        n_eff = effective_sample_size(weights)
        record = {
            "epoch": 1,
            "n_eff": n_eff,
            "width": ratio.width,
            "mean_log_likelihood": ratio.cross_validation[ratio.width],
        }
        on_epoch(record)
        n_classes = len(source.class_names)
        enough = max(0.01 * len(source), 2 * n_classes)
        warning = None
        if n_eff < enough:
            warning = (
                f"importance weights are degenerate: {len(source)} source particles are worth "
                f"{n_eff:.1f}, and a classifier needs at least {enough:.0f}"
            )
        training = adapted_training(
            self.source_model,
            target,
            options=self.options.model_dump(mode="json"),
            history=[record],
            warning=warning,
        )
        model = model.copy(method=self.name, training=training)
        layer = fit_classifier(
            f_s,
            source.labels,
            n_classes=n_classes,
            weights=weights,
            inverse_penalty=self.options.inverse_penalty,
        )
        model.classifier.load_state_dict(layer.state_dict())
        return Adaptation(model, [record], warning)
