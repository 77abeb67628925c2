"""The particles that tasks are about: simulated sets, and users' files with known classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.experiments.task import Description, Task
from tomadapt.inputs.labelled import open_labelled_folder
from tomadapt.inputs.particles import Contrast, open_target
from tomadapt.learn.engine import make_fabric
from tomadapt.learn.recolouring import recoloured
from tomadapt.runs.digest import digest
from tomadapt.simulate.bounds import SNR
from tomadapt.simulate.dataset import SimulationConfig, make_templates, open_set, simulate_set

Parts = tuple[LabelledSubtomograms, LabelledSubtomograms | None]
"""Particles to train on or adapt to, and those held out."""


class SimulateTask(Task):
    """A simulated set, which serves every SNR.

    Parameters
    ----------
    simulation
        What to simulate.
    structures
        Label → a digest of the structure's file, or its name where it is built in.
    """

    kind: Literal["set"] = "set"
    simulation: SimulationConfig
    structures: dict[str, str]

    @classmethod
    def of(cls, simulation: SimulationConfig) -> SimulateTask:
        """The task of a simulation; the SNR does not belong to it."""
        return cls(
            simulation=simulation.model_copy(update={"snr": 1.0}),
            structures={label: _digest(spec) for label, spec in simulation.classes.items()},
        )

    def for_key(self, content: dict[str, Any]) -> dict[str, Any]:
        """What counts: the structures' content instead of their places."""
        simulation = content["simulation"]
        counts = {k: v for k, v in simulation.items() if k not in ("classes", "folder")}
        return super().for_key(content) | {
            "simulation": counts,
            "structures": list(self.structures.items()),
        }

    def check(self) -> None:
        """Refuse structures that cannot be read or do not fit the box."""
        make_templates(self.simulation)

    def run(self, folder: Path, store: Path) -> dict[str, Any]:
        """Simulate the set, or the rest of it."""
        data = simulate_set(self.simulation, folder / "set", device=make_fabric().device)
        return {"n": len(data)}

    def open(self, store: Path, *, snr: float) -> LabelledSubtomograms:
        """The set at an SNR."""
        return open_set(store / self.key / "set", snr=snr)


def _digest(structure: str) -> str:
    path = Path(structure)
    if not path.is_file():
        return structure
    return _digest_of_file(path, path.stat().st_mtime_ns)


@cache
def _digest_of_file(path: Path, modified: int) -> str:
    return digest(path.read_bytes(), size=16)


class Particles(Description):
    """Some of a set's particles at an SNR.

    Parameters
    ----------
    made
        The set.
    snr
        At which it is read.
    per_class
        The first so many of each class are trained on or adapted to, the others held out.
    without
        Classes left out of both.
    """

    made: SimulateTask
    snr: SNR
    per_class: Annotated[int, Field(ge=2)]
    without: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.per_class > self.made.simulation.per_class:
            raise ValueError(f"the set has {self.made.simulation.per_class} of each class only")
        return self

    @property
    def requires(self) -> Sequence[Task]:
        """The set."""
        return (self.made,)

    @property
    def size(self) -> tuple[int, float]:
        """Box in voxels and voxel size in Å."""
        return self.made.simulation.box, self.made.simulation.voxel_size_A

    def open(self, store: Path) -> Parts:
        """The particles to use, and those held out."""
        whole = self.made.open(store, snr=self.snr)
        return whole.without_classes(self.without).first_of_each_class(self.per_class)


class RecordedParticles(Description):
    """Particles from files, of which none is held out.

    Parameters
    ----------
    path
        Where they are.
    classes
        In the order of the source's.
    stated_voxel_size_A
        Å, where the files do not say it.
    contrast
        As for :func:`tomadapt.inputs.particles.open_target`.
    content
        A digest of voxels and labels.
    size
        Box in voxels and voxel size in Å.
    """

    # How the files were to be read shows in what was read.
    not_in_key: ClassVar[frozenset[str]] = frozenset({"path", "stated_voxel_size_A", "contrast"})

    path: Path
    classes: tuple[str, ...]
    stated_voxel_size_A: float | None = None
    contrast: Contrast = "measure"
    content: str = ""
    size: tuple[int, float] = (0, 0.0)

    @property
    def requires(self) -> Sequence[Task]:
        """Nothing: they are there."""
        return ()

    def read(self) -> Self:
        """The same, with content and size as they are found in the files now."""
        data, _ = self.open(self.path)
        content = digest(data.fingerprint, data.labels, size=16)
        update = {"path": self.path.resolve(), "content": content}
        return self.model_copy(update=update | {"size": (data.box, data.voxel_size_A)})

    def open(self, store: Path) -> Parts:
        """All particles, and nothing held out."""
        raise NotImplementedError


class LabelledFolder(RecordedParticles):
    """Particles of several classes, see :func:`tomadapt.inputs.labelled.open_labelled_folder`."""

    def open(self, store: Path) -> Parts:
        """All particles, and nothing held out."""
        data = open_labelled_folder(
            self.path,
            self.classes,
            voxel_size_A=self.stated_voxel_size_A,
            contrast=self.contrast,
        )
        return data, None


class OneClassFile(RecordedParticles):
    """Particles that are all of one known class, see :func:`tomadapt.inputs.particles.open_target`.

    Parameters
    ----------
    label
        The class.
    """

    label: str

    def open(self, store: Path) -> Parts:
        """All particles, and nothing held out."""
        data = open_target(self.path, voxel_size_A=self.stated_voxel_size_A, contrast=self.contrast)
        labels = np.full(len(data), self.classes.index(self.label))
        return LabelledSubtomograms(data.source, labels=labels, class_names=self.classes), None


class RecolouredParticles(Particles):
    """A set's particles whose noise has the power spectrum of recorded ones.

    Parameters
    ----------
    like
        The recorded ones; of their labels nothing is used.
    """

    like: OneClassFile

    def open(self, store: Path) -> Parts:
        """The particles to use, and those held out."""
        parts = super().open(store)
        target = self.like.open(self.like.path)[0].unlabelled()
        seen, held_out = (
            None if part is None else recoloured(part, target, snr=self.snr)[0] for part in parts
        )
        assert seen is not None
        return seen, held_out
