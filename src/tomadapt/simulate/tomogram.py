"""A simulated tomogram with particles at known places ("planted"), by the physics of the sets.

particles without overlap in a slab → projections of all, tilt by tilt → CTF · envelope · MTF ·
exposure; white noise → spectrum of the recorded noise, growth with tilt; the sum of both images →
reconstruction at full size, plane by plane. Here live what is asked for, the placing, the images,
and the files of the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.io.atomic import atomic_path, output_folder
from tomadapt.io.particle_lists import ParticleList, write_star
from tomadapt.simulate import optics
from tomadapt.simulate.crowding import place_apart
from tomadapt.simulate.dataset import Progress, SimulationConfig, make_templates
from tomadapt.simulate.projection import SliceGrid, central_slices
from tomadapt.simulate.radiation import tilt_transfer
from tomadapt.simulate.randomness import POSE, draw_noise, particle_generator
from tomadapt.simulate.reconstruction import SlabInversion
from tomadapt.simulate.simulator import NULL_CLASS, Simulator, noise_filter
from tomadapt.structures.resampling import radius_A

KEY = "tomogram"
"""What keys of random draws begin with: a set of the same seed shares no pose and no noise."""

INTERIOR_RESOLUTION_A = 10.0
"""At this resolution the inside of a small complex is as dense as that of a large one: mass
densities of nine models of 40 to 730 kDa have maxima within ±14 % of their middle (measured)."""

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
        Label → particles of that class.
    folder
        A local folder where PDB IDs are looked up first.
    acquisition
        A named acquisition or a table of its parameters. Its thickness in mean free paths is its
        own, not the slab's.
    shape_zyx
        Voxels of the tomogram along z, y, x.
    snr
        Mean over all planted particles of each one's SNR: the variance of its own signal in the
        tilt images, over its box of ``box`` pixels and all tilts, divided by the variance of the
        noise. The noise is the same everywhere, so large particles have a higher SNR.
    seed
        See :mod:`tomadapt.simulate.randomness`.
    box
        Side in voxels of the templates; the reconstruction weights slices for it.
    voxel_size_A, resolution_A
        Å; Å (Gaussian with 2σ = resolution).
    gap_A
        Least distance between the spheres of two particles.
    weighting
        ``mass`` or ``electron``: what an atom counts as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[dict[str, str], BeforeValidator(SimulationConfig._list_of_names)]
    counts: dict[str, Annotated[int, Field(gt=0, le=20_000)]]
    folder: Path | None = None
    acquisition: Annotated[Acquisition, BeforeValidator(SimulationConfig._named)]
    shape_zyx: tuple[Side, Side, Side]
    snr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    box: Annotated[int, Field(ge=24, le=64)] = 40
    voxel_size_A: Annotated[float, Field(gt=0.5, lt=100)] = 9.2
    resolution_A: Annotated[float, Field(gt=1, lt=200)] = 9.2
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
        """A set with the same templates."""
        shared = ("classes", "folder", "acquisition", "box", "voxel_size_A", "resolution_A")
        values: dict[str, Any] = {name: getattr(self, name) for name in (*shared, "weighting")}
        return SimulationConfig(per_class=1, snr=self.snr, **values)

    @property
    def steps(self) -> int:
        """How many steps :func:`simulate_tomogram` tells its progress in."""
        particles = sum(self.counts.values())
        return particles + len(self.acquisition.tilt_angles_deg) + self.shape_zyx[0]


@dataclass(frozen=True, eq=False)
class PlantedTomogram:
    """A tomogram and the truth about it.

    Attributes
    ----------
    density
        (nz, ny, nx) float32, [z, y, x], density positive. Its unit is that of the templates, in
        which the inside of a macromolecule is about 1, less what optics and exposure take.
    voxel_size_A
        In Å.
    coordinates_A
        (n, 3), x, y, z from the centre of the first voxel; class after class.
    rotations
        (n, 3, 3), acting on (x, y, z): they turn a template into the particle's pose.
    labels
        (n,) indices into ``class_names``.
    class_names
        m names.
    radii_A
        (m,) radii of the classes' spheres, which hold 99 % of their mass.
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
    """Densities of all classes on one scale: the inside of each has a maximum of 1 before blurring.

    A template has the maximum 1 at its own resolution, where a small complex may be all blurred;
    its scale is therefore that at :data:`INTERIOR_RESOLUTION_A`, carried over by the mass.

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
    """Turn particles at random and put them where their spheres are free, the largest first.

    Each has a generator keyed by its class and index: for its pose, then for the places tried.

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
        When there is no room for one of them.
    """
    owners = _owners(config)
    radii = np.array([radii_A[name] for name, _ in owners])
    sides_A = np.array(config.shape_zyx[::-1]) * config.voxel_size_A
    generators = [particle_generator(config.seed, f"{KEY} {name}", i, POSE) for name, i in owners]
    rotations = np.stack([Rotation.random(rng=g).as_matrix() for g in generators])
    # By what a particle is, not by the order of classes, which must not matter.
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
    # The first corner is half a voxel before the first voxel's centre.
    coordinates[order] = centres - config.voxel_size_A / 2
    return coordinates, rotations


def _owners(config: TomogramConfig) -> list[tuple[str, int]]:
    """Class and index of each particle."""
    return [(name, index) for name in config.classes for index in range(config.counts[name])]


@dataclass(frozen=True)
class TiltSeries:
    """Tilt images of all particles, and the noise that comes to them.

    Attributes
    ----------
    projections
        (t, n, n) float32, [x, y], periodic, the tomogram's centre at index 0.
    grid, transfer
        The images' frequencies, and (t, p) what becomes of them.
    noise_filter
        (t, n, n // 2 + 1), see :func:`~tomadapt.simulate.simulator.noise_filter`.
    seed
        Of the noise.
    """

    projections: torch.Tensor
    grid: SliceGrid
    transfer: torch.Tensor
    noise_filter: torch.Tensor
    seed: int

    def signal(self, tilt: int) -> torch.Tensor:
        """Half-transform (n, n // 2 + 1) of one tilt's recorded signal, [kx, ky]."""
        transform: torch.Tensor = torch.fft.rfft2(self.projections[tilt])
        return transform.mul_(self.grid.scatter(self.transfer[tilt]))

    def noise(self, tilt: int) -> torch.Tensor:
        """Half-transform of one tilt's noise, of variance 1 as a mean over the tilts."""
        n = self.grid.n
        white = draw_noise(self.seed, KEY, [tilt], shape=(n, n))[0]
        transform: torch.Tensor = torch.fft.rfft2(white.to(self.noise_filter.device))
        return transform.mul_(self.noise_filter[tilt])


def paste_projections(
    images: torch.Tensor, patches: torch.Tensor, positions: torch.Tensor, tilts_deg: torch.Tensor
) -> None:
    """Add the projections of a particle to tilt images, each where the particle is seen.

    Parameters
    ----------
    images
        (t, n, n) periodic images [x, y], centre at index 0; changed.
    patches
        (t, m, m) periodic images of the particle alone, m < n. It lies at its full position,
        wrapped around: what is seen at pixel x is at x modulo m, whole pixels and parts of them
        alike.
    positions
        (3,) in voxels from the centre, (x, y, z).
    tilts_deg
        (t,) degrees.
    """
    n, m = images.shape[-1], patches.shape[-1]
    theta = torch.deg2rad(tilts_deg)
    x = positions[0] * theta.cos() + positions[2] * theta.sin()
    span = torch.arange(m, device=images.device) - m // 2
    rows = x.round().long()[:, None] + span  # (t, m)
    columns = positions[1].round().long() + span
    tilt = torch.arange(len(theta), device=images.device)[:, None, None]
    seen = patches[tilt, rows[:, :, None] % m, columns % m]
    images[tilt, rows[:, :, None] % n, columns % n] += seen


def image_particles(
    simulator: Simulator,
    config: TomogramConfig,
    coordinates_A: NDArray[np.float64],
    rotations: NDArray[np.float64],
    *,
    progress: Progress = lambda _: None,
) -> tuple[TiltSeries, NDArray[np.float64]]:
    """Tilt images of particles of a configuration's classes, class after class.

    Returns
    -------
    series
        The images.
    variances
        (n,) variance of each particle's own recorded signal over its box and all tilts.
    """
    tilts, device = simulator.tilts, simulator.device
    spread = optics.delocalisation_px(config.acquisition, pixel_size_A=config.voxel_size_A)
    widest = max(2 * SlabInversion.reach_of(tilts, config.shape_zyx), config.shape_zyx[1])
    # What CTF and weights spread beyond one side must not reach the other one.
    n = int(next_fast_len(math.ceil(widest + spread + simulator.padded)))
    images = torch.zeros(len(tilts), n, n, device=device)
    middle = np.array(config.shape_zyx[::-1]) // 2
    positions = (coordinates_A / config.voxel_size_A - middle).astype(np.float32)
    variances = np.empty(len(positions))
    for row, (name, index) in enumerate(_owners(config)):
        pose = rotations[row : row + 1].astype(np.float32)
        centred = simulator.tilt_images(name, [index], pose, np.zeros((1, 3), np.float32))
        variances[row] = float(centred.scale) ** -2
        position = torch.from_numpy(positions[row]).to(device)
        slices = central_slices(
            simulator.transforms[name],
            torch.from_numpy(pose).to(device),
            position[None],
            tilts,
            simulator.grid,
        )
        patches = torch.fft.irfft2(simulator.grid.scatter(slices[0]), s=(simulator.padded,) * 2)
        paste_projections(images, patches, position, tilts)
        progress(1)
    optical = {"pixel_size_A": config.voxel_size_A}
    grid = SliceGrid.inside_nyquist(n, device)
    series = TiltSeries(
        images,
        grid,
        tilt_transfer(config.acquisition, grid, **optical),
        noise_filter(config.acquisition, n=n, **optical).to(device),
        config.seed,
    )
    return series, variances


def simulate_tomogram(
    config: TomogramConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = lambda _: None,
) -> PlantedTomogram:
    """Simulate a tomogram whose particles are known.

    Parameters
    ----------
    config
        What to simulate.
    device
        Where to compute. Random numbers are drawn on the CPU.
    progress
        Told how many of ``config.steps`` were done.

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
    nz, ny, _ = config.shape_zyx
    density = np.empty(config.shape_zyx, np.float32)
    with torch.inference_mode():
        series, variances = image_particles(
            simulator, config, coordinates_A, rotations, progress=progress
        )
        noise_variance = float(variances.mean()) / config.snr
        inversion = SlabInversion.for_tilts(
            simulator.tilts,
            config.shape_zyx,
            n=series.grid.n,
            thickness=config.box,
            device=device,
        )
        tilts = len(simulator.tilts)
        images = torch.empty(tilts, inversion.rows, ny, device=simulator.device)
        for tilt in range(tilts):
            recorded = series.signal(tilt).add_(series.noise(tilt), alpha=noise_variance**0.5)
            images[tilt] = inversion.filtered(tilt, recorded)
            progress(1)
        for z in range(nz):
            density[z] = inversion.plane(images, z).cpu().numpy()
            progress(1)
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
    with (
        atomic_path(folder / f"{PLANTED_NAME}.mrc") as temporary,
        mrcfile.new(temporary, planted.density) as file,
    ):
        file.voxel_size = planted.voxel_size_A
        file.set_volume()
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
