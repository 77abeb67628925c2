"""Particles as stacks of their tilt images (RELION 5, WarpTools ``--2d``): STAR files and stacks.

Sources: RELION 5's ``src/jaz/tomography/programs/subtomo.cpp`` and ``particle_set.cpp``; WarpTools'
``TiltSeries.ReconstructParticleSeries.cs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.mrc import open_mrc
from tomadapt.io.particle_lists.model import ParticleList, ReadOptions, missing_columns
from tomadapt.io.particle_lists.relion import SHIFTS_A, SHIFTS_PIXELS, particles_from_star
from tomadapt.io.relion_files import located
from tomadapt.io.star import StarDocument, StarTable, read_star
from tomadapt.io.voxel_sizes import cubic_voxel_size_A
from tomadapt.tomograms.relion_series import NumberTable, read_tilt_series
from tomadapt.tomograms.tilt_geometry import TiltGeometry

Doubles = NDArray[np.float64]

PARTICLES_FILE, TOMOGRAMS_FILE = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"
STACKS_FLAG = "rlnTomoSubTomosAre2DStacks"
PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
OF_MICROSCOPES = (
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnTomoTiltSeriesPixelSize",
)


@dataclass(frozen=True, eq=False)
class TiltStacks:
    """Particles of 2D tilt stacks, before any image is looked at.

    Attributes
    ----------
    particles
        The list; their coordinates are where a refinement put them.
    extracted_A
        (n, 3) x, y, z in Å where the images are centred: without the refinement's shifts.
    files
        The stack of each particle.
    visible
        For each particle, (t,) which images of its tilt series show it; None where its row does
        not fit to its tilt series.
    geometries
        By tomogram.
    voxel_size_A
        Of the images.
    rejected
        Why rows cannot be used, as far as the STAR files tell.
    """

    particles: ParticleList
    extracted_A: Doubles
    files: tuple[Path, ...]
    visible: tuple[NDArray[np.bool_] | None, ...]
    geometries: Mapping[str, TiltGeometry]
    voxel_size_A: float
    rejected: Mapping[int, str]

    def geometry(self, row: int) -> TiltGeometry:
        """The tilt series of a particle."""
        return self.geometries[self.particles.tomograms[row]]

    def images(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Read the images that a particle's cube is made of.

        RELION's stacks hold the visible images only, WarpTools' hold all. Images whose amplitudes
        have the factor 0 and images without any content are left out.

        Returns
        -------
        The images (u, n, n) as in the file, [y, x], and which ones of the tilt series they are.

        Raises
        ------
        InputError
            When the stack is missing, damaged, or has another number of images, or no squares.
        MismatchError
            When its pixels have another size.
        """
        path, shown = self.files[row], self.visible[row]
        scale = self.geometry(row).scale
        shown = np.ones(len(scale), dtype=bool) if shown is None else shown
        header, stack = open_mrc(path)
        if len(stack) not in (len(scale), shown.sum()) or stack.ndim != 3:
            raise InputError(
                f"{path} does not have an image for each tilt",
                expected=f"{len(scale)} images, or the {int(shown.sum())} that show the particle",
                got=len(stack),
                remedy="export the particles again",
            )
        if stack.shape[1] != stack.shape[2]:
            raise InputError(f"{path} holds no square images", got=f"shape {stack.shape}")
        x, y, _ = header.voxel_sizes_A  # along z there are images
        found_A = cubic_voxel_size_A(path, (x, y, x))
        if found_A is not None and abs(found_A / self.voxel_size_A - 1) > 0.01:
            raise MismatchError(
                f"the pixels of {path} are not those of the STAR file",
                expected=f"{self.voxel_size_A:g} Å",
                got=f"{found_A:g} Å",
                remedy="export the particles again",
            )
        used = np.flatnonzero(shown & (scale > 0))
        all_there = len(stack) == len(scale)
        images = np.asarray(
            stack[used if all_there else (np.cumsum(shown) - 1)[used]], dtype=np.float32
        )
        # NaN is kept here: it is for the caller to see.
        varying = ~(images.max(axis=(1, 2)) == images.min(axis=(1, 2)))
        return images[varying], used[varying]


def particle_file(path: Path | str) -> Path:
    """The STAR file with the particles' rows: that given, or what an optimisation set names.

    Raises
    ------
    InputError, ConfigError
        As for :func:`open_tilt_stacks`.
    """
    return particle_files(Path(path), None)[0]


def open_tilt_stacks(path: Path | str, *, tomograms: Path | str | None = None) -> TiltStacks:
    """Read the STAR files of particles that are 2D stacks.

    Parameters
    ----------
    path
        An optimisation set, or the STAR file of the particles.
    tomograms
        The STAR file of the tomograms; needed where the optimisation set is not given and no
        ``NAME_tomograms.star`` or ``tomograms.star`` lies beside ``NAME.star``.

    Raises
    ------
    InputError
        When a file is missing or damaged, lacks columns, or holds no CTF-premultiplied 2D stacks;
        when matrices are no rotations, or the specimen does not turn about y.
    ConfigError
        When the tomograms' file is not found.
    """
    path, tomograms_path = particle_files(
        Path(path), None if tomograms is None else Path(tomograms)
    )
    document = read_star(path)
    options = ReadOptions(path, tomograms=tomograms_path)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told as a problem
        particles = particles_from_star(document, options)
        assert particles.table is not None  # as of every STAR file
        extracted_A = particles_from_star(_unshifted(document, particles.table), options)
    optics = _Optics(document, particles.table, path)
    optics.require_premultiplied_stacks()
    geometries = read_tilt_series(
        tomograms_path, set(particles.tomograms), defaults=optics.common(OF_MICROSCOPES)
    )
    visible, reasons = _visible(particles, geometries)
    for row, name in enumerate(particles.tomograms):
        if name not in geometries:
            reasons[row] = f"its tomogram {name[:80]} is not in {tomograms_path}"
    rejected = {**reasons, **{problem.row: problem.reason for problem in particles.problems}}
    if "rlnImageName" not in particles.table:
        raise missing_columns(path, ["rlnImageName"], particles.table.labels)
    names = particles.table.column("rlnImageName")
    return TiltStacks(
        particles,
        extracted_A.coordinates_A,
        tuple(located(name, path) for name in names),
        visible,
        geometries,
        optics.voxel_size_A,
        dict(sorted(rejected.items())),
    )


