"""Shared by all training loops: the device, batches drawn from a seed, and checkpoints."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms
from tomadapt.errors import InputError
from tomadapt.runs.atomic import atomic_path
from tomadapt.runs.own_folder import require_same

_EVALUATION_BATCH = 64


def make_fabric(device: str = "auto") -> Fabric:
    """Device, precision and processes: bf16 on a GPU, fp32 on a CPU.

    One process unless ``torchrun`` started several, on one node or many. No process is started
    from here, so that a command is never run twice by surprise.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """
    accelerator = device
    if device == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    precision: Any = "bf16-mixed" if accelerator == "cuda" else "32-true"
    fabric = Fabric(accelerator=accelerator, devices=local, num_nodes=nodes, precision=precision)
    if fabric.world_size > 1:
        fabric.launch()
    return fabric


EPOCH, DROPOUT, SOURCE_DRAWS, WEIGHTS_OF_D = 2, 3, 4, 5
"""Keys that are combined with the seed, so that no two uses of random numbers share them. (1 is
the key of a split.)"""


@dataclass(frozen=True)
class EpochPlan:
    """All random draws of one epoch, made at once for all particles.

    So the augmentation of a particle does not depend on its batch, and an epoch can be repeated
    after an interruption without a saved generator.

    Attributes
    ----------
    order
        (n,) the order of the particles.
    noise_from
        (n,) index of the particle whose noise each one gets, if noise is paired anew.
    uniform
        (n,) in [0, 1), from which an SNR is drawn.
    flips
        (n, 2) bits that choose one of the four half-turns.
    shifts
        (n, 3) voxels in −2 … 2, (z, y, x).
    """

    order: NDArray[np.int64]
    noise_from: NDArray[np.int64]
    uniform: NDArray[np.float64]
    flips: NDArray[np.int64]
    shifts: NDArray[np.int64]

    @classmethod
    def draw(cls, n: int, *, seed: int, epoch: int, purpose: int = 0) -> EpochPlan:
        """Draw the plan of an epoch; another ``purpose`` gives other draws."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(EPOCH, epoch, purpose)))
        return cls(
            rng.permutation(n),
            rng.permutation(n),
            rng.uniform(size=n),
            rng.integers(0, 2, (n, 2)),
            rng.integers(-2, 3, (n, 3)),
        )

    def batches(self, size: int, fabric: Fabric) -> Iterator[NDArray[np.int64]]:
        """The batches of one process; a smaller last one is left out, unless it is the only one."""
        even = len(self.order) - len(self.order) % fabric.world_size  # all processes step together
        share = self.order[: max(even, 1)][fabric.global_rank :: fabric.world_size]
        full = max(1, len(share) // size) * size
        for first in range(0, min(full, len(share)), size):
            yield share[first : first + size]


def dropout_seed(seed: int, epoch: int, fabric: Fabric) -> int:
    """Seed of torch's generator for an epoch of one process."""
    key = (DROPOUT, epoch, fabric.global_rank)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)


def to_network(volumes: torch.Tensor, fabric: Fabric) -> torch.Tensor:
    """(b, d, d, d) on the CPU → (b, 1, d, d, d) on the device, channels last (twice as fast)."""
    moved: torch.Tensor = fabric.to_device(volumes[:, None])
    return moved.contiguous(memory_format=torch.channels_last_3d)


def evaluation_batches(
    data: Subtomograms | LabelledSubtomograms, fabric: Fabric
) -> Iterator[torch.Tensor]:
    """All particles in order, as batches (b, 1, d, d, d) on the device."""
    for first in range(0, len(data), _EVALUATION_BATCH):
        rows = range(first, min(first + _EVALUATION_BATCH, len(data)))
        yield to_network(data.read(rows), fabric)


def save_checkpoint(path: Path | None, state: dict[str, Any], fabric: Fabric) -> None:
    """Write a checkpoint atomically, from one process; nothing when ``path`` is None."""
    if path is not None and fabric.global_rank == 0:
        # Through memory: torch reports a full disk as a RuntimeError without its reason.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path | None, *, made_with: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of an interrupted training.

    Parameters
    ----------
    path
        Of the checkpoint.
    made_with
        All that the training depends on, as JSON has it, with ``options`` among it; a checkpoint
        holds it under this name.

    Returns
    -------
    dict
        What was saved. None when there is no checkpoint; and, with a warning, when it is of an
        earlier version or of other data: particles, labels of a judge and noise are worked out
        anew before a training goes on, and another machine may round them otherwise.

    Raises
    ------
    InputError
        When the file is damaged.
    MismatchError
        When it is of a training with other options, naming what differs.
    """
    if path is None or not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"the checkpoint {path} is damaged",
            expected="a checkpoint of an interrupted run",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="delete it to start that stage again",
        ) from error
    found = state.get("made_with")
    if found is not None:
        require_same(
            path,
            found["options"],
            made_with["options"],
            what="training",
            remedy="use the options that it was begun with, or delete it to begin anew",
        )
        if found == made_with:
            return state
    why = "another version wrote it" if found is None else "it is of other data"
    warnings.warn(f"training begins anew, not from {path}: {why}", stacklevel=3)
    return None
