from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.linalg import subspace_angles
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression, SGDClassifier
from torch import nn

from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.learn.baselines.correspondence import (
    Correspondence,
    CorrespondenceOptions,
    StructuralCorrespondence,
    active,
    correspondence_projection,
    corresponding_classifier,
    modified_huber,
    pivot_features,
    pivot_predictors,
)
from tomadapt.learn.baselines.heads import fit_classifier
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.prediction import predict

K = 3
PIVOTS, OF_SOURCE, OF_TARGET, NOISE = (range(i, i + 12) for i in (0, 12, 24, 36))


def planted(seed, *, n=400, silent=0.05):
    """Two domains that express their classes by different features, and both by shared pivots.

    Each feature belongs to one class; as a network's averaged activations, none is negative.
    A feature specific to one domain is almost silent in the other.
    """
    rng = np.random.default_rng(seed)

    def feature(labels, base, gain):
        own = labels[:, None] == np.arange(12) % K
        return np.maximum(0, base + gain * own + rng.normal(size=own.shape))

    def hush(labels):
        return silent * np.abs(rng.normal(size=(len(labels), 12)))

    def domain(is_source):
        labels = rng.integers(0, K, n)
        specific = [feature(labels, 0, 1.5), hush(labels)]
        parts = [feature(labels, 1, 0.8), *specific[:: 1 if is_source else -1]]
        return np.concatenate([*parts, feature(labels, 1, 0)], axis=1), labels

    return *domain(True), *domain(False)


def projection(source, target, pivots, *, dimensions=6, penalty=1e-2):
    return correspondence_projection(source, target, pivots, dimensions=dimensions, penalty=penalty)


def adapted_layer(source, labels, target, *, n_classes=K, n_pivots=12, dimensions=6):
    pivots = pivot_features(source, labels, target, n_pivots=n_pivots)
    found = projection(source, target, pivots, dimensions=dimensions)
    return corresponding_classifier(found, source, labels, target, n_classes=n_classes)


def without_theta(source, target):
    """A correspondence of no dimensions."""
    found = projection(source, target, np.array([0]))
    return Correspondence(
        found.mean, found.scale, found.theta[:0], found.singular_values, np.ones(1)
    )


def logits(layer, features):
    with torch.no_grad():
        return layer.double()(torch.from_numpy(np.asarray(features, np.float64))).numpy()


