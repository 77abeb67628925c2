"""A source model for a stated acquisition: simulated, trained, and found again in a cache.

The folder of a source in the cache is named by a hash of all that the model depends on, the
structures' densities included; what is there is used, what was interrupted goes on. One folder may
hold models of several trainings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tomadapt.classify.options import SourceOptions
from tomadapt.data.subtomograms import JoinedMixable, LabelledSubtomograms, Subtomograms
from tomadapt.errors import ConfigError
from tomadapt.learn.model import Model
from tomadapt.learn.recolouring import recoloured
from tomadapt.learn.source import SourceTraining
from tomadapt.runs.atomic import locked, output_folder
from tomadapt.runs.digest import digest
from tomadapt.runs.progress import progress_bar
from tomadapt.simulate.dataset import (
    SimulationConfig,
    make_templates,
    simulate_set,
    template_digest,
)
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.structures import template
from tomadapt.structures.resampling import box_for_extent
from tomadapt.workflows.models import trained_model

VERSION = 1
"""Counted up when the same options come to give another model."""

MARGIN = 1.25
"""A box is so many times as wide as the largest structure: picks are not quite centred, and what
surrounds a particle tells it from its neighbours."""
SMALLEST_BOX, USUAL_BOX, LARGEST_BOX = 28, 40, 48
"""Voxels; where more would be needed at the tomogram's voxel size, the voxels are made coarser."""

_MEASURING_VOXEL_A, _MEASURING_BOX = 20.0, 64
MEASURING_GRID: Mapping[str, Any] = {"voxel_size_A": _MEASURING_VOXEL_A, "box": _MEASURING_BOX}
"""A grid that every structure fits into, to read it with."""


@dataclass(frozen=True)
class MatchedSource:
    """A source: its labelled particles and the model trained on them.

    Attributes
    ----------
    data
        Particles of all defoci.
    model
        The source model.
    reused
        Whether the model was in the cache already.
    path
        The model's file in the cache.
    """

    data: LabelledSubtomograms
    model: Model
    reused: bool
    path: Path


@dataclass(frozen=True)
class Geometry:
    """Cubes that hold all structures of a source.

    Attributes
    ----------
    box, voxel_size_A
        Side in voxels; Å.
    radii_A
        Class → radius of the sphere that holds 99 % of its mass.
    """

    box: int
    voxel_size_A: float
    radii_A: Mapping[str, float]

    @property
    def mean_diameter_A(self) -> float:
        """Of the classes."""
        return 2 * float(np.mean(list(self.radii_A.values())))


def choose_geometry(options: SourceOptions, tomogram_voxel_A: float) -> Geometry:
    """Box and voxel size for the largest structure, the tomogram's own voxels where they serve.

    Raises
    ------
    ConfigError
        When a stated box is too small for a structure.
    ConfigError, InputError, OfflineError
        From the structures.
    """
    radii_A = {
        label: template(
            structure,
            voxel_size_A=_MEASURING_VOXEL_A,
            box=_MEASURING_BOX,
            resolution_A=_MEASURING_VOXEL_A,
            folder=options.folder,
        ).radius_A
        for label, structure in options.all_classes.items()
        if label != NULL_CLASS
    }
    widest_A = 2 * MARGIN * max(radii_A.values())
    size = options.voxel_size_A
    if size is None:
        fits = widest_A / tomogram_voxel_A <= (options.box or LARGEST_BOX)
        size = tomogram_voxel_A if fits else widest_A / (options.box or USUAL_BOX)
    box = options.box
    if box is None:
        box = min(64, max(SMALLEST_BOX, 4 * math.ceil(widest_A / size / 4)))
    needed = box_for_extent(max(radii_A.values()), size)
    if box < needed:
        largest = max(radii_A, key=lambda label: radii_A[label])
        raise ConfigError(
            f"the box is too small for {largest}",
            expected=f"at least {needed} voxels of {size:g} Å (diameter {2 * radii_A[largest]:.0f} "
            "Å)",
            got=f"{box} voxels",
            remedy="enlarge the box or the voxels",
        )
    return Geometry(box, size, radii_A)


