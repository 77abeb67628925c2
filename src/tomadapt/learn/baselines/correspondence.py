"""Structural correspondence learning: features that predict the same pivots correspond.

Blitzer, McDonald and Pereira, EMNLP 2006 (SCL), with the pivots of Blitzer, Dredze and Pereira, ACL
2007. A pivot is a feature that is common in both domains and distinguishes the classes in the
source. Linear predictors of the pivots from all other features need no labels, so they are trained
on both domains. The few directions that these predictors share become additional features of the
classifier, besides x.

The papers' features are words, present or absent; ours are real numbers. Hence these differences:

- A feature is *active* above the mean of the two domains' means, so that the larger domain does
  not dominate. (With a median, half of the particles would always be active, even for a feature
  that is mostly noise.)
- x is standardised with the mean and variance of both domains together.
- The 2006 paper sets negative weights in W to 0 to keep its words sparse. Ours keep their sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from sklearn.feature_selection import mutual_info_classif
from sklearn.preprocessing import StandardScaler
from torch import nn

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.learn.baselines.heads import fit_classifier, require_two_classes
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.method import Adaptation, adapted_training
from tomadapt.learn.model import Model
from tomadapt.learn.networks import classifier
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import EpochReport
from tomadapt.learn.statistics import Statistics, with_statistics

MIN_ACTIVE_RATIO = 0.1
"""A pivot must be active, and inactive, in at least this fraction of each domain."""

Floats = NDArray[np.float64]


class CorrespondenceOptions(BaseModel):
    """Options of structural correspondence learning.

    Parameters
    ----------
    n_pivots
        m: how many pivots at most; fewer where fewer features qualify.
    dimensions
        h: directions that are kept, at most ``n_pivots``.
    pivot_penalty
        L2 penalty λ of the pivot predictors, beside a loss averaged over particles.
    inverse_penalty
        Of the classifier, as in :func:`tomadapt.learn.baselines.heads.fit_classifier`.
    statistics
        Normalisation statistics of F on the target: the ``source``'s, as F_s has them, or
        re-estimated on the ``target``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_pivots: Annotated[int, Field(ge=1)] = 32
    dimensions: Annotated[int, Field(ge=1)] = 16
    pivot_penalty: Annotated[float, Field(gt=0)] = 1e-2
    inverse_penalty: Annotated[float, Field(gt=0)] = 1.0
    statistics: Statistics = "source"


DEFAULT_OPTIONS = CorrespondenceOptions()


@dataclass(frozen=True)
class Correspondence:
    """The projection θ, and the standardisation of features before it.

    Attributes
    ----------
    mean, scale
        (f,) of both domains together; a constant feature has scale 1.
    theta
        (h, f) orthonormal rows: the leading left singular vectors of W, at most as many as the rank
        of W. Columns of pivots are 0.
    singular_values
        (min(f, m),) of W, descending.
    pivot_accuracy
        (m,) fraction of both domains' particles for which the pivot is predicted correctly.
    """

    mean: Floats
    scale: Floats
    theta: Floats
    singular_values: Floats
    pivot_accuracy: Floats

    @property
    def share(self) -> float:
        """Fraction of W's squared singular values that θ keeps (0 for W = 0)."""
        energy = self.singular_values**2
        total = float(energy.sum())
        return float(energy[: len(self.theta)].sum()) / total if total else 0.0

    @property
    def copies(self) -> int:
        """How many copies of θx are added to x; see :meth:`augment`."""
        h, f = self.theta.shape
        return max(1, round(f / h)) if h else 0

    def augment(self, features: NDArray[np.floating]) -> Floats:
        """[x; θx] of standardised x, with θx repeated: (n, f) → (n, f + copies · h).

        The paper scales each projected feature to unit variance and then multiplies it by a factor
        α that is chosen with held-out labels of the target, of which there are none here. Instead
        α² = f/h gives x and θx the same squared norm. Since the classifier's fit scales every
        column to unit variance, a factor would have no effect; k copies of a column act under the
        L2 penalty exactly as a factor √k.
        """
        x = (features - self.mean) / self.scale
        return np.concatenate([x, np.tile(x @ self.theta.T, self.copies)], axis=1)

    def fold(self, head: nn.Linear) -> nn.Linear:
        """The layer on x that equals a layer on :meth:`augment`'s features, which are linear in x.

        Parameters
        ----------
        head
            (b, f + copies · h) → (b, classes).

        Returns
        -------
        torch.nn.Linear
            (b, f) → (b, classes), equal on features as F gives them.
        """
        h, f = self.theta.shape
        weight = head.weight.detach().double().numpy()
        of_projected = weight[:, f:].reshape(len(weight), self.copies, h).sum(axis=1)
        folded = (weight[:, :f] + of_projected @ self.theta) / self.scale
        bias = head.bias.detach().double().numpy() - folded @ self.mean
        layer = classifier(f, len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(folded))
            layer.bias.copy_(torch.from_numpy(bias))
        return layer


