"""A simulated tomogram with particles at known positions, by the same physics as simulated sets.

Particles are placed in a slab without overlap, imaged together with noise (``tilt_series``), and
reconstructed at full size, plane by plane. This module holds the configuration, the placing, and
the output files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import ParticleList, write_star
from tomadapt.runs.atomic import output_folder
from tomadapt.simulate.bounds import SNR, Box, ResolutionA, Seed, VoxelSizeA
from tomadapt.simulate.crowding import place_apart
from tomadapt.simulate.dataset import Progress, SimulationConfig, make_templates
from tomadapt.simulate.randomness import POSE, particle_generator
from tomadapt.simulate.reconstruction import SlabInversion
from tomadapt.simulate.simulator import NULL_CLASS, Simulator
from tomadapt.simulate.tilt_series import KEY, image_particles
from tomadapt.structures.resampling import radius_A

INTERIOR_RESOLUTION_A = 10.0
"""At this resolution the interior of a small complex is as dense as that of a large one: the maxima
of the mass densities of nine models of 40 to 730 kDa lie within ±14 % of the middle of their range
(measured). The voxels may be larger than this: from 4 to 20 Å the scale of a built-in structure
changes by at most 14 % (tested)."""

PLANTED_NAME = "tomogram"
"""The written tomogram's name without its extension, and its name in the particles' STAR file."""

Side = Annotated[int, Field(ge=16, le=4096)]


class TomogramConfig(BaseModel):
    """What to simulate.

    Parameters
    ----------
    classes
        Label → structure, or a list, as for a set; no ``null``.
    counts
        Label → number of particles.
    folder
        A local folder where PDB IDs are looked up first.
    acquisition
        A named acquisition or a table of its parameters. Its thickness in mean free paths is not
        derived from the slab.
    shape_zyx
        Voxels of the tomogram along z, y, x.
    snr
        Mean SNR of all planted particles. A particle's SNR is the variance of its own signal in the
        tilt images, over its box of ``box`` pixels and all tilts, divided by the variance of the
        noise. The noise is the same everywhere, so large particles have a higher SNR.
    seed
        See :mod:`tomadapt.simulate.randomness`.
    box
        Side in voxels of the templates; the thickness for the weights of the reconstruction.
    voxel_size_A, resolution_A
        Å; Å (Gaussian with 2σ = resolution).
    gap_A
        Least distance between the spheres of two particles.
    weighting
        ``mass`` or ``electron``: the weight of an atom.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[dict[str, str], BeforeValidator(SimulationConfig._list_of_names)]
    counts: dict[str, Annotated[int, Field(gt=0, le=20_000)]]
    folder: Path | None = None
    acquisition: Annotated[Acquisition, BeforeValidator(SimulationConfig._named)]
    shape_zyx: tuple[Side, Side, Side]
    snr: SNR
    seed: Seed = 0
    box: Box = 40
    voxel_size_A: VoxelSizeA = 9.2
    resolution_A: ResolutionA = 9.2
    gap_A: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    weighting: Literal["mass", "electron"] = "mass"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.classes or NULL_CLASS in self.classes:
            raise ValueError("classes must be structures, and null is none: leave it out")
        if set(self.counts) != set(self.classes):
            raise ValueError(
                f"counts must name each class once: {', '.join(self.classes)}; "
                f"got {', '.join(self.counts) or 'none'}"
            )
        return self

    @property
    def template_config(self) -> SimulationConfig:
        """The configuration of a set with the same templates."""
        shared = ("classes", "folder", "acquisition", "box", "voxel_size_A", "resolution_A")
        values: dict[str, Any] = {name: getattr(self, name) for name in (*shared, "weighting")}
        return SimulationConfig(per_class=1, snr=self.snr, **values)

    @property
    def particles(self) -> list[tuple[str, int]]:
        """Class and index in it of each particle, class after class."""
        return [(name, index) for name in self.classes for index in range(self.counts[name])]

    @property
    def steps(self) -> int:
        """Number of steps that :func:`simulate_tomogram` reports as progress."""
        return len(self.particles) + len(self.acquisition.tilt_angles_deg) + self.shape_zyx[0]


@dataclass(frozen=True, eq=False)
class PlantedTomogram:
    """A simulated tomogram and its ground truth.

    Attributes
    ----------
    density
        (nz, ny, nx) float32, [z, y, x], density positive. Its unit is that of the templates, in
        which the interior of a macromolecule is about 1, reduced by optics and exposure.
    voxel_size_A
        In Å.
    coordinates_A
        (n, 3), x, y, z from the centre of the first voxel; class after class.
    rotations
        (n, 3, 3), acting on (x, y, z): they rotate a template to the particle's pose.
    labels
        (n,) indices into ``class_names``.
    class_names
        m names.
    radii_A
        (m,) radii of spheres that hold 99 % of each class's mass.
    snr_of_class
        (m,) mean SNR of each class's particles; see :class:`TomogramConfig`. Their mean weighted by
        the counts is the stated one.
    """

    density: NDArray[np.float32]
    voxel_size_A: float
    coordinates_A: NDArray[np.float64]
    rotations: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    radii_A: NDArray[np.float64]
    snr_of_class: NDArray[np.float64]


def common_templates(config: TomogramConfig) -> dict[str, NDArray[np.float32]]:
    """Densities of all classes on a common scale: a maximum of 1 in the interior before blurring.

    Templates have the maximum 1 at their own resolution, where a small complex may be blurred. So
    each is scaled to the mass that it has with a maximum of 1 at :data:`INTERIOR_RESOLUTION_A`.

    Raises
    ------
    ConfigError, InputError, OfflineError
        From the structures.
    """
    wanted = config.template_config
    templates = make_templates(wanted)
    if config.resolution_A <= INTERIOR_RESOLUTION_A:
        return templates
    sharp = make_templates(wanted.model_copy(update={"resolution_A": INTERIOR_RESOLUTION_A}))
    return {
        name: density * np.float32(sharp[name].sum(dtype=float) / density.sum(dtype=float))
        for name, density in templates.items()
    }