def matched_source(
    options: SourceOptions,
    geometry: Geometry,
    cache: Path,
    *,
    fabric: Fabric,
    like: Subtomograms | None = None,
) -> MatchedSource:
    """Simulate and train, or finish what was begun, or find it in the cache.

    Parameters
    ----------
    options, geometry
        What to simulate and train.
    cache
        Where sets and models are kept.
    fabric
        Device and precision.
    like
        Particles whose power spectrum the source's noise is given, if any: such a model is theirs
        alone, while the simulated sets serve all.

    Raises
    ------
    ConfigError, InputError, OfflineError
        From the structures.
    OutputError
        When the cache cannot be written.
    """
    simulations = [
        _simulation(options, geometry, number) for number in range(len(defoci_um(options)))
    ]
    folder = cache / f"source-{_digest_of_sets(options, simulations[0])}"
    output_folder(folder, needed_bytes=sum(s.stored_bytes for s in simulations))
    with locked(folder / "lock"):
        total = sum(s.n_particles for s in simulations)
        with progress_bar("simulate source", total, unit="subtomograms") as advance:
            sets = [
                simulate_set(s, folder / f"set-{n}", device=fabric.device, progress=advance)
                for n, s in enumerate(simulations)
            ]
        data, amplitudes = _joined(sets), None
        if like is not None:
            data, amplitudes = recoloured(data, like, snr=simulations[0].snr)
        name = f"model-{_digest_of_training(options, amplitudes)}"
        path = folder / f"{name}.safetensors"
        reused = path.exists()
        model = trained_model(path, data, _training(options), fabric=fabric, title="train source")
    return MatchedSource(data, model, reused, path)


def defoci_um(options: SourceOptions) -> list[float]:
    """Those that a source has particles at."""
    middle, spread = options.acquisition.defocus_um, options.defocus_spread_um
    return [middle] if spread == 0 else [middle, middle - spread, middle + spread]


def _simulation(options: SourceOptions, geometry: Geometry, number: int) -> SimulationConfig:
    """One defocus's set; the first is at the stated one."""
    acquisition = options.acquisition.model_copy(
        update={"defocus_um": round(defoci_um(options)[number], 6)}
    )
    return SimulationConfig(
        classes=options.all_classes,
        folder=options.folder,
        acquisition=acquisition,
        per_class=options.per_class,
        snr=float(np.sqrt(np.prod(options.snr_range))),
        # Seeds of sets of their own, far from the small numbers that users give to targets.
        seed=2**40 + 16 * options.seed + number,
        box=geometry.box,
        voxel_size_A=geometry.voxel_size_A,
        resolution_A=max(geometry.voxel_size_A, 8.0),
        neighbours=options.neighbours,
        even_noise=True,
    )


def _training(options: SourceOptions) -> SourceTraining:
    return SourceTraining(
        epochs=options.epochs,
        snr_range=options.snr_range,
        repair_noise=True,
        augment=True,
        seed=options.seed,
    )


def _digest_of_sets(options: SourceOptions, first: SimulationConfig) -> str:
    densities = {
        label: template_digest(density) for label, density in make_templates(first).items()
    }
    content = {
        "version": VERSION,
        "classes": list(options.all_classes),
        "templates": densities,
        # Signals and noise are kept apart, so the SNR does not matter yet.
        "simulation": first.model_dump(mode="json", exclude={"classes", "folder", "snr"}),
        "defoci": defoci_um(options),
    }
    return digest(content)


def _digest_of_training(options: SourceOptions, amplitudes: NDArray[np.float64] | None) -> str:
    content = {
        "training": _training(options).model_dump(mode="json"),
        "noise": None if amplitudes is None else np.round(amplitudes, 3).tolist(),
    }
    return digest(content)


def _joined(sets: list[LabelledSubtomograms]) -> LabelledSubtomograms:
    sources = tuple(source for data in sets if (source := data.source.mixable) is not None)
    labels: NDArray[np.int64] = np.concatenate([data.labels for data in sets])
    return LabelledSubtomograms(
        JoinedMixable(sources), labels=labels, class_names=sets[0].class_names
    )