def accuracy(layer, features, labels):
    return float((logits(layer, features).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("seed", range(5))
def test_gains_where_the_domains_share_pivots_only(seed):
    source, labels, target, hidden = planted(seed)
    plain = accuracy(fit_classifier(source, labels, n_classes=K), target, hidden)
    # The same classifier with the same scaling of x: what is gained beyond it is θ's.
    scaled = corresponding_classifier(
        without_theta(source, target), source, labels, target, n_classes=K
    )
    without = max(plain, accuracy(scaled, target, hidden))
    layer = adapted_layer(source, labels, target)
    with_sc = accuracy(layer, target, hidden)
    assert accuracy(layer, source, labels) > 0.9
    assert without < 0.8
    assert with_sc > 0.9
    assert with_sc > without + 0.15


def test_loses_little_where_domains_are_alike():
    source, labels, _, _ = planted(0)
    again, hidden = planted(1)[:2]
    without = accuracy(fit_classifier(source, labels, n_classes=K), again, hidden)
    assert without > 0.9
    assert accuracy(adapted_layer(source, labels, again), again, hidden) > without - 0.03


def mutual_information(present, labels):
    """Σ p(a, y) log(p(a, y) / p(a) p(y)), in nats, from counts."""
    total = 0.0
    for a in (False, True):
        for y in np.unique(labels):
            joint = np.mean((present == a) & (labels == y))
            if joint > 0:
                total += joint * np.log(joint / (np.mean(present == a) * np.mean(labels == y)))
    return total


def test_pivots_come_by_falling_mutual_information():
    labels = np.repeat([0, 1], 4)
    nothing = [0, 0, 1, 1, 0, 0, 1, 1]  # 0 nats
    all_of_it = [1, 1, 1, 1, 0, 0, 0, 0]  # log 2
    some = [0, 0, 0, 1, 1, 1, 1, 0]  # log 2 + ¾ log ¾ + ¼ log ¼
    source = np.array([nothing, some, all_of_it], float).T
    assert mutual_information(source[:, 1] > 0.5, labels) == pytest.approx(
        np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    )
    assert pivot_features(source, labels, source, n_pivots=3).tolist() == [2, 1, 0]
    assert pivot_features(source, labels, source, n_pivots=2).tolist() == [2, 1]


def test_pivots_of_many_features_are_those_of_counted_mutual_information():
    source, labels, target, _ = planted(3)
    present, _ = active(source, target)
    pivots = pivot_features(source, labels, target, n_pivots=10)
    gains = np.array([mutual_information(column, labels) for column in present.T])
    common = [*PIVOTS, *NOISE]
    assert gains[pivots].tolist() == pytest.approx(sorted(gains[common])[::-1][:10])
    assert gains[list(OF_SOURCE)].max() > gains[pivots].max()  # more informative, but not common


def test_features_rare_in_either_domain_are_no_pivots():
    labels = np.tile([0, 1], 50)
    told = labels.astype(float)
    rare = np.zeros(100)
    rare[1:11:2] = 1  # 5 %
    source = np.stack([told, told, told, rare], axis=1)
    target = np.stack([told, np.zeros(100), np.ones(100), told], axis=1)
    assert pivot_features(source, labels, target, n_pivots=4).tolist() == [0]
    apart = pivot_features(source, labels, source + 5, n_pivots=4)
    assert apart.tolist() == []


def test_the_larger_domain_does_not_decide_what_is_active():
    source, target = np.zeros((10, 1)), np.full((990, 1), 2.0)
    target[:495] = 0.8  # mean 1.4; the domains' middle is 0.7
    of_source, of_target = active(source, target)
    assert not of_source.any()
    assert of_target.all()


def test_modified_huber_by_hand():
    margins = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    loss, slope = modified_huber(margins)
    assert loss.tolist() == [0, 0, 0.25, 1, 4, 12]
    assert slope.tolist() == [0, 0, -1, -2, -4, -4]
    away = np.array([-4.0, -1.5, -0.5, 0.3, 0.9, 1.7])
    step = 1e-6
    central = (modified_huber(away + step)[0] - modified_huber(away - step)[0]) / (2 * step)
    np.testing.assert_allclose(modified_huber(away)[1], central, atol=1e-6)


def penalised_loss(w, b, x, signs, penalty):
    """The objective once more, in other words, for one pivot."""
    losses = []
    for score, sign in zip(x @ w + b, signs, strict=True):
        m = score * sign
        losses.append(-4 * m if m < -1 else max(0.0, 1 - m) ** 2)
    return np.mean(losses) + penalty / 2 * np.sum(w**2)


@pytest.fixture(scope="module")
def pivot_problem():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 5))
    score = x @ rng.normal(size=(5, 3)) + [0.0, 1.0, -0.5]
    return x, np.where(score + 2 * rng.standard_t(2, score.shape) > 0, 1.0, -1.0)


def test_pivot_predictors_are_at_a_minimum_for_each_pivot(pivot_problem):
    x, signs = pivot_problem
    w, b = pivot_predictors(x, signs, penalty=0.05)
    for pivot in range(3):

        def objective(p, pivot=pivot):
            return penalised_loss(p[:5], p[5], x, signs[:, pivot], 0.05)

        at = np.append(w[:, pivot], b[pivot])
        assert np.linalg.norm(approx_fprime(at, objective, 1e-6)) < 1e-4
        # Each is found as if it were alone.
        alone, _ = pivot_predictors(x, signs[:, [pivot]], penalty=0.05)
        np.testing.assert_allclose(alone[:, 0], w[:, pivot], atol=1e-4)