def active(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether features are above the mean of the two domains' means: (n_s, f) and (n_t, f)."""
    means = [np.mean(domain, axis=0, dtype=np.float64) for domain in (source, target)]
    threshold = (means[0] + means[1]) / 2
    return source > threshold, target > threshold


def pivot_features(
    source: NDArray[np.floating],
    labels: NDArray[np.integer],
    target: NDArray[np.floating],
    *,
    n_pivots: int,
) -> NDArray[np.int64]:
    """Common features of most information on the label (Blitzer, Dredze and Pereira, ACL 2007).

    Parameters
    ----------
    source, target
        (n_s, f) and (n_t, f) features.
    labels
        (n_s,) of the source.
    n_pivots
        How many at most.

    Returns
    -------
    numpy.ndarray
        (m,) columns, in descending order of mutual information between the active feature and the
        label in the source. Only features that are active, and inactive, in at least
        ``MIN_ACTIVE_RATIO`` of each domain are taken, so m may be below ``n_pivots``, even 0.
    """
    of_source, of_target = active(source, target)
    shares = np.stack([of_source.mean(axis=0), of_target.mean(axis=0)])  # (2, f)
    common = np.flatnonzero(
        (shares >= MIN_ACTIVE_RATIO).all(axis=0) & (shares <= 1 - MIN_ACTIVE_RATIO).all(axis=0)
    )
    if not len(common):
        return common
    information = mutual_info_classif(of_source[:, common], labels, discrete_features=True)
    return np.asarray(common[np.argsort(-information, kind="stable")[:n_pivots]])


def modified_huber(margins: Floats) -> tuple[Floats, Floats]:
    """Loss of margins m = y·f(x), y = ±1, and its derivative by m (Ando and Zhang, JMLR 2005).

    max(0, 1 − m)² for m ≥ −1 and −4m below: a squared hinge that is linear for outliers.
    """
    gap = np.maximum(0.0, 1 - margins)
    far = margins < -1
    return np.where(far, -4 * margins, gap**2), np.where(far, -4.0, -2 * gap)


def pivot_predictors(x: Floats, signs: Floats, *, penalty: float) -> tuple[Floats, Floats]:
    """Minimise mean modified Huber loss + λ/2 ‖w‖² of each column of ``signs``.

    This is the objective of scikit-learn's ``SGDClassifier(loss="modified_huber", alpha=λ)``. It is
    smooth and convex, so L-BFGS finds its minimum deterministically.

    Parameters
    ----------
    x
        (n, f) standardised features, 0 in the columns that must not be used.
    signs
        (n, m) of ±1.
    penalty
        λ, positive; intercepts are free.

    Returns
    -------
    tuple of numpy.ndarray
        W (f, m) and intercepts (m,).
    """
    n, f = x.shape
    m = signs.shape[1]

    def objective(parameters: Floats) -> tuple[float, Floats]:
        w, b = np.split(parameters.reshape(f + 1, m), [f])
        loss, slope = modified_huber(signs * (x @ w + b))
        by_score = signs * slope / n  # (n, m)
        gradient = np.concatenate([x.T @ by_score + penalty * w, by_score.sum(0, keepdims=True)])
        return float(loss.sum() / n + penalty / 2 * (w**2).sum()), gradient.ravel()

    tight = {"maxiter": 5000, "maxfun": 10000, "gtol": 1e-7, "ftol": 1e-15}
    start = np.zeros((f + 1) * m)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=tight)
    w, b = np.split(found.x.reshape(f + 1, m), [f])
    return w, b[0]


def correspondence_projection(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    pivots: NDArray[np.integer],
    *,
    dimensions: int,
    penalty: float,
) -> Correspondence:
    """Directions of x shared by the predictors of all pivots (EMNLP 2006, steps 2 and 3).

    Parameters
    ----------
    source, target
        (n_s, f) and (n_t, f) features; no labels are used.
    pivots
        (m,) columns, at least one. Predictors do not see any of them, so no pivot is predicted from
        itself or from another pivot.
    dimensions
        h, at most m are found.
    penalty
        λ of :func:`pivot_predictors`.
    """
    both = np.concatenate([source, target]).astype(np.float64)
    scaler = StandardScaler()
    x = scaler.fit_transform(both)
    x[:, pivots] = 0
    present = np.concatenate(active(source[:, pivots], target[:, pivots]))
    signs = np.where(present, 1.0, -1.0)
    w, b = pivot_predictors(x, signs, penalty=penalty)
    left, singular_values, _ = np.linalg.svd(w, full_matrices=False)
    # Singular vectors of zero singular values are arbitrary.
    rank = int((singular_values > 1e-6 * singular_values[0]).sum())
    return Correspondence(
        mean=scaler.mean_,
        scale=scaler.scale_,
        theta=left[:, : min(dimensions, rank)].T,
        singular_values=singular_values,
        pivot_accuracy=((x @ w + b > 0) == present).mean(axis=0),
    )


