"""Stage 2, 3D-ADA: Algorithm 1 of Lin et al. 2019, and what guards it against collapse."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.learn.engine import (
    SOURCE_DRAWS,
    WEIGHTS_OF_D,
    EpochPlan,
    dropout_seed,
    load_checkpoint,
    make_fabric,
    save_checkpoint,
    to_network,
)
from tomadapt.learn.guard import choose
from tomadapt.learn.method import Adaptation, adapted_training
from tomadapt.learn.model import Model
from tomadapt.learn.networks import discriminator
from tomadapt.learn.prediction import predict
from tomadapt.learn.source import EpochReport
from tomadapt.learn.statistics import norm_layers, re_estimate_statistics
from tomadapt.metrics import effective_classes

SOURCE, TARGET = 0, 1
"""Domain labels, and the indices of D's two outputs."""


class AdversarialOptions(BaseModel):
    """Options of Algorithm 1; ``PAPER_RECIPE`` quotes the released code of Lin et al. 2019.

    Parameters
    ----------
    epochs
        Passes over the target.
    batch_size
        m of Algorithm 1.
    discriminator_steps
        k of Algorithm 1: updates of D for one of F_t.
    learning_rate, discriminator_learning_rate
        Adam's, of F_t and of D.
    beta1
        Adam's first moment decay, of both.
    weight_decay
        L2 penalty in Adam, of both.
    statistics
        Of F_t's normalisation layers (the paper's network has none): ``target`` re-estimates them
        on the target first and holds them; ``target_batch`` uses each target batch's own, and
        running averages of them to predict; ``source`` holds the source's. F_s always keeps
        the source's.
    dropout
        Whether dropout is active in F_s and F_t during adaptation, as in the released code.
    seed
        Of D's weights and of all draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=2)] = 64
    discriminator_steps: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    discriminator_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weight_decay: Annotated[float, Field(ge=0)] = 2e-5
    statistics: Literal["target_batch", "target", "source"] = "target_batch"
    dropout: bool = True
    seed: Annotated[int, Field(ge=0)] = 0


DEFAULT_RECIPE = AdversarialOptions()
PAPER_RECIPE = AdversarialOptions(
    learning_rate=1e-5, discriminator_learning_rate=1e-5, beta1=0.99, statistics="source"
)


def discriminator_loss(D: nn.Module, source_features: Tensor, target_features: Tensor) -> Tensor:
    """Eq. 2: −E[log D(F_t(x_t))] − E[log(1 − D(F_s(x_s)))], D the probability of *target*.

    In the two-output form log D is a log-softmax, so neither term overflows.
    """
    of_source, of_target = D(source_features), D(target_features)
    return cross_entropy(of_source, _domain(SOURCE, of_source)) + cross_entropy(
        of_target, _domain(TARGET, of_target)
    )


def feature_loss(D: nn.Module, target_features: Tensor) -> Tensor:
    """Eq. 1: −E[log(1 − D(F_t(x_t)))], small where D takes target features for source."""
    logits = D(target_features)
    return cross_entropy(logits, _domain(SOURCE, logits))


def _domain(domain: int, logits: Tensor) -> Tensor:
    return torch.full((len(logits),), domain, device=logits.device)


def algorithm_1(
    source_model: Model,
    source: Subtomograms,
    target: Subtomograms,
    options: AdversarialOptions,
    *,
    fabric: Fabric,
    checkpoint: Path | None = None,
    on_epoch: EpochReport = lambda _: None,
) -> tuple[Model, list[dict[str, float]]]:
    """Algorithm 1 of Lin et al. 2019: train F_t against D, with F_s and C fixed.

    Step 5 of the printed algorithm ascends L_D, which contradicts Eq. 2; here D descends it.

    Parameters
    ----------
    source_model
        F_s and C; neither is changed.
    source, target
        Particles of both domains; no labels are used.
    options
        See :class:`AdversarialOptions`.
    fabric
        Device and processes.
    checkpoint
        As for :func:`tomadapt.learn.source.train_source`.
    on_epoch
        Called with each epoch's record: ``discriminator_loss``, ``feature_loss``,
        ``discriminator_accuracy`` (towards 0.5 when the domains cannot be told apart) and
        ``effective_classes`` of the target's predictions.

    Returns
    -------
    Model
        F_t and C.
    list of dict
        One record an epoch.
    """
    # F_s is frozen: its features are computed once, and only dropout is drawn afresh.
    source_features = torch.from_numpy(predict(source_model, source, fabric=fabric).features)

    adapted = source_model.copy(method="ada")
    F_t = adapted.extractor.to(fabric.device)
    if options.statistics != "source":
        re_estimate_statistics(F_t, target, fabric)
    weights = np.random.SeedSequence(options.seed, spawn_key=(WEIGHTS_OF_D,))
    torch.manual_seed(int(weights.generate_state(1)[0]))
    D: nn.Module = discriminator(F_t.n_features)
    adam: dict[str, Any] = {
        "betas": (options.beta1, 0.999),
        "weight_decay": options.weight_decay,
    }
    F_adam = torch.optim.Adam(F_t.parameters(), lr=options.learning_rate, **adam)
    D_adam = torch.optim.Adam(D.parameters(), lr=options.discriminator_learning_rate, **adam)
    F_wrapped, F_step = fabric.setup(F_t, F_adam)
    D_wrapped, D_step = fabric.setup(D, D_adam)
    players = _Players(F_wrapped, F_step, D_wrapped, D_step, F_t.dropout)

    parts: dict[str, Any] = {"F_t": F_t, "D": D, "F_adam": F_adam, "D_adam": D_adam}
    history: list[dict[str, float]] = []
    inputs = [source_model.fingerprint, source.fingerprint, target.fingerprint]
    key = json.dumps([options.model_dump(), *inputs])
    if saved := load_checkpoint(checkpoint, key=key):
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        history = saved["history"]
    for epoch in range(len(history), options.epochs):
        torch.manual_seed(dropout_seed(options.seed, epoch, fabric))
        _set_mode(players.F_t, options)
        plans = [
            EpochPlan.draw(len(target), seed=options.seed, epoch=epoch, purpose=purpose)
            for purpose in range(1, options.discriminator_steps + 2)
        ]
        draws = (SOURCE_DRAWS, epoch, fabric.global_rank)
        rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=draws))
        batches = zip(*(plan.batches(options.batch_size, fabric) for plan in plans), strict=True)
        record = _one_epoch(players, source_features, target, batches, rng=rng, fabric=fabric)
        labels = predict(adapted, target, fabric=fabric).labels
        used = effective_classes(labels, len(adapted.card.class_names))
        means = {name: float(np.mean(values)) for name, values in record.items()}
        history.append({"epoch": epoch + 1} | means | {"effective_classes": used})
        state: dict[str, Any] = {"key": key, "history": history}
        state |= {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(checkpoint, state, fabric)
        on_epoch(history[-1])
    F_t.eval()
    return adapted, history


@dataclass(frozen=True)
class _Players:
    """F_t and D with their optimisers, and the dropout that F_s shares with F_t's kind."""

    F_t: nn.Module
    F_step: Any
    D: nn.Module
    D_step: Any
    dropout: nn.Module


