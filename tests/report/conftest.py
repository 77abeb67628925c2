"""A synthetic run with known numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tomadapt.acquisition import BATCH_A, BATCH_B
from tomadapt.learn.prediction import Prediction
from tomadapt.report.content import Domain, Evaluation, ReportContent

EIGHT = (
    "ribosome_70s",
    "ribosome_50s",
    "ribosome_30s",
    "ribosome_80s",
    "tric",
    "apoferritin",
    "spliceosome",
    "null",
)


def _labels_with_errors(labels: np.ndarray, n_classes: int, n_right: int, seed: int) -> np.ndarray:
    """Give labels of which exactly ``n_right`` are right; wrong ones are the next classes."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(labels))[n_right:]
    given = labels.copy()
    given[wrong] = (
        labels[wrong] + rng.choice([1, 1, min(2, n_classes - 1)], len(wrong))
    ) % n_classes
    return given


def _prediction(
    class_names: tuple[str, ...],
    true: np.ndarray,
    given: np.ndarray,
    *,
    spread: float,
    seed: int,
) -> Prediction:
    rng = np.random.default_rng(seed)
    n, c = len(given), len(class_names)
    best = rng.beta(6, 2 + 2 * spread, n) * 0.45 + 0.53
    probabilities = np.repeat(((1 - best) / (c - 1))[:, None], c, axis=1)
    probabilities[np.arange(n), given] = best
    centres = np.random.default_rng(1).normal(0, 1, (c, 16))
    features = 0.5 * (centres[true] + centres[given]) + rng.normal(0, spread, (n, 16))
    return Prediction(class_names, probabilities.astype(np.float32), features.astype(np.float32))


def _slices(class_names: tuple[str, ...], box: int, blur: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:box, :box] - box // 2
    examples = {}
    for i, name in enumerate(class_names):
        ring = np.exp(-((np.hypot(x, y) - 3 - i % 8) ** 2) / (4 + 3 * blur))
        examples[name] = (ring + rng.normal(0, 0.5, (3, box, box))).astype(np.float32)
    return examples


def build(
    class_names: tuple[str, ...] = EIGHT,
    *,
    n: int = 80,
    right: dict[str, int] | None = None,
    n_held_out: int = 40,
    labelled: bool = True,
    warning: str | None = None,
    seed: int = 0,
) -> ReportContent:
    """Build a run in which ``right[method]`` of the n particles are labelled right."""
    right = right or {"source_only": n // 2, "target_statistics": (5 * n) // 8, "ada": (3 * n) // 4}
    c = len(class_names)

    def evaluation(count: int, offset: int) -> Evaluation:
        true = np.arange(count) % c
        predictions = {
            method: _prediction(
                class_names,
                true,
                _labels_with_errors(true, c, k * count // n, seed=seed + 7),
                spread=0.9 if method == "source_only" else 0.5,
                seed=seed + offset + i,
            )
            for i, (method, k) in enumerate(right.items())
        }
        return Evaluation(predictions, true if labelled else None)

    target_slices = _slices(class_names, 24, 2, seed + 1)
    if not labelled:
        target_slices = {"unlabelled": np.concatenate(list(target_slices.values()))}
    return ReportContent(
        title="From batch_b to batch_a",
        class_names=class_names,
        source=Domain(
            "source: batch_b",
            10 * n,
            24,
            9.2,
            BATCH_B,
            0.1,
            0.52,
            _slices(class_names, 24, 0, seed),
        ),
        target=Domain(
            "target: batch_a", n + n_held_out, 24, 9.2, BATCH_A, 0.1, 0.31, target_slices
        ),
        source_history=[
            {
                "epoch": e + 1,
                "loss": 2.1 * np.exp(-e / 5),
                "accuracy": 0.95 - 0.8 * np.exp(-e / 4),
                "validation_accuracy": 0.92 - 0.8 * np.exp(-e / 4),
            }
            for e in range(20)
        ],
        adaptation_history=[
            {
                "epoch": e + 1,
                "discriminator_loss": 1.386 - 0.5 * np.exp(-e / 3),
                "discriminator_accuracy": 0.55 + 0.4 * np.exp(-e / 3),
                "feature_loss": 0.693 + 0.9 * np.exp(-e / 3),
                "effective_classes": 0.92 * c - 2 * np.exp(-e / 2),
            }
            for e in range(10)
        ],
        source_held_out=(0.9, 200),
        transductive=evaluation(n, 100),
        held_out=evaluation(n_held_out, 200) if n_held_out else None,
        warning=warning,
        seconds={"simulate": 61.4, "train": 130.0, "adapt": 8.25},
        provenance={
            "seed": 3,
            "versions": {"tomadapt": "0.1", "torch": "2.6"},
            "config": "box = 24\nsnr = 0.1",
        },
    )


@pytest.fixture(scope="session")
def make_content() -> Callable[..., ReportContent]:
    """Give :func:`build`, which test files cannot import."""
    return build