def particle_files(path: Path, tomograms: Path | None) -> tuple[Path, Path]:
    """The STAR files of particles and tomograms."""
    for table in read_star(path).tables:
        if PARTICLES_FILE in table:
            if tomograms is None and TOMOGRAMS_FILE in table:
                tomograms = located(table.column(TOMOGRAMS_FILE)[0], path)
            path = located(table.column(PARTICLES_FILE)[0], path)
            break
    if tomograms is None:
        beside = [path.with_name(f"{path.stem}_tomograms.star"), path.with_name("tomograms.star")]
        tomograms = next((p for p in beside if p.is_file()), None)
        if tomograms is None:
            raise ConfigError(
                f"the tilt series of the particles in {path} are unknown",
                expected=f"{beside[0].name} or {beside[1].name} beside it",
                got="neither",
                remedy="give the STAR file of the tomograms, or the optimisation set",
            )
    return path, tomograms


def _unshifted(document: StarDocument, table: StarTable) -> StarDocument:
    """The document without what a refinement shifted particles by."""
    zeros = {c: ["0"] * len(table) for c in (*SHIFTS_A, *SHIFTS_PIXELS) if c in table}
    return document.replaced(table, table.with_columns(zeros)) if zeros else document


def _visible(
    particles: ParticleList, geometries: Mapping[str, TiltGeometry]
) -> tuple[tuple[NDArray[np.bool_] | None, ...], dict[int, str]]:
    """Which images show each particle, None for all, and why some rows do not say so."""
    label, table = "rlnTomoVisibleFrames", particles.table
    if table is None or label not in table:
        return (None,) * len(particles), {}
    visible: list[NDArray[np.bool_] | None] = []
    reasons = {}
    for row, text in enumerate(table.column(label)):
        entries = [entry.strip() for entry in text.strip("[]").split(",")]
        geometry = geometries.get(particles.tomograms[row])
        if not set(entries) <= {"0", "1"}:
            reasons[row] = f"its {label} is no list of 0 and 1: {text[:80]!r}"
        elif geometry is not None and len(entries) != len(geometry):
            reasons[row] = f"its {label} is of {len(entries)} images, not of {len(geometry)}"
        visible.append(None if row in reasons else np.array([e == "1" for e in entries]))
    return tuple(visible), reasons


class _Optics:
    """What the particles' optics groups say of the images."""

    def __init__(self, document: StarDocument, particles: StarTable, path: Path) -> None:
        self.document, self.path = document, path
        table = document.table("optics")
        if table is None or not len(table):
            raise InputError(
                f"{path} has no optics groups",
                expected="data_optics with rlnImagePixelSize",
                got=", ".join(f"data_{t.block}" for t in document.tables[:8]),
                remedy="export the particles again",
            )
        self.table = NumberTable(table, path)
        self.particles = particles

    def require_premultiplied_stacks(self) -> None:
        """Refuse 3D subtomograms, and images that were not multiplied by their CTF."""
        flagged = [t.column(STACKS_FLAG)[0] for t in self.document.tables if STACKS_FLAG in t]
        flat = all(self.table.numbers("rlnImageDimensionality", 3) == 2)
        if not (flagged == ["1"] if flagged else flat):
            raise InputError(
                f"the particles of {self.path} are no 2D stacks",
                expected=f"{STACKS_FLAG} 1",
                got=flagged[0] if flagged else "nothing of the kind",
                remedy="export them as 2D stacks, or open the 3D subtomograms themselves",
            )
        if not all(self.table.numbers(PREMULTIPLIED, 0) == 1):
            raise InputError(
                f"the images of {self.path} are not all multiplied by their CTF",
                expected=f"{PREMULTIPLIED} 1 in all optics groups",
                got="0, or no such column",
                remedy="export them with the CTF applied",
            )

    @property
    def voxel_size_A(self) -> float:
        sizes = self.table.numbers("rlnImagePixelSize")
        if not (sizes.min() > 0 and sizes.max() <= sizes.min() * 1.001):
            raise MismatchError(
                f"the optics groups of {self.path} differ in the size of their pixels",
                expected="one positive size",
                got=", ".join(f"{size:g}" for size in np.unique(sizes)[:8]) + " Å",
                remedy="split the file, or export all particles with one size",
            )
        return float(sizes[0])

    def common(self, labels: Sequence[str]) -> dict[str, float]:
        """What is the same for all groups."""
        values = {
            label: np.unique(self.table.numbers(label))
            for label in labels
            if label in self.table.table
        }
        return {label: float(found[0]) for label, found in values.items() if len(found) == 1}