def place_particles(
    config: TomogramConfig, radii_A: Mapping[str, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotate particles at random and place their spheres without overlap, the largest first.

    Each particle has a generator, keyed by its class and index, for its pose and its position.

    Parameters
    ----------
    config
        Shape, counts, gap and seed.
    radii_A
        Class → radius of its sphere in Å.

    Returns
    -------
    coordinates_A
        (n, 3), x, y, z from the centre of the first voxel; class after class.
    rotations
        (n, 3, 3), acting on (x, y, z).

    Raises
    ------
    ConfigError
        When they do not all fit.
    """
    owners = config.particles
    radii = np.array([radii_A[name] for name, _ in owners])
    sides_A = np.array(config.shape_zyx[::-1]) * config.voxel_size_A
    generators = [particle_generator(config.seed, f"{KEY} {name}", i, POSE) for name, i in owners]
    rotations = np.stack([Rotation.random(rng=g).as_matrix() for g in generators])
    # Sorted by radius and name, so that the order of classes does not matter.
    order = sorted(range(len(owners)), key=lambda row: (-radii[row], owners[row]))
    in_order = [generators[row] for row in order]
    centres = place_apart(in_order, radii=radii[order], gap=config.gap_A, sides=sides_A)
    if len(centres) < len(order):
        fraction = 4 / 3 * math.pi * float((radii**3).sum()) / float(sides_A.prod())
        without = order[len(centres)]
        raise ConfigError(
            f"{len(order)} particles do not fit into the tomogram",
            expected=f"room for all spheres, {config.gap_A:g} Å apart",
            got=f"none for one of {owners[without][0]} (radius {radii[without]:.0f} Å) after "
            f"{len(centres)} others; all spheres are {100 * fraction:.0f} % of the volume",
            remedy="lower counts or gap_A, or enlarge shape_zyx",
        )
    coordinates = np.empty_like(centres)
    # The first corner lies half a voxel before the centre of the first voxel.
    coordinates[order] = centres - config.voxel_size_A / 2
    return coordinates, rotations


def simulate_tomogram(
    config: TomogramConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = lambda _: None,
) -> PlantedTomogram:
    """Simulate a tomogram with known particles.

    Unlike a recorded one, it has no membranes, filaments, ice, carbon or gold, no alignment errors,
    and no change of defocus with height.

    Parameters
    ----------
    config
        What to simulate.
    device
        Where to compute. Random numbers are drawn on the CPU.
    progress
        Called with the number of further steps, ``config.steps`` in all.

    Raises
    ------
    ConfigError
        When the particles do not fit, or the acquisition passes no signal.
    ConfigError, InputError, OfflineError
        From the structures.
    """
    templates = common_templates(config)
    radii = {name: radius_A(density, config.voxel_size_A) for name, density in templates.items()}
    coordinates_A, rotations = place_particles(config, radii)
    simulator = Simulator(
        templates,
        config.acquisition,
        voxel_size_A=config.voxel_size_A,
        seed=config.seed,
        max_shift_fraction=0.0,
        device=device,
    )
    middle = np.array(config.shape_zyx[::-1]) // 2
    with torch.inference_mode():
        series, variances = image_particles(
            simulator,
            [name for name, _ in config.particles],
            coordinates_A / config.voxel_size_A - middle,
            rotations,
            shape_zyx=config.shape_zyx,
            progress=progress,
        )
        noise_variance = float(variances.mean()) / config.snr
        inversion = SlabInversion.for_tilts(
            simulator.tilts,
            config.shape_zyx,
            n=series.grid.n,
            thickness=config.box,
            device=device,
        )
        recorded = (
            series.signal(tilt).add_(series.noise(tilt), alpha=noise_variance**0.5)
            for tilt in range(len(simulator.tilts))
        )
        density = inversion(recorded, progress=progress)
    labels = np.repeat(np.arange(len(templates)), [config.counts[name] for name in templates])
    return PlantedTomogram(
        density=density,
        voxel_size_A=config.voxel_size_A,
        coordinates_A=coordinates_A,
        rotations=rotations,
        labels=labels,
        class_names=tuple(templates),
        radii_A=np.array(list(radii.values())),
        snr_of_class=np.bincount(labels, variances) / np.bincount(labels) / noise_variance,
    )


def write_planted(planted: PlantedTomogram, folder: Path | str) -> None:
    """Write ``tomogram.mrc`` and, with the truth, ``particles.star`` (RELION 4's coordinates).

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    folder = output_folder(Path(folder), needed_bytes=planted.density.nbytes)
    write_mrc(
        folder / f"{PLANTED_NAME}.mrc",
        planted.density,
        voxel_size_A=planted.voxel_size_A,
        labels=["tomadapt: simulated tomogram, density positive"],
    )
    names = [planted.class_names[label] for label in planted.labels]
    particles = ParticleList(
        planted.coordinates_A,
        Rotation.from_matrix(planted.rotations),
        (PLANTED_NAME,) * len(names),
        "relion4",
        pixel_size_A=np.full(len(names), planted.voxel_size_A),
    )
    write_star(
        folder / "particles.star",
        particles,
        columns={
            "tomadaptClassName": names,
            "rlnClassNumber": [int(label) + 1 for label in planted.labels],
        },
    )
