"""The simulated domains of the paper, and the tasks of one cell between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition
from tomadapt.errors import ConfigError
from tomadapt.experiments.models import AdaptTask, TrainTask
from tomadapt.experiments.particles import Particles, SimulateTask
from tomadapt.experiments.scales import Scale
from tomadapt.learn.catalogue import METHODS, MethodOptions, default_options, with_seed
from tomadapt.simulate.dataset import SimulationConfig

ORACLE = "oracle"
"""Trained on the target's labels: what no adaptation is expected to beat."""


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, with one seed."""

    source_snr: float
    target_snr: float
    seed: int = 0

    @property
    def fields(self) -> dict[str, float]:
        """Its place in records."""
        return {"source_snr": self.source_snr, "target_snr": self.target_snr}


@dataclass(frozen=True)
class PaperDomains:
    """PaperDomains B (source) and A (target) of Lin et al. 2019, section 3.1.

    Attributes
    ----------
    scale
        How many particles, which options.
    classes
        Label → structure.
    """

    scale: Scale
    classes: dict[str, str]

    def particles(
        self, acquisition: Acquisition, snr: float, *, seed: int, without: tuple[str, ...] = ()
    ) -> Particles:
        """A batch's particles at an SNR; the simulation is shared by all SNRs."""
        simulation = SimulationConfig(
            classes=self.classes,
            acquisition=acquisition,
            per_class=self.scale.per_class + self.scale.held_out_per_class,
            snr=snr,
            seed=seed,
            box=self.scale.box,
            voxel_size_A=self.scale.voxel_size_A,
            resolution_A=self.scale.voxel_size_A,
        )
        made = SimulateTask.of(simulation)
        return Particles(made=made, snr=snr, per_class=self.scale.per_class, without=without)

    def source(self, cell: Cell, **changes: Any) -> Particles:
        """Batch B: Cs 2.2 mm, 10 µm underfocus."""
        return self.particles(BATCH_B, cell.source_snr, seed=2 * cell.seed, **changes)

    def target(self, cell: Cell, **changes: Any) -> Particles:
        """Batch A: Cs 2.0 mm, 5 µm underfocus."""
        return self.particles(BATCH_A, cell.target_snr, seed=2 * cell.seed + 1, **changes)

    def source_model(
        self, cell: Cell, *, without: tuple[str, ...] = (), **training: Any
    ) -> TrainTask:
        """F_s and C; the same for every target. ``training`` changes the scale's options."""
        options = self.scale.training.model_copy(update={"seed": cell.seed, **training})
        return TrainTask(data=self.source(cell, without=without), training=options)

    def oracle(self, cell: Cell) -> TrainTask:
        """Trained on the target with its labels; the same for every source."""
        options = self.scale.training.model_copy(update={"seed": cell.seed})
        return TrainTask(data=self.target(cell), training=options)

    def adapted(
        self, cell: Cell, method: str, *, without: tuple[str, ...] = (), **training: Any
    ) -> AdaptTask:
        """The source model adapted by a method."""
        return AdaptTask(
            method=method,
            source_model=self.source_model(cell, without=without, **training),
            target=self.target(cell, without=without),
            options=method_options(method, self.scale, seed=cell.seed),
        )


def method_options(method: str, scale: Scale, *, seed: int) -> MethodOptions | None:
    """A method's options at a scale."""
    scaled = {"ada": scale.ada, "most_consistent": scale.ada}
    scaled |= {"ada_paper_recipe": scale.ada_paper_recipe}
    if method in scaled:
        return with_seed(scaled[method], seed)
    return default_options(method, seed=seed)


def require_methods(names: tuple[str, ...]) -> None:
    """Refuse names that are no method of the tables.

    Raises
    ------
    ConfigError
        Naming the first of them.
    """
    for name in names:
        if name not in (*METHODS, ORACLE):
            raise ConfigError(
                f"unknown method {name!r}",
                expected=f"one of {', '.join((*METHODS, ORACLE))}",
                remedy="mend --method",
            )
