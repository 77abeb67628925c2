from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from densratio import densratio
from densratio.KLIEP import KLIEP_optimize_alpha
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.preprocessing import StandardScaler

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.learn.baselines.heads import fit_classifier
from tomadapt.learn.baselines.importance import (
    TOLERANCE_NATS,
    ImportanceEstimation,
    ImportanceOptions,
    density_ratio,
    effective_sample_size,
    maximise_likelihood,
)
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.prediction import predict

SOURCE = norm(0, 1)
TARGETS = {"mean": norm(0.5, 1), "variance": norm(0, 0.6), "both": norm(0.5, 0.8)}


def draw(case, seed, n=3000):
    rng = np.random.default_rng(seed)
    return (d.rvs((n, 1), random_state=rng) for d in (SOURCE, TARGETS[case]))


@cache
def estimate(case, seed):
    return density_ratio(*draw(case, seed), seed=seed)


def central(distribution, n=2000):
    """Points of equal probability in the central 90 % of a distribution, (n, 1)."""
    return distribution.ppf(0.05 + 0.9 * (np.arange(n) + 0.5) / n)[:, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", TARGETS)
def test_known_ratio_of_gaussians_is_found(case, seed):
    """Mean relative error below 10 % where 90 % of either domain lies."""
    target = TARGETS[case]
    for region in (SOURCE, target):
        x = central(region)
        true = target.pdf(x[:, 0]) / SOURCE.pdf(x[:, 0])
        assert np.mean(np.abs(estimate(case, seed)(x) / true - 1)) < 0.1
        assert np.mean(np.abs(1 / true - 1)) > 0.2  # weights of 1 would not do


@pytest.mark.parametrize("seed", range(3))
def test_weights_agree_with_those_of_densratio(seed):
    """Least squares in place of likelihood, and other centres: the same ratio."""
    ours = estimate("both", seed)
    source, target = draw("both", seed)
    np.random.seed(seed)  # noqa: NPY002 - densratio draws its centres from the global generator
    theirs = densratio(target, source, method="uLSIF", sigma=[ours.width], verbose=False)
    a, b = ours(source), theirs.compute_density_ratio(source)
    assert np.corrcoef(a, b)[0, 1] > 0.99
    x = central(TARGETS["both"])
    assert np.mean(np.abs(ours(x) / theirs.compute_density_ratio(x) - 1)) < 0.06


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_no_optimiser_finds_a_higher_likelihood(width):
    source, target = draw("both", 0, 400)
    centres = target[:8]
    squared = [cdist(x, centres, "sqeuclidean") for x in (source, target)]
    log_alpha, objective = maximise_likelihood(*squared, width=width)
    phi_s, phi_t = (np.exp(-s / (2 * width**2)) for s in squared)
    b = phi_s.mean(axis=0)

    def J(alpha):
        return np.log(phi_t @ alpha).mean()

    best = minimize(
        lambda beta: -J(beta / b),
        np.full(8, 1 / 8),
        jac=lambda beta: -(phi_t / b).T @ (1 / (phi_t @ (beta / b))) / len(phi_t),
        bounds=[(0, 1)] * 8,
        constraints={"type": "eq", "fun": lambda beta: beta.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    assert best.success
    found = J(np.exp(log_alpha))
    assert found == pytest.approx(objective[-1], abs=1e-9)
    assert -best.fun - TOLERANCE_NATS <= found <= -best.fun + 1e-6
    assert objective[0] < found - 5 * TOLERANCE_NATS  # there was something to gain
    assert found > J(KLIEP_optimize_alpha(phi_t, phi_s)) - TOLERANCE_NATS  # densratio's ascent


def test_likelihood_never_falls_and_gets_as_close_as_asked():
    source, target = draw("mean", 0, 300)
    squared = [cdist(x, target[:50], "sqeuclidean") for x in (source, target)]
    _, short = maximise_likelihood(*squared, width=0.5, tolerance=1e-2)
    _, long = maximise_likelihood(*squared, width=0.5, tolerance=1e-5)
    assert (np.diff(long) >= -1e-12).all()
    assert len(short) < len(long)
    assert long[-1] - 1e-2 <= short[-1] < long[-1]


def test_constraints_hold():
    ratio = estimate("both", 0)
    source, _ = draw("both", 0)
    assert ratio(source).mean() == pytest.approx(1, abs=1e-9)
    assert (ratio.alpha >= 0).all()
    direct = np.exp(-cdist(source, ratio.centres, "sqeuclidean") / (2 * ratio.width**2))
    np.testing.assert_allclose(ratio(source), direct @ ratio.alpha, rtol=1e-9)


@pytest.mark.parametrize("f", [1, 128])
def test_equal_domains_have_weights_near_one(f):
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 1000, f))
    weights = density_ratio(source, target)(source)
    assert weights.std() < 0.2
    assert effective_sample_size(weights) > 950


def test_order_of_the_source_only_orders_the_weights():
    source, target = draw("both", 1, 300)
    order = np.random.default_rng(5).permutation(300)
    ratio, permuted = density_ratio(source, target), density_ratio(source[order], target)
    assert permuted.width == ratio.width
    np.testing.assert_allclose(permuted(source[order]), ratio(source)[order], rtol=1e-6)


def test_seed_draws_centres_and_folds():
    source, target = draw("both", 1, 300)
    first, again, other = (density_ratio(source, target, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first(source), again(source))
    assert first.cross_validation == again.cross_validation
    assert set(map(float, first.centres[:, 0])) != set(map(float, other.centres[:, 0]))
    assert len(first.centres) == 100
    assert np.isin(first.centres, target).all()


def test_cross_validation_chooses_a_width_between_too_narrow_and_too_wide():
    ratio = estimate("both", 0)
    widths, scores = map(list, (ratio.cross_validation, ratio.cross_validation.values()))
    assert ratio.width == widths[np.argmax(scores)]
    assert min(widths) < ratio.width < max(widths)
    assert ratio.cross_validation[ratio.width] > max(scores[0], scores[-1]) + 0.01
    # The true ratio on the same points, scaled to a mean of 1 over the source as KLIEP's is.
    in_source, in_target = (TARGETS["both"].logpdf(x) - SOURCE.logpdf(x) for x in draw("both", 0))
    truth = np.mean(in_target) - np.log(np.mean(np.exp(in_source)))
    assert ratio.cross_validation[ratio.width] == pytest.approx(truth, abs=0.01)


def test_held_out_points_beyond_the_source_do_not_choose_the_narrowest_kernels():
    """Regression: a few such points, of unbounded likelihood, outweighed all others."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(300, 1))
    target = np.concatenate([rng.normal(size=(300, 1)), 20 + rng.normal(size=(3, 1))])
    ratio = density_ratio(source, target)
    assert ratio.width > 0.4
    assert effective_sample_size(ratio(source)) > 200


@pytest.mark.filterwarnings("error")
def test_domains_so_far_apart_that_all_kernels_underflow():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 60, 128))
    target += 500
    ratio = density_ratio(source, target)
    nearest = cdist(source, ratio.centres, "sqeuclidean").min()
    assert np.exp(-nearest / (2 * ratio.width**2)) == 0  # plainly computed, w would be 0/0
    assert ratio.width == max(ratio.cross_validation)  # of equally good widths, the widest
    weights = ratio(source)
    assert np.isfinite(ratio.log(target)).all()
    assert np.isfinite(ratio(target)).all()
    assert np.isfinite(ratio.alpha).all()
    assert weights.mean() == pytest.approx(1)
    assert 1 <= effective_sample_size(weights) < 30


@pytest.mark.filterwarnings("error")
def test_points_that_are_all_one_have_weights_of_one():
    ratio = density_ratio(np.ones((5, 3)), np.ones((4, 3)))
    np.testing.assert_allclose(ratio(np.ones((5, 3))), 1)


def test_effective_sample_size_counts_equal_weights():
    assert effective_sample_size(np.array([0.0, 3, 3, 3, 0])) == pytest.approx(3)
    assert effective_sample_size(np.array([1.0, 1, 2])) == pytest.approx(16 / 6)


def test_weights_mend_a_misspecified_classifier():
    """Left and right the classes lie the other way round; the target is mostly on the right.

    No line separates them on both sides, so the best one depends on where the particles are.
    """
    rng = np.random.default_rng(0)

    def sample(n, on_the_right):
        labels = rng.integers(0, 2, n)
        side = np.where(rng.uniform(size=n) < on_the_right, 1, -1)
        height = np.where(labels == 1, side, -side)
        return np.stack([2.0 * side, height], axis=1) + rng.normal(scale=0.5, size=(n, 2)), labels

    (x, y), (x_t, y_t) = sample(800, 0.2), sample(800, 0.9)
    accuracy = []
    for weights in (None, density_ratio(x, x_t)(x)):
        layer = fit_classifier(x, y, n_classes=2, weights=weights)
        with torch.inference_mode():
            predicted = layer(torch.from_numpy(x_t).float()).argmax(dim=1).numpy()
        accuracy.append(np.mean(predicted == y_t))
    assert accuracy[0] < 0.3
    assert accuracy[1] > 0.8


ONE_WIDTH = ImportanceOptions(width_factors=(1.0,))


@pytest.fixture(scope="module")
def source(make_domain):
    return make_domain(12)


@pytest.fixture(scope="module")
def target(make_domain):
    return make_domain(12, seed=1, scale=1.5).unlabelled()


@pytest.fixture
def model(source):
    torch.manual_seed(0)
    card = ModelCard(
        class_names=source.class_names,
        box=24,
        voxel_size_A=10.0,
        network="default",
        acquisition=None,
        training={"history": ["of the source"]},
    )
    return Model.new(card)


def test_method_fits_the_classifier_to_weighted_standardised_features(
    model, source, target, fabric
):
    before = model.fingerprint
    options = ImportanceOptions(inverse_penalty=0.3, seed=2, width_factors=(0.5, 1.0))
    reported = []
    result = ImportanceEstimation(model, options, fabric).fit(
        source, target, on_epoch=reported.append
    )
    f_s, f_t = (predict(model, x, fabric=fabric).features.astype(float) for x in (source, target))
    scaler = StandardScaler().fit(f_s)
    z_s, z_t = scaler.transform(f_s), scaler.transform(f_t)
    ratio = density_ratio(z_s, z_t, seed=2, width_factors=(0.5, 1.0))
    weights = ratio(z_s)
    assert weights.std() > 0.1
    expected = fit_classifier(f_s, source.labels, n_classes=3, weights=weights, inverse_penalty=0.3)
    torch.testing.assert_close(result.model.classifier.weight, expected.weight)
    torch.testing.assert_close(result.model.classifier.bias, expected.bias)

    assert model.fingerprint == before
    ours, theirs = result.model.state(), model.state()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor) == name.startswith("extractor"), name
    assert (
        ours["extractor.stem.0.weight"].data_ptr() != theirs["extractor.stem.0.weight"].data_ptr()
    )

    card = result.model.card
    assert (card.method, model.card.method) == ("ie", "source_only")
    record = result.history[0]
    assert result.history == reported == card.training["adaptation_history"]
    assert record["n_eff"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert record["width"] == ratio.width
    assert record["mean_log_likelihood"] == ratio.cross_validation[ratio.width]
    assert card.training["history"] == ["of the source"]
    assert ImportanceOptions.model_validate(card.training["adaptation"]) == options
    assert card.training["adapted_to"] == target.fingerprint
    assert card.training["adaptation_warning"] is result.warning is None
    json.dumps(card.model_dump(mode="json"), allow_nan=False)


def test_method_is_reproducible(model, source, target, fabric):
    prints = set()
    for _ in range(2):
        torch.manual_seed(len(prints))  # what torch's generator holds is no matter
        fitted = ImportanceEstimation(model, ONE_WIDTH, fabric).fit(source, target).model
        prints.add(fitted.fingerprint)
    other = ONE_WIDTH.model_copy(update={"inverse_penalty": 0.1})
    prints.add(ImportanceEstimation(model, other, fabric).fit(source, target).model.fingerprint)
    assert len(prints) == 2


def test_degenerate_weights_are_warned_of_and_used(model, source, make_domain, fabric):
    far = make_domain(12, seed=1, noise=0.05, scale=3).unlabelled()
    result = ImportanceEstimation(model, fabric=fabric).fit(source, far)
    assert "degenerate" in result.warning
    assert f"{result.history[0]['n_eff']:.1f}" in result.warning
    assert result.history[0]["n_eff"] < 6
    assert result.model is not model
    assert result.model.fingerprint != model.fingerprint  # it is what the method gives
    assert result.model.card.method == "ie"
    assert result.model.card.training["adaptation_warning"] == result.warning


def test_a_feature_that_is_constant_in_the_source_does_no_harm(model, source, target, fabric):
    """A dead unit has no deviation to standardise by."""
    with torch.no_grad():
        last = model.extractor.stages[-1]
        last.body[-1].weight[0] = last.shortcut[-1].weight[0] = 0
        last.body[-1].bias[0] = 0.7
        last.shortcut[-1].bias[0] = 0
    features = predict(model, source, fabric=fabric).features[:, 0]
    assert np.ptp(features) == 0
    assert features[0] != 0
    result = ImportanceEstimation(model, ONE_WIDTH, fabric).fit(source, target)
    assert result.warning is None
    assert np.isfinite(predict(result.model, target, fabric=fabric).probabilities).all()


def test_data_that_do_not_fit_the_model_are_refused(model, source, target, make_domain, fabric):
    method = ImportanceEstimation(model, ONE_WIDTH, fabric)
    small = make_domain(1, box=16)
    with pytest.raises(MismatchError, match="the source and the model differ in box"):
        method.fit(small, target)
    with pytest.raises(MismatchError, match="the target and the model differ in box"):
        method.fit(source, small.unlabelled())
    renamed = LabelledSubtomograms(
        source.source, labels=source.labels, class_names=("null", "two", "one")
    )
    with pytest.raises(MismatchError, match="differ in classes"):
        method.fit(renamed, target)
    with pytest.raises(InputError, match="a single class"):
        method.fit(source.subset(range(12)), target)
    with pytest.raises(InputError, match="too few target particles"):
        method.fit(source, target.subset([0]))


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "number of features"),
        (np.array([[np.nan], [0.0]]), np.zeros((5, 1)), "the source cannot be used.*not all fin"),
        (np.zeros((5, 1)), np.array([[np.inf], [0.0]]), "the target cannot be used.*not all fin"),
        (np.zeros(5), np.zeros((5, 1)), r"the source cannot be used.*shape \(5,\)"),
        (np.zeros((0, 1)), np.zeros((5, 1)), r"the source cannot be used.*shape \(0, 1\)"),
        (np.zeros((5, 1)), np.zeros((1, 1)), "too few target particles"),
    ],
)
def test_points_that_cannot_be_used_are_refused(source, target, match):
    with pytest.raises(InputError, match=match):
        density_ratio(source, target)


@pytest.mark.parametrize(
    "bad", [{"n_centres": 0}, {"folds": 1}, {"width_factors": ()}, {"width_factors": (1.0, -1.0)}]
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ConfigError, match="density ratio"):
        density_ratio(np.zeros((5, 1)), np.zeros((5, 1)), **bad)
    with pytest.raises(ValidationError):
        ImportanceOptions(**bad)


def test_unknown_options_are_refused():
    with pytest.raises(ValidationError):
        ImportanceOptions(centres=3)