def _one_epoch(
    players: _Players,
    source_features: Tensor,
    target: Subtomograms,
    batches: Iterable[tuple[NDArray[np.int64], ...]],
    *,
    rng: np.random.Generator,
    fabric: Fabric,
) -> dict[str, list[float]]:
    """Steps 2–7 of Algorithm 1 for each of the epoch's iterations.

    ``batches`` gives k minibatches of target particles for D and then one for F_t.
    """
    F_t, D = players.F_t, players.D
    record: dict[str, list[float]] = {}
    for *D_batches, F_batch in batches:
        for indices in D_batches:  # steps 2–5: update D, F_t fixed
            drawn = source_features[rng.integers(0, len(source_features), len(indices))]
            f_s = players.dropout(fabric.to_device(drawn))  # (m, features)
            with torch.no_grad():
                f_t = F_t(to_network(target.read(indices), fabric))  # (m, features)
            L_D = discriminator_loss(D, f_s, f_t)
            players.D_step.zero_grad()
            fabric.backward(L_D)
            players.D_step.step()
            _note(record, discriminator_loss=L_D, discriminator_accuracy=_hits(D, f_s, f_t))
        f_t = F_t(to_network(target.read(F_batch), fabric))
        L_F = feature_loss(D, f_t)  # steps 6–7: update F_t, D fixed
        players.F_step.zero_grad()
        fabric.backward(L_F)
        players.F_step.step()
        _note(record, feature_loss=L_F)
    return record


