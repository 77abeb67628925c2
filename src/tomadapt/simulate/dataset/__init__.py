"""Simulated sets on disk: made in shards, resumable after a kill, memory-mapped when read.

A set is a folder. ``set.json`` says what it holds and is written last; ``shard-*.npy`` hold
float16 arrays (n, 2, d, d, d) — signal and unit noise, so one set serves every SNR —
and ``shard-*.npz`` the labels and poses. A shard is one block of indices of one class.

``config`` is what is simulated, ``making`` simulates it, ``reading`` opens it.
"""

from tomadapt.simulate.dataset.config import SimulationConfig, label_of
from tomadapt.simulate.dataset.making import (
    Progress,
    make_templates,
    simulate_set,
    template_digest,
)
from tomadapt.simulate.dataset.reading import (
    DAMAGE,
    SimulatedVolumes,
    open_set,
    require_independent,
    simulated,
)

__all__ = [
    "DAMAGE",
    "Progress",
    "SimulatedVolumes",
    "SimulationConfig",
    "label_of",
    "make_templates",
    "open_set",
    "require_independent",
    "simulate_set",
    "simulated",
    "template_digest",
]