@pytest.mark.parametrize("penalty", [0.3, 0.03])
def test_pivot_predictors_agree_with_scikit_learns(pivot_problem, penalty):
    x, signs = pivot_problem
    w, b = pivot_predictors(x, signs, penalty=penalty)
    for pivot in range(3):
        y = signs[:, pivot]
        oracle = SGDClassifier(
            loss="modified_huber", alpha=penalty, max_iter=3000, tol=None, average=True,
            random_state=0,
        ).fit(x, y)  # fmt: skip
        ours = penalised_loss(w[:, pivot], b[pivot], x, y, penalty)
        theirs = penalised_loss(oracle.coef_[0], oracle.intercept_[0], x, y, penalty)
        assert ours < theirs + 1e-9
        scores = x @ w[:, pivot] + b[pivot]
        np.testing.assert_allclose(oracle.decision_function(x), scores, atol=0.02 * scores.std())


def test_theta_is_the_planted_subspace():
    """Gaussian x = Az + noise, pivots signs of Bz + noise: every w lies in the span of A."""
    rng = np.random.default_rng(2)
    n, f, m, r = 4000, 20, 10, 2
    A, B = rng.normal(size=(f, r)), rng.normal(size=(m, r))

    def domain():
        z = rng.normal(size=(n, r))
        noise = rng.normal(size=(n, m + f))
        return np.concatenate([z @ B.T, z @ A.T], axis=1) + noise

    found = projection(domain(), domain(), np.arange(m), dimensions=r)
    span = found.scale[m:, None] * A  # what Az's span is for w of standardised features
    assert np.degrees(subspace_angles(found.theta[:, m:].T, span)).max() < 10
    other = rng.normal(size=(f, r))
    assert np.degrees(subspace_angles(found.theta[:, m:].T, other)).max() > 45
    assert found.share > 0.95
    assert found.singular_values[1] > 5 * found.singular_values[2]


def test_no_pivot_is_used_to_predict_one():
    source, labels, target, _ = planted(0)
    pivots = pivot_features(source, labels, target, n_pivots=8)
    found = projection(source, target, pivots)
    assert found.theta.shape == (6, 48)
    np.testing.assert_allclose(found.theta[:, pivots], 0, atol=1e-12)
    np.testing.assert_allclose(found.theta @ found.theta.T, np.eye(6), atol=1e-10)
    # Two equal columns: with the twin in sight, prediction would be all but perfect.
    twins = np.concatenate([source[:, [0]], source], axis=1)
    other = np.concatenate([target[:, [0]], target], axis=1)
    hidden = projection(twins, other, np.array([0, 1])).pivot_accuracy
    seen = projection(twins, other, np.array([0])).pivot_accuracy
    assert hidden.max() < 0.85
    assert seen[0] > 0.95


def test_a_pivots_accuracy_counts_both_domains():
    rng = np.random.default_rng(0)
    told = rng.choice([0.0, 1.0], 300)
    source, target = np.stack([told, told], axis=1), np.stack([told, 1 - told], axis=1)
    found = projection(source, target[:100], np.array([0]))
    assert found.pivot_accuracy.tolist() == [0.75]
    assert found.share == pytest.approx(1)


def test_theta_has_no_more_rows_than_w_has_rank():
    source, _, target, _ = planted(0)
    twice = np.array([0, 0, 1])
    assert len(projection(source, target, twice, dimensions=3).theta) == 2
    silent = np.ones((400, 2))
    nothing = projection(
        np.concatenate([source[:, :1], silent], axis=1),
        np.concatenate([target[:, :1], silent], axis=1),
        np.array([0]),
    )
    assert nothing.theta.shape == (0, 3)
    assert nothing.share == 0


