from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tomadapt.errors import MismatchError
from tomadapt.learn import adversarial
from tomadapt.learn.adversarial import (
    PAPER_RECIPE,
    AdversarialAdaptation,
    AdversarialOptions,
    algorithm_1,
    discriminator_loss,
    feature_loss,
)
from tomadapt.learn.engine import SOURCE_DRAWS
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.networks import EXTRACTORS
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import SourceTraining, train_source
from tomadapt.learn.statistics import TargetStatistics


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_hot(domain, n):
    return np.eye(2)[np.full(n, domain)]


def test_losses_are_equations_1_and_2():
    torch.manual_seed(0)
    D = nn.Linear(4, 2).double()
    f_s, f_t = torch.randn(5, 4).double(), torch.randn(7, 4).double()
    p_target_s = softmax(D(f_s).detach().numpy())[:, 1]
    p_target_t = softmax(D(f_t).detach().numpy())[:, 1]
    eq_2 = -np.log(p_target_t).mean() - np.log(1 - p_target_s).mean()
    eq_1 = -np.log(1 - p_target_t).mean()
    assert discriminator_loss(D, f_s, f_t).item() == pytest.approx(eq_2, rel=1e-12)
    assert feature_loss(D, f_t).item() == pytest.approx(eq_1, rel=1e-12)


def test_losses_stay_finite_when_d_is_certain():
    D = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        D.weight.copy_(torch.tensor([[-1e4], [1e4]]))
    f = torch.ones(3, 1, requires_grad=True)
    loss = feature_loss(D, f)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(f.grad).all()


class LinearExtractor(nn.Module):
    """F(x) = A x: small enough to differentiate by hand."""

    n_features = 3

    def __init__(self, box):
        super().__init__()
        self.A = nn.Linear(box**3, 3, bias=False)
        self.dropout = nn.Identity()

    def forward(self, x):
        return self.A(x.flatten(1))


@pytest.fixture
def linear_networks(monkeypatch):
    """Linear F and D, and plain gradient descent in Adam's place."""
    monkeypatch.setitem(EXTRACTORS, "default", LinearExtractor)
    weight = torch.tensor([[0.5, -0.2, 0.1], [-0.3, 0.4, 0.2]])

    def linear_d(n_features):
        D = nn.Linear(n_features, 2, bias=False)
        with torch.no_grad():
            D.weight.copy_(weight)
        return D

    monkeypatch.setattr(adversarial, "discriminator", linear_d)
    monkeypatch.setattr(
        torch.optim, "Adam", lambda parameters, lr, **_: torch.optim.SGD(parameters, lr=lr)
    )
    return weight.numpy().astype(np.float64)


