"""Throughput of simulation, training and prediction on the machine at hand."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from tomadapt.acquisition import BATCH_B
from tomadapt.learn.engine import make_fabric, to_network
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.networks import EXTRACTORS
from tomadapt.simulate.dataset import BATCH, versions
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.simulator import Simulator

TRAINING_BATCH = 64


def benchmark(*, box: int = 40, seconds: float = 6.0, device: str = "auto") -> dict[str, Any]:
    """Measure, each for about ``seconds`` after a warm-up.

    Parameters
    ----------
    box
        Side of the subtomograms.
    seconds
        Time spent on each figure; the best of three thirds is reported, since other work on the
        machine only ever slows one down.
    device
        See :func:`tomadapt.learn.engine.make_fabric`.

    Returns
    -------
    dict
        ``simulate_per_s``, ``train_per_s`` and ``predict_per_s`` by network, and what they were
        measured with.
    """
    fabric = make_fabric(device)
    density = GaussianPhantom.random(seed=1, radius=0.2 * box).density(box)
    simulator = Simulator(
        {"phantom": density}, BATCH_B, voxel_size_A=9.2, seed=0, device=fabric.device
    )

    batch = BATCH[fabric.device.type]

    def simulate() -> None:
        with torch.inference_mode():
            simulator.particles("phantom", range(batch))

    result: dict[str, Any] = {"simulate_per_s": _rate(simulate, batch, seconds)}
    result |= {"train_per_s": {}, "predict_per_s": {}}
    for name in EXTRACTORS:
        card = ModelCard(
            class_names=tuple(f"class {i}" for i in range(23)),
            box=box,
            voxel_size_A=9.2,
            network=name,
            acquisition=None,
        )
        model = Model.new(card)
        network = torch.nn.Sequential(model.extractor, model.classifier)
        optimiser = torch.optim.Adam(network.parameters())
        wrapped, step = fabric.setup(network, optimiser)
        x = to_network(torch.randn(TRAINING_BATCH, box, box, box), fabric)
        y = fabric.to_device(torch.arange(TRAINING_BATCH) % 23)

        def train(wrapped: Any = wrapped, step: Any = step, x: Any = x, y: Any = y) -> None:
            step.zero_grad()
            fabric.backward(torch.nn.functional.cross_entropy(wrapped(x), y))
            step.step()

        def predict(wrapped: Any = wrapped, x: Any = x) -> None:
            with torch.inference_mode():
                wrapped(x)

        wrapped.train()
        result["train_per_s"][name] = _rate(train, TRAINING_BATCH, seconds)
        wrapped.eval()
        result["predict_per_s"][name] = _rate(predict, TRAINING_BATCH, seconds)
    return result | {
        "device": str(fabric.device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": "bfloat16 (mixed)" if fabric.device.type == "cuda" else "float32",
        "box": box,
        "tilts": len(BATCH_B.tilt_angles_deg),
        "batch": TRAINING_BATCH,
        "versions": versions(),
    }


def _rate(work: Callable[[], None], items: int, seconds: float) -> float:
    work()
    best = 0.0
    for _ in range(3):
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds / 3:
            work()
            count += items
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = max(best, count / (time.perf_counter() - started))
    return round(best, 1)