def corresponding_classifier(
    correspondence: Correspondence,
    source: NDArray[np.floating],
    labels: NDArray[np.integer],
    target: NDArray[np.floating],
    *,
    n_classes: int,
    inverse_penalty: float = 1.0,
) -> nn.Linear:
    """A classifier on [x; θx], fitted to the source's labels and folded into one layer on x.

    Parameters
    ----------
    correspondence
        θ.
    source, target
        (n_s, f) and (n_t, f) features.
    labels
        (n_s,) of the source, in 0 … n_classes − 1.
    n_classes, inverse_penalty
        As for :func:`tomadapt.learn.baselines.heads.fit_classifier`.

    Returns
    -------
    torch.nn.Linear
        (b, f) → (b, n_classes) logits, for features as F gives them.
    """
    both = correspondence.augment(np.concatenate([source, target]))
    # Target particles have weight 0 in the fit, but count in the scaling of the features before it.
    # Scaled by the source alone, a feature with next to no variance there would be amplified to
    # unit variance, and its noise would dominate the predictions of the target.
    weights = np.repeat([1.0, 0.0], [len(source), len(target)])
    ignored = np.full(len(target), labels[0])
    head = fit_classifier(
        both,
        np.concatenate([labels, ignored]),
        n_classes=n_classes,
        weights=weights,
        inverse_penalty=inverse_penalty,
    )
    return correspondence.fold(head)


@dataclass(frozen=True)
class StructuralCorrespondence:
    """F_s with a classifier on [x; θx], with the interface of all methods.

    Parameters
    ----------
    source_model
        F_s and C; neither is changed.
    options
        See :class:`CorrespondenceOptions`.
    fabric
        Device of F_s; chosen automatically when None.
    """

    source_model: Model
    options: CorrespondenceOptions = DEFAULT_OPTIONS
    fabric: Fabric | None = None
    name: str = "sc"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Find θ from both domains' features and fit a new classifier to the source's labels.

        There is nothing to resume, so ``checkpoint`` is not used. Without any pivot the source
        model is returned, with a warning. The one record of the history has ``pivots`` (how many
        there are), ``pivot_accuracy`` (mean over them) and ``singular_value_share``.

        Raises
        ------
        MismatchError
            When source or target do not fit the model.
        ConfigError
            When the options do not fit the number of features.
        InputError
            When the source has a single class.
        """
        self.source_model.require_domains(source, target)
        _require_fitting(self.options, self.source_model.extractor.n_features)
        require_two_classes(source)
        fabric = self.fabric or make_fabric()
        of_source = predict(self.source_model, source, fabric=fabric).features
        model = with_statistics(self.source_model, self.options.statistics, target, fabric)
        of_target = predict(model, target, fabric=fabric).features
        pivots = pivot_features(of_source, source.labels, of_target, n_pivots=self.options.n_pivots)
        options = self.options.model_dump(mode="json")
        training = adapted_training(self.source_model, target, options=options, history=[])
        training["pivots"] = pivots.tolist()
        if not len(pivots):
            warning = (
                "structural correspondence found no pivots: no feature is active in "
                f"{MIN_ACTIVE_RATIO:.0%} to {1 - MIN_ACTIVE_RATIO:.0%} of both source and target; "
                "the source's classifier is kept"
            )
            training["adaptation_warning"] = warning
            unchanged = model.copy(method=self.name, training=training)
            return Adaptation(unchanged, warning=warning)
        correspondence = correspondence_projection(
            of_source,
            of_target,
            pivots,
            dimensions=self.options.dimensions,
            penalty=self.options.pivot_penalty,
        )
        head = corresponding_classifier(
            correspondence,
            of_source,
            source.labels,
            of_target,
            n_classes=len(source.class_names),
            inverse_penalty=self.options.inverse_penalty,
        )
        record = {
            "epoch": 1.0,
            "pivots": float(len(pivots)),
            "pivot_accuracy": float(correspondence.pivot_accuracy.mean()),
            "singular_value_share": correspondence.share,
        }
        on_epoch(record)
        training["adaptation_history"] = [record]
        adapted = model.copy(method=self.name, training=training)
        adapted.classifier.load_state_dict(head.state_dict())
        return Adaptation(adapted, [record])


def _require_fitting(options: CorrespondenceOptions, n_features: int) -> None:
    if options.n_pivots >= n_features:
        raise ConfigError(
            "n_pivots leaves no features to predict the pivots from",
            expected=f"fewer than the network's {n_features} features",
            got=options.n_pivots,
            remedy="lower n_pivots",
        )
    if options.dimensions > options.n_pivots:
        raise ConfigError(
            "dimensions is larger than the number of pivots",
            expected=f"at most n_pivots = {options.n_pivots}",
            got=options.dimensions,
            remedy="lower dimensions, or raise n_pivots",
        )
