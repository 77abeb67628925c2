"""Batches of particles, simulated in parallel on the cores of a CPU.

Several threads on one batch are hardly faster than one: its arrays are small, and torch waits for
all threads after each of some hundred operations. So each batch gets one thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from tomadapt.simulate.simulator import SimulatedParticles, Simulator

BATCH = {"cpu": 4, "cuda": 128}
"""Particles in a batch: few on a CPU, so that they stay in its cache."""


@dataclass(frozen=True)
class Batch:
    """Particles of one class that are simulated together."""

    simulator: Simulator
    class_name: str
    indices: Sequence[int]

    def simulated(self) -> SimulatedParticles:
        """Simulate them."""
        with torch.inference_mode():
            return self.simulator.particles(self.class_name, self.indices)


def simulate_in_threads(
    batches: Sequence[Batch], receive: Callable[[int, SimulatedParticles], None]
) -> None:
    """Simulate batches, as many in parallel as torch has threads.

    The number of threads at a batch changes rounding: threads split products differently into
    vectorised and remaining elements, which are rounded differently. Stored sets must be the same
    to the last digit on every machine, so they are not made here.

    Parameters
    ----------
    batches
        All on one kind of device; on a GPU they are simulated one after another.
    receive
        Called with a batch's number and its particles, on the thread that simulated them. (On the
        caller's thread, torch's threads would wait busily after each of its operations, and slow
        the others down.)
    """

    def work(number: int) -> None:
        receive(number, batches[number].simulated())

    threads = torch.get_num_threads()
    on_cpu = all(batch.simulator.device.type == "cpu" for batch in batches)
    if threads == 1 or len(batches) == 1 or not on_cpu:
        for number in range(len(batches)):
            work(number)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for _ in pool.map(work, range(len(batches))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        # The setting of a worker thread is inherited by later threads, so it is set back.
        torch.set_num_threads(threads)