@pytest.mark.parametrize("k", [1, 3])
def test_one_step_equals_hand_derived_gradients(linear_networks, make_domain, fabric, k):
    source, target = make_domain(4, seed=0), make_domain(4, seed=1, scale=1.5)
    torch.manual_seed(3)
    model = Model.new(
        ModelCard(
            class_names=source.class_names,
            box=24,
            voxel_size_A=10.0,
            network="default",
            acquisition=None,
        )
    )
    A = model.extractor.A.weight.detach().numpy().astype(np.float64)
    n, rate_F, rate_D = len(target), 1e-3, 0.1
    options = AdversarialOptions(
        epochs=1,
        batch_size=n,  # one step over the whole target, so that its order is no matter
        discriminator_steps=k,
        learning_rate=rate_F,
        discriminator_learning_rate=rate_D,
        seed=5,
    )
    adapted, history = algorithm_1(
        model, source.unlabelled(), target.unlabelled(), options, fabric=fabric
    )

    x_s = source.read(range(n)).flatten(1).double().numpy()
    x_t = target.read(range(n)).flatten(1).double().numpy()
    W = linear_networks
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(SOURCE_DRAWS, 0, 0)))
    f_t = x_t @ A.T
    losses = []
    for _ in range(k):
        f_s = (x_s @ A.T)[rng.integers(0, n, n)]
        p_s, p_t = softmax(f_s @ W.T), softmax(f_t @ W.T)
        losses.append(-np.log(p_t[:, 1]).mean() - np.log(p_s[:, 0]).mean())
        # dL_D/dW = mean (p − onehot(domain)) fᵀ, summed over the domains; D descends.
        gradient = (p_s - one_hot(0, n)).T @ f_s / n + (p_t - one_hot(1, n)).T @ f_t / n
        W = W - rate_D * gradient
    # dL_F/dA = mean [Wᵀ (p − onehot(source))] xᵀ with the D of after its update.
    p_t = softmax(f_t @ W.T)
    expected = A - rate_F * ((p_t - one_hot(0, n)) @ W).T @ x_t / n

    got = adapted.extractor.A.weight.detach().numpy()
    assert np.abs(expected - A).max() > 1e-5  # the step is not nothing
    np.testing.assert_allclose(got - A, expected - A, rtol=1e-3, atol=1e-8)
    assert history[0]["discriminator_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert history[0]["feature_loss"] == pytest.approx(-np.log(p_t[:, 0]).mean(), rel=1e-5)


@pytest.fixture(scope="module")
def trained(make_domain, fabric):
    source = make_domain(20, seed=0)
    options = SourceTraining(epochs=8, batch_size=16, seed=1)
    model, _ = train_source(source, options, fabric=fabric)
    return source, model


@pytest.mark.parametrize("statistics", ["target_batch", "target", "source"])
def test_source_extractor_and_classifier_stay_bit_identical(
    trained, make_domain, fabric, statistics
):
    source, model = trained
    before = {name: tensor.clone() for name, tensor in model.state().items()}
    target = make_domain(12, seed=2, scale=1.4, noise=1.0)
    options = AdversarialOptions(epochs=1, batch_size=8, statistics=statistics)
    adaptation = AdversarialAdaptation(model, options, fabric).fit(source, target.unlabelled())
    after = model.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapted = adaptation.model.state()
    moved = [name for name in before if not torch.equal(before[name], adapted[name])]
    assert moved  # F_t has changed …
    assert all(name.startswith("extractor.") for name in moved)  # … and C has not.
    shared = {p.data_ptr() for p in model.extractor.parameters()}
    assert not shared & {p.data_ptr() for p in adaptation.model.extractor.parameters()}


def test_statistics_modes_do_what_they_say(trained, make_domain, fabric):
    source, model = trained
    target = make_domain(12, seed=2, scale=1.4, noise=1.0).unlabelled()
    name = "extractor.stem.1.running_mean"
    means = {}
    for mode in ("source", "target", "target_batch"):
        options = AdversarialOptions(epochs=1, batch_size=8, statistics=mode, learning_rate=1e-12)
        adapted, _ = algorithm_1(model, source.unlabelled(), target, options, fabric=fabric)
        means[mode] = adapted.state()[name]
    reference = TargetStatistics(model, fabric).fit(source, target).model.state()[name]
    assert torch.equal(means["source"], model.state()[name])
    torch.testing.assert_close(means["target"], reference)
    assert not torch.equal(means["target_batch"], means["target"])


def test_adaptation_resumes_to_the_same_bits(trained, make_domain, fabric, tmp_path):
    source, model = trained
    target = make_domain(8, seed=2, scale=1.4).unlabelled()
    options = AdversarialOptions(epochs=3, batch_size=8)
    whole, history = algorithm_1(model, source, target, options, fabric=fabric)

    class Killed(Exception):
        pass

    def kill_after_two(record):
        if record["epoch"] == 2:
            raise Killed

    checkpoint = tmp_path / "c.pt"
    with pytest.raises(Killed):
        algorithm_1(
            model, source, target, options,
            fabric=fabric, checkpoint=checkpoint, on_epoch=kill_after_two,
        )  # fmt: skip
    again = []
    resumed, resumed_history = algorithm_1(
        model, source, target, options,
        fabric=fabric, checkpoint=checkpoint, on_epoch=again.append,
    )  # fmt: skip
    assert [r["epoch"] for r in again] == [3]
    assert resumed_history == history
    a, b = whole.state(), resumed.state()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_adaptation_helps_under_a_planted_shift(trained, make_domain, fabric):
    source, model = trained
    target = make_domain(20, seed=2, scale=1.3, noise=1.0)
    before = (predict(model, target, fabric=fabric).labels == target.labels).mean()
    options = AdversarialOptions(epochs=4, batch_size=16)
    result = AdversarialAdaptation(model, options, fabric).fit(source, target.unlabelled())
    after = (predict(result.model, target, fabric=fabric).labels == target.labels).mean()
    assert result.warning is None
    assert after >= before + 0.1


def test_collapse_is_detected_and_falls_back(trained, make_domain, fabric):
    source, model = trained
    target = make_domain(12, seed=2, scale=1.3).unlabelled()
    options = AdversarialOptions(epochs=2, batch_size=8, learning_rate=3.0, statistics="target")
    result = AdversarialAdaptation(model, options, fabric).fit(source, target)
    assert result.warning is not None
    assert "collapsed" in result.warning
    safe = TargetStatistics(model, fabric).fit(source, target).model
    same = predict(safe, target, fabric=fabric).labels
    assert (predict(result.model, target, fabric=fabric).labels == same).all()
    assert result.model.card.method == "ada"  # what was asked for; the warning says the rest
    assert result.model.card.training["adaptation_warning"] == result.warning
    literal = AdversarialAdaptation(model, options, fabric, fall_back=False).fit(source, target)
    assert "because falling back is switched off" in literal.warning
    assert (predict(literal.model, target, fabric=fabric).labels != same).any()


def test_target_of_another_box_or_voxel_size_is_refused(trained, make_domain, fabric):
    source, model = trained
    with pytest.raises(MismatchError, match=r"24 voxels \(model\).*25 voxels"):
        AdversarialAdaptation(model, fabric=fabric).fit(source, make_domain(2, box=25).unlabelled())


def test_paper_recipe_is_that_of_the_released_code():
    assert PAPER_RECIPE.learning_rate == PAPER_RECIPE.discriminator_learning_rate == 1e-5
    assert (PAPER_RECIPE.beta1, PAPER_RECIPE.weight_decay) == (0.99, 2e-5)
    assert (PAPER_RECIPE.batch_size, PAPER_RECIPE.epochs) == (64, 10)
    assert PAPER_RECIPE.discriminator_steps == 1
    assert PAPER_RECIPE.dropout