def test_folded_layer_equals_the_layer_on_augmented_features():
    source, labels, target, _ = planted(1)
    pivots = pivot_features(source, labels, target, n_pivots=12)
    found = projection(source, target, pivots, dimensions=5)
    torch.manual_seed(0)
    head = nn.Linear(48 + 5 * found.copies, K)
    augmented = found.augment(target)
    assert augmented.shape == (400, head.in_features)
    folded = found.fold(head)
    assert folded.weight.dtype == torch.float32
    np.testing.assert_allclose(
        logits(folded, target), logits(head, augmented), rtol=1e-5, atol=1e-5
    )


def test_projected_features_weigh_as_much_as_x():
    """Copies act as the factor √(f/h): shown on the regression's own scaled features."""
    source, labels, target, _ = planted(1)
    pivots = pivot_features(source, labels, target, n_pivots=12)
    found = projection(source, target, pivots, dimensions=6)
    x = (np.concatenate([source, target]) - found.mean) / found.scale
    projected = x @ found.theta.T
    projected *= np.sqrt(48 / 6) / projected.std(axis=0)
    assert (projected**2).sum() == pytest.approx((x**2).sum(), rel=1e-6)
    features = np.concatenate([x, projected], axis=1)
    exact = LogisticRegression(C=0.01, tol=1e-8, max_iter=5000).fit(features[:400], labels)
    layer = corresponding_classifier(
        found, source, labels, target, n_classes=K, inverse_penalty=0.01
    )
    ours = logits(layer, target)
    theirs = exact.decision_function(features[400:])
    ours -= ours.mean(axis=1, keepdims=True)  # softmax is blind to a common offset
    theirs -= theirs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, atol=0.02 * theirs.std())


def test_without_dimensions_it_is_the_plain_classifier():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 60)
    source = rng.normal(size=(180, 4)) + np.eye(3, 4)[labels]
    empty = without_theta(source, source)
    layer = corresponding_classifier(empty, source, labels, source, n_classes=K)
    plain = fit_classifier(source, labels, n_classes=K)
    np.testing.assert_allclose(logits(layer, source), logits(plain, source), atol=2e-3)


def test_absent_classes_are_never_predicted():
    source, labels, target, _ = planted(2)
    keep = labels != 1
    layer = adapted_layer(source[keep], labels[keep], target)
    assert set(logits(layer, target).argmax(axis=1)) == {0, 2}


def test_the_order_of_particles_does_not_matter():
    source, labels, target, _ = planted(4)
    layer = adapted_layer(source, labels, target)
    again = adapted_layer(source, labels, target)
    assert torch.equal(layer.weight, again.weight)
    assert torch.equal(layer.bias, again.bias)
    rng = np.random.default_rng(0)
    a, b = rng.permutation(400), rng.permutation(400)
    shuffled = adapted_layer(source[a], labels[a], target[b])
    scores = logits(layer, target)
    np.testing.assert_allclose(logits(shuffled, target), scores, atol=0.01 * scores.std())


@pytest.fixture(scope="module")
def model():
    card = ModelCard(
        class_names=("null", "one", "two"), box=24, voxel_size_A=10.0, network="default",
        acquisition=None, training={"epochs": 7},
    )  # fmt: skip
    torch.manual_seed(0)
    return Model.new(card)


def test_method_changes_the_classifier_only(model, make_domain, fabric):
    source, target = make_domain(10), make_domain(8, seed=1, scale=1.3)
    before = model.fingerprint
    options = CorrespondenceOptions(n_pivots=20, dimensions=4)
    told = []
    result = StructuralCorrespondence(model, options, fabric).fit(
        source, target.unlabelled(), on_epoch=told.append
    )
    assert model.fingerprint == before
    old, new = model.state(), result.model.state()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert result.warning is None

    of_source = predict(model, source, fabric=fabric).features
    of_target = predict(model, target, fabric=fabric).features
    pivots = pivot_features(of_source, source.labels, of_target, n_pivots=20)
    expected = adapted_layer(of_source, source.labels, of_target, n_pivots=20, dimensions=4)
    np.testing.assert_array_equal(new["classifier.weight"], expected.weight.detach())
    np.testing.assert_array_equal(new["classifier.bias"], expected.bias.detach())

    card = result.model.card
    assert card.method == "sc"
    assert card.training["epochs"] == 7
    assert card.training["adaptation"] == options.model_dump()
    assert card.training["pivots"] == pivots.tolist()
    assert card.training["adapted_to"] == target.unlabelled().fingerprint
    assert card.training["adaptation_history"] == result.history == told
    (record,) = result.history
    assert record["pivots"] == len(pivots) > 4
    assert 0.5 < record["pivot_accuracy"] <= 1
    assert 0 < record["singular_value_share"] < 1


