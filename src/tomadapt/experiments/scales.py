"""The scales at which experiments run, and what an experiment is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tomadapt.experiments.complexes import TWENTY_TWO, structure_files
from tomadapt.experiments.grid import Record, check_tasks, ordered, run_checked
from tomadapt.experiments.task import Task
from tomadapt.inputs.particles import Contrast
from tomadapt.learn.adversarial import DEFAULT_RECIPE, PAPER_RECIPE, AdversarialOptions
from tomadapt.learn.source import PAPER_TRAINING, SourceTraining
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.progress import progress_bar
from tomadapt.simulate.simulator import NULL_CLASS

if TYPE_CHECKING:
    from distributed import Client

SNRS = (1000.0, 0.5, 0.1, 0.05, 0.03)
"""Of source and target in Table 1, and of the source in Table 2."""


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes
    ----------
    name, note
        What every output says.
    builtin
        Whether the built-in structures serve, so that no data are needed.
    snrs
        Of the grid.
    box, voxel_size_A
        Of simulated cubes, where the experiment does not prescribe them (voxels, Å).
    per_class, held_out_per_class
        Particles of each class in each domain that are trained on or adapted to, and held out.
    experimental_per_class
        Source particles of each class for Table 2 and the real ribosomes.
    seeds, seeds_marked
        How many seeds in every cell, and in the grid's diagonal and corners.
    training, ada, ada_paper_recipe
        Options of the stages; seeds are set by the cells.
    """

    name: str
    note: str
    builtin: bool
    snrs: tuple[float, ...]
    box: int
    voxel_size_A: float
    per_class: int
    held_out_per_class: int
    experimental_per_class: int
    seeds: int
    seeds_marked: int
    training: SourceTraining
    ada: AdversarialOptions
    ada_paper_recipe: AdversarialOptions

    @property
    def line(self) -> str:
        """One line for every table and figure."""
        return (
            f"scale {self.name}: {self.per_class} + {self.held_out_per_class} held-out particles "
            f"per class and domain, {self.training.network} network, {self.training.epochs} "
            f"epochs, adaptation {self.ada.epochs} epochs ({self.note})"
        )

    def classes(self, data: Path | None) -> dict[str, str]:
        """The classes of the simulated experiments: 22 complexes and NULL, or a few for smoke."""
        if self.builtin:
            return {name: name for name in ("ribosome_70s", "apoferritin", NULL_CLASS)}
        return {**dict(structure_files(TWENTY_TWO, data)), NULL_CLASS: NULL_CLASS}


SMOKE = Scale(
    name="smoke",
    note="proves the plumbing only: its figures mean nothing",
    builtin=True,
    snrs=(1000.0, 0.1),
    box=24,
    voxel_size_A=16.0,
    per_class=6,
    held_out_per_class=3,
    experimental_per_class=6,
    seeds=1,
    seeds_marked=2,
    training=SourceTraining(epochs=2, batch_size=6),
    ada=DEFAULT_RECIPE.model_copy(update={"epochs": 2, "batch_size": 6}),
    ada_paper_recipe=PAPER_RECIPE.model_copy(update={"epochs": 2, "batch_size": 6}),
)
REDUCED = Scale(
    name="reduced",
    note="the paper: 1000 per class, its own network, 100 epochs, adaptation 10 epochs",
    builtin=False,
    snrs=SNRS,
    box=40,
    voxel_size_A=9.2,
    per_class=40,
    held_out_per_class=20,
    experimental_per_class=100,
    seeds=1,
    seeds_marked=3,
    # 1000 particles of each class are replaced by 40 whose noise is paired anew every epoch.
    training=SourceTraining(epochs=20, augment=True, repair_noise=True),
    # Small batches, or 40 particles a class would give F_t and D a few dozen updates only.
    ada=DEFAULT_RECIPE.model_copy(update={"epochs": 4, "batch_size": 16}),
    ada_paper_recipe=PAPER_RECIPE.model_copy(update={"epochs": 4, "batch_size": 16}),
)
PAPER = replace(
    REDUCED,
    name="paper",
    note="the paper's numbers of particles, network and epochs; for a GPU",
    per_class=1000,
    held_out_per_class=200,
    experimental_per_class=1000,
    training=PAPER_TRAINING,
    ada=DEFAULT_RECIPE,
    ada_paper_recipe=PAPER_RECIPE,
)
SCALES = {scale.name: scale for scale in (SMOKE, REDUCED, PAPER)}


@dataclass(frozen=True)
class Setting:
    """What an experiment is run with.

    Attributes
    ----------
    scale
        How much.
    data
        The user's folder of structures and volumes, if any.
    store
        Where runs are kept; shared by all experiments.
    out
        Where records, tables and figures are written.
    client
        A Dask client, or None for this process.
    voxel_size_A, contrast
        Of real volumes: Å where their files do not say it, and the sign of their density.
    """

    scale: Scale
    data: Path | None
    store: Path
    out: Path
    client: Client | None = None
    voxel_size_A: float | None = None
    contrast: Contrast = "measure"

    def run(self, groups: Sequence[Sequence[Task]], title: str) -> Iterator[tuple[Task, Record]]:
        """Run tasks and what they require; see :func:`tomadapt.experiments.grid.run_checked`.

        All groups are checked before any is begun, and each is finished before the next: a
        cluster would otherwise begin the last seed before the first is complete.
        """
        queue = ordered(task for group in groups for task in group)
        check_tasks(queue, self.store)
        output_folder(self.out)
        with progress_bar(f"{title} ({self.scale.name})", len(queue), unit="tasks") as advance:
            seen: set[str] = set()
            for group in groups:
                for task, record in run_checked(ordered(group), self.store, client=self.client):
                    advance(task.key not in seen, task.key)
                    seen.add(task.key)
                    yield task, record

    def finish(self, tasks: Iterable[Task], title: str) -> None:
        """Run tasks whose artefacts are wanted rather than their records."""
        for _ in self.run([list(tasks)], title):
            pass

    def file(self, name: str) -> Path:
        """An output's path: the scale is part of its name."""
        stem, suffix = name.rsplit(".", 1)
        return self.out / f"{stem}_{self.scale.name}.{suffix}"