def _set_mode(network: nn.Module, options: AdversarialOptions) -> None:
    network.train(options.dropout)
    for layer in norm_layers(network):
        layer.train(options.statistics == "target_batch")


@torch.no_grad()
def _hits(D: nn.Module, f_s: Tensor, f_t: Tensor) -> Tensor:
    """Fraction of a batch whose domain D names right."""
    right_s = D(f_s).argmax(dim=1) == SOURCE
    right_t = D(f_t).argmax(dim=1) == TARGET
    return torch.cat([right_s, right_t]).float().mean()


def _note(record: dict[str, list[float]], **values: Tensor) -> None:
    for name, value in values.items():
        record.setdefault(name, []).append(float(value.detach()))


@dataclass(frozen=True)
class AdversarialAdaptation:
    """3D-ADA behind the interface of every method, with a check that it did not collapse.

    Parameters
    ----------
    source_model
        F_s and C.
    options
        See :class:`AdversarialOptions`.
    fabric
        Device and processes; chosen automatically when None.
    fall_back
        Give a safer model back after a collapse; otherwise what Algorithm 1 ended with, as where
        the literal method is to be measured.
    """

    source_model: Model
    options: AdversarialOptions = DEFAULT_RECIPE
    fabric: Fabric | None = None
    fall_back: bool = True
    name: str = "ada"

    def fit(
        self,
        source: LabelledSubtomograms,
        target: Subtomograms,
        *,
        checkpoint: Path | None = None,
        on_epoch: EpochReport = lambda _: None,
    ) -> Adaptation:
        """Run Algorithm 1; where signs of collapse speak against its result, warn and fall back.

        See :mod:`tomadapt.learn.guard` for the signs; they and the choice are in the model's card.
        """
        self.source_model.require_domains(source, target)
        fabric = self.fabric or make_fabric()
        model, history = algorithm_1(
            self.source_model,
            source.unlabelled(),
            target,
            self.options,
            fabric=fabric,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )
        choice = choose(
            self.source_model,
            model,
            source,
            target,
            feature_loss=history[-1]["feature_loss"],
            fabric=fabric,
        )
        options = self.options.model_dump(mode="json")
        training = adapted_training(self.source_model, target, options=options, history=history)
        training["guard"] = choice.record()
        if choice.name == "ada":
            return Adaptation(model.copy(training=training), history)
        used = choice.name if self.fall_back else "ada"
        warning = (
            "adversarial training collapsed or failed: "
            + "; ".join(choice.objections["ada"])
            + f"; the model that is returned is {_IN_WORDS[used]}"
        )
        training["adaptation_warning"] = warning
        returned = choice.model if self.fall_back else model
        # The card names the method that was asked for; the warning says what it gave back.
        card = {"method": model.card.method, "training": training}
        return Adaptation(returned.copy(**card), history, warning)


_IN_WORDS = {
    "ada": "its own all the same",
    "target_statistics": "the source model with re-estimated statistics",
    "source_only": "the source model as it was, for re-estimated statistics fail too",
}
