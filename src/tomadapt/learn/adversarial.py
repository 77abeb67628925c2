"""Stage 2, 3D-ADA: Algorithm 1 of Lin et al. 2019, followed by a check for collapse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
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
        Learning rates of Adam, for F_t and for D.
    beta1
        First moment decay of Adam, for both.
    weight_decay
        L2 penalty in Adam, for both.
    statistics
        Normalisation statistics of F_t (the paper's network has no normalisation layers).
        ``target`` re-estimates them on the target first and keeps them fixed; ``target_batch`` uses
        those of each target batch for training and running averages of them for prediction;
        ``source`` keeps the source's. F_s always keeps the source's.
    dropout
        Whether dropout is active in F_s and F_t during adaptation, as in the released code.
    seed
        Seed of D's weights and of all random draws.
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

    D has two outputs, whose log-softmax gives both logarithms without overflow.
    """
    of_source, of_target = D(source_features), D(target_features)
    return cross_entropy(of_source, _domain(SOURCE, of_source)) + cross_entropy(
        of_target, _domain(TARGET, of_target)
    )


def feature_loss(D: nn.Module, target_features: Tensor) -> Tensor:
    """Eq. 1: −E[log(1 − D(F_t(x_t)))], small when D takes target features for source features."""
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

    The numbers of the steps in the code are those of the paper. Step 5 is printed there as
    *ascending* the gradient of L_D, but Eq. 2 is a minimum: here D descends it. An epoch takes
    every target sample once for F_t, in a random order; source samples are drawn with replacement.

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
        ``discriminator_accuracy`` (close to 0.5 when D cannot distinguish the domains) and
        ``effective_classes`` of the target's predictions.

    Returns
    -------
    Model
        F_t and C.
    list of dict
        One record per epoch.
    """
    # F_s is fixed, so its features are computed once. Only dropout is drawn anew for each batch.
    source_features = torch.from_numpy(predict(source_model, source, fabric=fabric).features)

    adapted = source_model.copy(method="ada")
    extractor = adapted.extractor.to(fabric.device)
    if options.statistics != "source":
        re_estimate_statistics(extractor, target, fabric)
    domain_classifier = _new_discriminator(extractor.n_features, seed=options.seed)
    adam: dict[str, Any] = {"betas": (options.beta1, 0.999), "weight_decay": options.weight_decay}
    F_adam = torch.optim.Adam(extractor.parameters(), lr=options.learning_rate, **adam)
    D_adam = torch.optim.Adam(
        domain_classifier.parameters(), lr=options.discriminator_learning_rate, **adam
    )
    F_t, F_optimizer = fabric.setup(extractor, F_adam)
    D, D_optimizer = fabric.setup(domain_classifier, D_adam)

    parts: dict[str, Any] = {
        "F_t": extractor, "D": domain_classifier, "F_adam": F_adam, "D_adam": D_adam
    }  # fmt: skip
    history: list[dict[str, float]] = []
    made_with = {
        "options": options.model_dump(mode="json"),
        "source_model": source_model.fingerprint,
        "source": source.fingerprint,
        "target": target.fingerprint,
    }
    if saved := load_checkpoint(checkpoint, made_with=made_with):
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        history = saved["history"]

    for epoch in range(len(history), options.epochs):
        # Every epoch draws from its own seeds, so a resumed run draws the same.
        torch.manual_seed(dropout_seed(options.seed, epoch, fabric))
        F_t.train(options.dropout)  # predicting switched it to evaluation
        for layer in norm_layers(F_t):
            layer.train(options.statistics == "target_batch")
        draws = (SOURCE_DRAWS, epoch, fabric.global_rank)
        rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=draws))
        plans = [
            EpochPlan.draw(len(target), seed=options.seed, epoch=epoch, purpose=purpose)
            for purpose in range(1, options.discriminator_steps + 2)
        ]  # k plans of minibatches for D, and one for F_t
        batches = zip(*(plan.batches(options.batch_size, fabric) for plan in plans), strict=True)
        record: dict[str, list[float]] = {
            name: [] for name in ("discriminator_loss", "discriminator_accuracy", "feature_loss")
        }
        for *D_batches, F_batch in batches:  # step 1: for n training iterations
            for indices in D_batches:  # step 2: for k steps
                # Step 3: sample a minibatch of m samples from X_s.
                drawn = source_features[rng.integers(0, len(source_features), len(indices))]
                f_s = extractor.dropout(fabric.to_device(drawn))  # F_s(x_s), (m, features)
                # Step 4: sample a minibatch of m samples from X_t.
                with torch.no_grad():  # F_t is fixed
                    f_t = F_t(to_network(target.read(indices), fabric))  # (m, features)
                # Step 5: update D by descending the gradient of L_D.
                L_D = discriminator_loss(D, f_s, f_t)
                D_optimizer.zero_grad()
                fabric.backward(L_D)
                D_optimizer.step()
                record["discriminator_loss"].append(float(L_D.detach()))
                record["discriminator_accuracy"].append(_domain_accuracy(D, f_s, f_t))
            # Step 6: sample a minibatch of m target samples from X_t.
            f_t = F_t(to_network(target.read(F_batch), fabric))  # (m, features)
            # Step 7: update F_t by descending the gradient of L_F, with D fixed. (D's optimiser
            # takes no step here, and clears the gradients that L_F leaves in D before its next.)
            L_F = feature_loss(D, f_t)
            F_optimizer.zero_grad()
            fabric.backward(L_F)
            F_optimizer.step()
            record["feature_loss"].append(float(L_F.detach()))
        labels = predict(adapted, target, fabric=fabric).labels
        used = effective_classes(labels, len(adapted.card.class_names))
        means = {name: float(np.mean(values)) for name, values in record.items()}
        history.append({"epoch": epoch + 1} | means | {"effective_classes": used})
        states = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(checkpoint, {"made_with": made_with, "history": history, **states}, fabric)
        on_epoch(history[-1])
    extractor.eval()
    return adapted, history  # step 8, with C and without D, which has no further use


def _new_discriminator(n_features: int, *, seed: int) -> nn.Module:
    """D with random weights that depend on the seed alone."""
    weights = np.random.SeedSequence(seed, spawn_key=(WEIGHTS_OF_D,))
    torch.manual_seed(int(weights.generate_state(1)[0]))
    return discriminator(n_features)


@torch.no_grad()
def _domain_accuracy(D: nn.Module, f_s: Tensor, f_t: Tensor) -> float:
    """Fraction of the features of both domains whose domain D predicts correctly."""
    right_s = D(f_s).argmax(dim=1) == SOURCE  # (m,)
    right_t = D(f_t).argmax(dim=1) == TARGET
    return float(torch.cat([right_s, right_t]).float().mean())


@dataclass(frozen=True)
class AdversarialAdaptation:
    """3D-ADA with the interface of all methods, and a check whether it collapsed.

    Parameters
    ----------
    source_model
        F_s and C.
    options
        See :class:`AdversarialOptions`.
    fabric
        Device and processes; chosen automatically when None.
    fall_back
        Whether a safer model is returned after a collapse. Without it the result of Algorithm 1 is
        always returned, as needed to measure the method of the paper.
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
        """Run Algorithm 1; warn and fall back when its result shows signs of collapse.

        :mod:`tomadapt.learn.guard` defines the signs; they and the choice are recorded in the
        model's card.
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
            + f"; the model that is returned is {_RETURNED[used]}"
        )
        training["adaptation_warning"] = warning
        returned = choice.model if self.fall_back else model
        # The card names the method that was asked for; the warning says which model was returned.
        card = {"method": model.card.method, "training": training}
        return Adaptation(returned.copy(**card), history, warning)


_RETURNED = {
    "ada": "the adversarially trained one, because falling back is switched off",
    "target_statistics": "the source model with re-estimated statistics",
    "source_only": "the source model as it was, because re-estimated statistics fail too",
}
"""What the warning says about the returned model."""
