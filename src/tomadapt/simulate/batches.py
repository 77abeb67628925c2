"""Batches of particles, simulated beside one another on a CPU's cores.

Several threads at one batch gain little: its arrays are small, and torch waits for all threads
after each of some hundred operations. Of several batches each has a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from tomadapt.simulate.simulator import SimulatedParticles, Simulator

BATCH = {"cpu": 4, "cuda": 128}
"""Particles simulated at once: few on a CPU, so that they stay in its cache."""


@dataclass(frozen=True)
class Batch:
    """Some particles of one class that are simulated together."""

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
    """Simulate batches, as many at once as torch has threads.

    With one thread each, particles differ by rounding from those of one batch on several threads:
    vectorised and remaining elements of a product are rounded apart, and threads divide them
    otherwise. So stored sets, which are to be the same to the last digit, are not made here.

    Parameters
    ----------
    batches
        All on one kind of device; on a GPU they are simulated one after another.
    receive
        Told a batch's number and its particles, on the thread that simulated them: torch's threads
        wait busily for a while after every operation of the caller's, and would hold up the others.
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
        # What a thread sets is also what later threads begin with, until it is set once more.
        torch.set_num_threads(threads)