def test_adapted_model_survives_a_file(model, make_domain, fabric, tmp_path):
    source = make_domain(6)
    options = CorrespondenceOptions(n_pivots=8, dimensions=2)
    adapted = StructuralCorrespondence(model, options, fabric).fit(source, source).model
    adapted.save(tmp_path / "m")
    back = Model.load(tmp_path / "m")
    assert back.card == adapted.card
    assert back.fingerprint == adapted.fingerprint


def test_inverse_penalty_reaches_the_classifier(model, make_domain, fabric):
    source = make_domain(6)

    def size(inverse_penalty):
        options = CorrespondenceOptions(n_pivots=8, dimensions=2, inverse_penalty=inverse_penalty)
        fitted = StructuralCorrespondence(model, options, fabric).fit(source, source).model
        return fitted.classifier.weight.detach().norm().item()

    assert size(1e-3) < 0.5 * size(1.0)


def test_without_pivots_the_source_model_comes_back_with_a_warning(
    model, make_domain, fabric, monkeypatch
):
    monkeypatch.setattr(
        "tomadapt.learn.baselines.correspondence.MIN_ACTIVE_RATIO", 0.6
    )  # nothing is that common
    source = make_domain(4)
    result = StructuralCorrespondence(model, fabric=fabric).fit(source, source.unlabelled())
    assert result.warning is not None
    assert "no pivots" in result.warning
    assert result.model.card.training["adaptation_warning"] == result.warning
    assert result.model.card.training["pivots"] == []
    assert result.model.fingerprint == model.fingerprint
    assert result.model is not model
    assert result.history == []


def no_work(*args, **kwargs):
    raise AssertionError("work began before the inputs were checked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_pivots": 128}, "n_pivots leaves no features.*fewer than.*128"),
        ({"n_pivots": 10, "dimensions": 11}, "dimensions is larger.*at most n_pivots = 10"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    model, make_domain, fabric, monkeypatch, options, message
):
    monkeypatch.setattr("tomadapt.learn.baselines.correspondence.predict", no_work)
    method = StructuralCorrespondence(model, CorrespondenceOptions(**options), fabric)
    data = make_domain(1)
    with pytest.raises(ConfigError, match=message):
        method.fit(data, data.unlabelled())


def test_data_that_do_not_fit_are_refused(model, make_domain, fabric, monkeypatch):
    monkeypatch.setattr("tomadapt.learn.baselines.correspondence.predict", no_work)
    method = StructuralCorrespondence(model, fabric=fabric)
    good, small = make_domain(1), make_domain(1, box=20)
    with pytest.raises(MismatchError, match="the source and the model differ in box"):
        method.fit(small, good)
    with pytest.raises(MismatchError, match="the target and the model differ in box"):
        method.fit(good, small)
    renamed = type(good)(good.source, labels=good.labels, class_names=("null", "two", "one"))
    with pytest.raises(MismatchError, match="differ in classes"):
        method.fit(renamed, good)
    with pytest.raises(InputError, match=r"a single class.*got one"):
        method.fit(good.subset([1]), good)


@pytest.mark.parametrize(
    "wrong",
    [{"n_pivots": 0}, {"dimensions": 0}, {"pivot_penalty": 0}, {"inverse_penalty": 0}, {"h": 3}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        CorrespondenceOptions(**wrong)
