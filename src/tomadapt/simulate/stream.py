"""A stream: particles that are simulated when they are read, and not stored.

Training on a stored set of some hundred particles sees the same ones in every epoch. A stream has
as many particles as training needs, each with its own pose, defocus and noise, and needs no disk.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Indices, LabelledSubtomograms, MixableSource, SourceDefaults
from tomadapt.errors import ConfigError
from tomadapt.simulate.batches import BATCH, Batch, simulate_in_threads
from tomadapt.simulate.dataset import (
    SimulationConfig,
    make_templates,
    template_digest,
)
from tomadapt.simulate.simulator import SimulatedParticles, Simulator


@dataclass(frozen=True, eq=False)
class StreamedVolumes(SourceDefaults):
    """Simulated particles of all classes in turn, made when they are read.

    A particle does not depend on the other particles that are read with it.

    Attributes
    ----------
    config
        The configuration; the stream has ``per_class`` particles of each class.
    simulators
        One for each acquisition; particles of a class take them in turn.
    digests
        Digests of the templates, so that a changed structure gives another identity.
    turn
        Classes in the order of the particles, which begins again after the last.
    """

    config: SimulationConfig
    simulators: tuple[Simulator, ...]
    digests: tuple[str, ...]
    turn: tuple[str, ...]
    _last: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        """Give the number of particles: whole turns, with ``per_class`` of the first class."""
        return len(self.turn) * math.ceil(self.config.per_class / self.turn.count(self.turn[0]))

    @property
    def box(self) -> int:
        """Side in voxels."""
        return self.config.box

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""
        return self.config.voxel_size_A

    @property
    def acquisition(self) -> Acquisition:
        """The acquisition of the first simulator."""
        return self.config.acquisition

    @property
    def mixable(self) -> MixableSource:
        """The source itself."""
        return self

    @property
    def snr(self) -> float:
        """The SNR at which :meth:`read` mixes."""
        return self.config.snr

    @property
    def identity(self) -> str:
        """The configuration, the templates and all acquisitions."""
        recorded = [s.acquisition.model_dump(mode="json") for s in self.simulators]
        stated = [self.config.model_dump(mode="json"), self.digests, recorded]
        plain = self.turn == tuple(self.config.classes)
        return json.dumps(stated if plain else [*stated, self.turn])

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32, density positive, at this source's SNR."""
        return self.mix(indices, indices, torch.full((len(indices),), self.config.snr))

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        """Signal and noise as in :class:`~tomadapt.data.subtomograms.MixableSource`.

        For a particle with another one's noise both are simulated, which takes twice as long.
        """
        rows, others = np.asarray(indices, np.int64), np.asarray(noise_indices, np.int64)
        key = rows.tobytes()
        if key not in self._last:  # callers that need signal and noise apart call twice
            self._last.clear()
            self._last[key] = self._simulated(rows)
        signal, noise = self._last[key]
        noise = noise.clone()
        different = np.flatnonzero(rows != others)
        if len(different):
            noise[different] = self._simulated(others[different])[1]
        return noise.mul_(snr.rsqrt()[:, None, None, None]).add_(signal)

    def _simulated(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and unit noise, (b, d, d, d) each."""
        names = list(dict.fromkeys(self.turn))
        of_class, within = self.classes_of(rows)
        number = within % len(self.simulators)
        signal = torch.empty(len(rows), *(self.box,) * 3)
        noise = torch.empty_like(signal)
        places: list[NDArray[np.int64]] = []
        batches: list[Batch] = []
        for label, which in sorted(set(zip(of_class.tolist(), number.tolist(), strict=True))):
            here = np.flatnonzero((of_class == label) & (number == which))
            simulator = self.simulators[which]
            size = BATCH[simulator.device.type]
            for first in range(0, len(here), size):
                some = here[first : first + size]
                places.append(some)
                batches.append(Batch(simulator, names[label], within[some].tolist()))

        def receive(batch: int, made: SimulatedParticles) -> None:
            signal[places[batch]], noise[places[batch]] = made.signal.cpu(), made.noise.cpu()

        simulate_in_threads(batches, receive)
        return signal, noise

    def classes_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The class of each particle, by its first place in a turn, and its index in that class."""
        of_slot, before, count = self._slots
        slot, turns = rows % len(self.turn), rows // len(self.turn)
        return of_slot[slot], turns * count[slot] + before[slot]

    @cached_property
    def _slots(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each place in a turn: its class, how often it was there before, and is in a turn."""
        names, total, seen = list(dict.fromkeys(self.turn)), Counter(self.turn), Counter[str]()
        found = []
        for name in self.turn:
            found.append((names.index(name), seen[name], total[name]))
            seen[name] += 1
        of_slot, before, count = np.array(found, dtype=np.int64).T
        return of_slot, before, count


def stream(
    config: SimulationConfig,
    *,
    defoci_um: Sequence[float] = (),
    further: Mapping[str, NDArray[np.float32]] | None = None,
    rarer: int = 1,
    device: torch.device | str = "cpu",
) -> LabelledSubtomograms:
    """Labelled particles that are simulated when they are read.

    Parameters
    ----------
    config
        What to simulate.
    defoci_um
        Defoci that the particles of each class take in turn, positive = underfocus; the
        acquisition's own when empty.
    further
        More classes by their densities, on the configuration's grid; they are nobody's neighbours.
    rarer
        By how much each of these is rarer than a class of the configuration.
    device
        Where to compute.

    Raises
    ------
    ConfigError
        When fewer particles of a class are asked for than there are defoci.
    ConfigError, InputError, OfflineError
        From the structures.
    """
    defoci = list(defoci_um) or [config.acquisition.defocus_um]
    if config.per_class < len(defoci):
        raise ConfigError(
            "fewer particles of a class than defoci",
            expected=f"at least {len(defoci)} of each class",
            got=config.per_class,
        )
    more, templates = dict(further or {}), make_templates(config)
    simulators = tuple(
        Simulator(
            templates,
            config.acquisition.model_copy(update={"defocus_um": defocus}),
            voxel_size_A=config.voxel_size_A,
            seed=config.seed,
            max_shift_fraction=config.max_shift_fraction,
            neighbours=config.neighbours,
            even_noise=config.even_noise,
            device=device,
        ).with_further(more)
        for defocus in defoci
    )
    digests = tuple(template_digest(density) for density in (templates | more).values())
    turn = (*(list(config.classes) * (rarer if more else 1)), *more)
    source = StreamedVolumes(config, simulators, digests, turn)
    labels = source.classes_of(np.arange(len(source)))[0]
    return LabelledSubtomograms(source, labels=labels, class_names=(*config.classes, *more))
