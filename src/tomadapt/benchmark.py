"""Throughput of simulation, training and prediction on the machine at hand."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import BATCH_B
from tomadapt.learn.engine import make_fabric, to_network
from tomadapt.learn.model import Model, ModelCard
from tomadapt.learn.networks import EXTRACTORS
from tomadapt.runs.versions import versions
from tomadapt.simulate.batches import BATCH, Batch, simulate_in_threads
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.projection import central_slices
from tomadapt.simulate.randomness import draw_noise, draw_poses
from tomadapt.simulate.simulator import Simulator

TRAINING_BATCH = 64
BATCHES_A_THREAD = 4
PHANTOM = "phantom"


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
        ``simulate_per_s`` as training reads a stream, ``simulate_stored_per_s`` as a stored set is
        made, ``train_per_s`` and ``predict_per_s`` by network, ``simulate_breakdown`` (see
        :func:`simulate_breakdown`), and what they were measured with.
    """
    fabric = make_fabric(device)
    density = GaussianPhantom.random(seed=1, radius=0.2 * box).density(box)
    simulator = Simulator(
        {PHANTOM: density}, BATCH_B, voxel_size_A=9.2, seed=0, device=fabric.device
    )
    size = BATCH[fabric.device.type]
    batch = Batch(simulator, PHANTOM, range(size))
    beside = [batch] * (BATCHES_A_THREAD * torch.get_num_threads())

    result: dict[str, Any] = {
        "simulate_per_s": _rate(
            lambda: simulate_in_threads(beside, lambda *_: None), len(beside) * size, seconds
        ),
        "simulate_stored_per_s": _rate(batch.simulated, size, seconds),
        "simulate_breakdown": simulate_breakdown(density, seconds=seconds),
    }
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


def simulate_breakdown(density: NDArray[np.float32], *, seconds: float) -> dict[str, Any]:
    """What simulation takes on one core of the CPU, and the least that it could take.

    The floor is the time of what cannot be left out, alone: as many normal deviates, the same
    Fourier transforms, and one copy of all arrays that lie between the steps. The look-ups in the
    templates' transforms are not in it.

    Parameters
    ----------
    density
        (d, d, d) template.
    seconds
        About what all of it may take.

    Returns
    -------
    dict
        ``particle_ms``; ``parts_ms`` by step, ``other`` being what their sum leaves of the whole;
        ``floor_parts_ms``, ``floor_ms``, and ``ratio`` = particle_ms / floor_ms. All in
        milliseconds of processor time a particle: other programs' share of the cores is not in it.
    """
    simulator = Simulator({PHANTOM: density}, BATCH_B, voxel_size_A=9.2, seed=0)
    indices, threads = range(BATCH["cpu"]), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            work = _steps(simulator, indices) | _floor(simulator, len(indices))
            taken = {
                name: _processor_ms(step, seconds / len(work)) / len(indices)
                for name, step in work.items()
            }
    finally:
        torch.set_num_threads(threads)
    parts = {name: taken[name] for name in ("poses", "normals", "slices", "inversion")}
    parts["images"] = taken["signal images"] - taken["slices"]
    parts["spectra"] = taken["tilt images"] - taken["signal images"] - taken["normals"]
    parts["other"] = taken["particles"] - sum(parts.values())
    floor = {name.removeprefix("bare "): ms for name, ms in taken.items() if "bare" in name}
    return {
        "particle_ms": round(taken["particles"], 3),
        "parts_ms": {name: round(ms, 3) for name, ms in parts.items()},
        "floor_parts_ms": {name: round(ms, 3) for name, ms in floor.items()},
        "floor_ms": round(sum(floor.values()), 3),
        "ratio": round(taken["particles"] / sum(floor.values()), 2),
    }


def _steps(simulator: Simulator, indices: range) -> dict[str, Callable[[], object]]:
    """The whole and its steps, some of which hold others."""
    shape = (len(simulator.tilts), simulator.box, simulator.box)
    shift = simulator.max_shift_voxels
    rotations, shifts = draw_poses(0, PHANTOM, indices, max_shift_voxels=shift)
    made = simulator.tilt_images(PHANTOM, indices, rotations, shifts)
    return {
        "particles": lambda: simulator.particles(PHANTOM, indices),
        "poses": lambda: draw_poses(0, PHANTOM, indices, max_shift_voxels=shift),
        "normals": lambda: draw_noise(0, PHANTOM, indices, shape=shape),
        "slices": lambda: central_slices(
            simulator.transforms[PHANTOM],
            torch.from_numpy(rotations),
            torch.from_numpy(shifts),
            simulator.tilts,
            simulator.grid,
        ),
        "signal images": lambda: simulator.signal_images(PHANTOM, rotations, shifts),
        "tilt images": lambda: simulator.tilt_images(PHANTOM, indices, rotations, shifts),
        "inversion": lambda: [simulator.reconstruct(x) for x in (made.signal, made.noise)],
    }


def _floor(simulator: Simulator, b: int) -> dict[str, Callable[[], object]]:
    """What ``b`` particles cannot do without, done alone."""
    t, n, padded = len(simulator.tilts), simulator.box, simulator.padded
    half, padded_half = n // 2 + 1, padded // 2 + 1
    images = torch.randn(b, t, n, n)  # of signal or noise
    slices = torch.zeros(b, t, padded_half, padded, dtype=torch.complex64)  # [ky, kx]
    rows = torch.zeros(b, t, n, padded_half, dtype=torch.complex64)  # [x, ky]
    spectrum = torch.zeros(b, n, n, half, dtype=torch.complex64)

    def transforms() -> None:
        torch.fft.ifft(slices)
        torch.fft.irfft(rows, n=padded)
        for _ in ("signal", "noise"):
            torch.fft.rfft2(images)
            torch.fft.irfftn(spectrum, s=(n, n, n), dim=(1, 2, 3))

    points = len(simulator.grid.kx)
    signal_only = t * (2 * points + 2 * padded * padded_half + 2 * n * padded_half)
    each = t * n * n + t * 2 * n * half + 2 * n * n * half + n**3
    between = torch.zeros(b * (signal_only + 2 * each))  # floats of all arrays between the steps
    copy = torch.empty_like(between)
    return {
        "bare normals": images.normal_,
        "bare transforms": transforms,
        "bare memory": lambda: copy.copy_(between),
    }


def _processor_ms(work: Callable[[], object], seconds: float) -> float:
    """Least processor time of this thread in milliseconds."""
    work()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.thread_time()
        work()
        best = min(best, time.thread_time() - before)
    return best * 1e3


def _rate(work: Callable[[], object], items: int, seconds: float) -> float:
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
