"""Particles from STAR files of RELION 3.0 to 5, of WarpTools and of M.

Sources: RELION 5's ``src/jaz/tomography/particle_set.cpp`` (``getPosition``, ``getMatrix3x3``,
``getParticleCoordDecenteredPixel``) and ``tomogram_set.cpp`` (the centre is half the size);
WarpTools' ``ExportParticlesTiltseries.cs`` and ``TiltSeries.ReconstructParticleSeries.cs``; M's
``Species.cs`` and ``Particle.cs`` (its own tables: in Å, coordinates for each sample in time).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.particle_lists.fractions import are_fractions, from_fractions_A
from tomadapt.io.particle_lists.model import (
    Dialect,
    Doubles,
    ParticleList,
    ReadOptions,
    RowProblem,
    agreed_pixel_size_A,
    find_problems,
    missing_columns,
    numbers,
    rotations_from,
)
from tomadapt.io.particle_lists.tomogram_sizes import SIZES, TILT_SERIES, stated_sizes
from tomadapt.io.star import StarDocument, StarTable, read_star

PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTERED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
SHIFTS_A = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")
SHIFTS_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
BOX_ANGLES = tuple(f"rlnTomoSubtomogram{name}" for name in ("Rot", "Tilt", "Psi"))
OF_M = ("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1")
ANGLES_OF_M = ("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1")
TOMOGRAM = ("rlnTomoName", "rlnMicrographName", "wrpSourceName")


def particles_from_star(document: StarDocument, options: ReadOptions) -> ParticleList:
    """Read the particles of a STAR file; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    sets = [table for table in document.tables if "rlnTomoParticlesFile" in table]
    table = _particle_table(document, options.path, optional=bool(sets))
    if table is None:
        return _from_optimisation_set(sets[0], options)
    return _Reader(document, table, options).particles()


def _particle_table(document: StarDocument, path: Path, *, optional: bool) -> StarTable | None:
    """The table of particles: the block of that name, or else the only one with coordinates."""
    found = [t for t in document.tables if any(c in t for c in (*PIXELS, *CENTERED, *OF_M))]
    named = [table for table in found if table.block.lower() == "particles"]
    found = named or found
    if len(found) == 1:
        return found[0]
    if not found and optional:
        return None
    if not found:
        labels = [label for table in document.tables for label in table.labels]
        raise missing_columns(path, [f"{PIXELS[0]} … or {CENTERED[0]} …"], labels)
    raise InputError(
        f"{path} has several tables of particles",
        expected="one table with coordinates, or one of them named data_particles",
        got=", ".join(f"data_{table.block} (line {table.first_line})" for table in found[:5]),
        remedy="split the file or rename the table that is meant",
    )


def _from_optimisation_set(table: StarTable, options: ReadOptions) -> ParticleList:
    """Follow RELION's optimisation set to its particles and tomograms, once."""
    particles = _beside(options.path, table.column("rlnTomoParticlesFile")[:1])
    names = table.column("rlnTomoTomogramsFile") if "rlnTomoTomogramsFile" in table else ()
    tomograms = options.tomograms or _beside(options.path, names[:1])
    document = read_star(particles or options.path)
    inner = _particle_table(document, particles or options.path, optional=True)
    if particles is None or inner is None:
        raise InputError(
            f"the optimisation set {options.path} leads to no particles",
            expected="rlnTomoParticlesFile to name a file of particles",
            got=f"{particles}, which has none",
            remedy="give the STAR file of the particles",
        )
    followed = replace(options, path=particles, tomograms=tomograms)
    return _Reader(document, inner, followed).particles()


def _beside(path: Path, names: Sequence[str]) -> Path | None:
    """A file named in a STAR file: RELION means its project folder, other programs this one."""
    if not names:
        return None
    with contextlib.suppress(OSError):  # such as a name too long, which then is not found
        places = (Path(names[0]), path.parent / names[0])
        return next((p for p in places if p.exists()), Path(names[0]))
    return Path(names[0])


class _Reader:
    """Reads one table, with the optics groups of its document."""

    def __init__(self, document: StarDocument, table: StarTable, options: ReadOptions) -> None:
        self.document, self.table, self.options = document, table, options
        self.path, self.n = options.path, len(table)
        name = next((c for c in TOMOGRAM if c in table), None)
        self.names_stated = name is None
        self.tomograms = options.names(table.column(name) if name else None, self.n)
        self.optics = self._optics()
        self.without_size: dict[int, str] = {}

    def particles(self) -> ParticleList:
        dialect, basis = self._dialect(), ""
        sizes_A = self._pixel_sizes_A(dialect)
        # WarpTools' template matching names no pixel size.
        if dialect == "warp" and not sizes_A and are_fractions(self._columns(PIXELS)):
            coordinates_A, basis = from_fractions_A(self._columns(PIXELS), self.options)
        elif dialect == "relion5":
            coordinates_A, sizes_A = self._centered_A(sizes_A)
        elif dialect == "m":
            coordinates_A = self._mean_over_time(OF_M)
            if self.options.voxel_size_A is not None:
                stated_A = self.options.voxel_size_A
                sizes_A = {"": agreed_pixel_size_A(self.path, sizes_A, stated_A, self.n)}
        else:
            places = self._columns(PIXELS)
            pixel_A = agreed_pixel_size_A(self.path, sizes_A, self.options.voxel_size_A, self.n)
            coordinates_A = places * pixel_A[:, None]
            sizes_A = {"": pixel_A, **sizes_A}
        angles = self._triple(ANGLES_OF_M if dialect == "m" else ANGLES)
        box_angles = self._triple(BOX_ANGLES)
        box = None if box_angles is None else rotations_from(box_angles, "ZYZ")
        own = None if angles is None else rotations_from(angles, "ZYZ")
        coordinates_A = coordinates_A - self._shifts_A(box, sizes_A)
        parts = [a for a in (angles, box_angles) if a is not None]
        found = find_problems(
            coordinates_A, np.hstack(parts) if parts else None, self.tomograms, self.table.place
        )
        problems = tuple(
            RowProblem(p.row, self.without_size[p.row], lacks_size=True)
            if p.row in self.without_size
            else p
            for p in found
        )
        return ParticleList(
            coordinates_A,
            own if box is None else box if own is None else box * own,
            self.tomograms,
            dialect,
            classes=self._texts("tomadaptClassName", "rlnClassNumber"),
            scores=self._scores(),
            # Of several, that which the coordinates count in; of those in Å, the tilt series'.
            pixel_size_A=sizes_A.get(
                "", sizes_A.get(TILT_SERIES, next(iter(sizes_A.values()), None))
            ),
            document=self.document,
            table=self.table,
            problems=problems,
            basis=basis,
            in_angstrom=dialect in ("relion5", "m"),
            names_stated=self.names_stated,
        )

    def _dialect(self) -> Dialect:
        if all(label in self.table for label in CENTERED):
            return "relion5"
        in_pixels = all(label in self.table for label in PIXELS)
        if not in_pixels and any(label in self.table for label in OF_M):
            return "m"
        if self.n and all(name.endswith(".tomostar") for name in self.tomograms):
            return "warp"
        if "rlnTomoName" in self.table:
            return "relion4"
        if self.optics is not None:
            return "relion3.1"
        return "relion3.0" if "rlnMagnification" in self.table else "star"

    def _pixel_sizes_A(self, dialect: Dialect) -> dict[str, Doubles]:
        """The pixel sizes that the coordinates may count in, the likeliest first.

        RELION 4 counts in pixels of the tilt series whatever the binning of its subtomograms
        (which its ``rlnImagePixelSize`` is of). WarpTools counts in the pixels that it exported,
        and its older versions still named the tilt series' size beside them.
        """
        order: tuple[str, ...] = ("rlnMicrographPixelSize", "rlnPixelSize", "rlnImagePixelSize")
        if dialect == "warp":
            order = ("rlnImagePixelSize", "rlnPixelSize", TILT_SERIES)
        elif dialect == "relion4":
            order = (TILT_SERIES,)
        elif dialect == "relion5":
            order = (TILT_SERIES, "rlnImagePixelSize")
        sizes = {label: self._optional(label) for label in order}
        found = {label: size for label, size in sizes.items() if size is not None}
        detector = self._optional("rlnDetectorPixelSize")
        magnification = self._optional("rlnMagnification")
        if detector is not None and magnification is not None and dialect != "relion4":
            with np.errstate(divide="ignore", invalid="ignore"):
                found["rlnDetectorPixelSize/rlnMagnification"] = detector * 1e4 / magnification
        return found

    def _centered_A(self, sizes_A: dict[str, Doubles]) -> tuple[Doubles, dict[str, Doubles]]:
        """RELION 5's coordinates count from the tomogram's centre, half its size in Å."""
        if not self.n:
            return self._columns(CENTERED), sizes_A
        given, extent_A = self.options.tomograms, self.options.extent_A
        if extent_A is None and given is None and any(label not in self.table for label in SIZES):
            raise ConfigError(
                f"the coordinates in {self.path} count from the tomograms' centres",
                expected="the tomograms' STAR file or the tomogram's extent",
                got="neither",
                remedy="give RELION's tomograms.star, or its optimisation set in place of the file",
            )
        half_A = np.empty((self.n, 3))
        if extent_A is not None:
            half_A[:] = np.asarray(extent_A, dtype=np.float64) / 2
        else:
            by_name = self._extents_A(read_star(given) if given else self.document, sizes_A)
            self._note_without_size(given or self.path, by_name)
            unknown = np.full(4, np.nan)
            of_row = np.stack([by_name.get(name, unknown) for name in self.tomograms])
            half_A = of_row[:, :3] / 2
            own_A = sizes_A.get(TILT_SERIES, of_row[:, 3])
            tilt_series = np.where(np.isnan(of_row[:, 3]), own_A, of_row[:, 3])
            sizes_A = {TILT_SERIES: tilt_series, **sizes_A}
        if self.options.voxel_size_A is not None:
            known = [row for row in range(self.n) if row not in self.without_size]
            of_known = {label: sizes[known] for label, sizes in sizes_A.items()}
            agreed_pixel_size_A(self.path, of_known, self.options.voxel_size_A, len(known))
        return self._columns(CENTERED) + half_A, sizes_A

    def _note_without_size(self, where: Path, by_name: Mapping[str, Doubles]) -> None:
        """Take note of rows whose tomogram has no size; others may be all that are wanted.

        Raises
        ------
        InputError
            When no row's tomogram has one.
        """
        self.without_size = {
            row: f"{self.table.place(row)}: {where} has no size of its tomogram {name[:80]!r}: "
            "give the tomograms that it was picked in"
            for row, name in enumerate(self.tomograms)
            if name not in by_name
        }
        if len(self.without_size) == self.n:
            raise InputError(
                f"{where} does not know the tomogram of {self.path}, {self.table.place(0)}",
                expected=f"a row with the size of {self.tomograms[0][:80]!r}",
                got=", ".join(list(by_name)[:5]) or "none",
                remedy="give the tomograms that these particles were picked in",
            )

    def _extents_A(self, document: StarDocument, sizes_A: dict[str, Doubles]) -> dict[str, Doubles]:
        """Extent xyz and pixel size in Å of each tomogram that has them."""
        where = self.options.tomograms or self.path
        found: dict[str, Doubles] = {}
        of_particle: dict[str, float] = {}
        if TILT_SERIES in sizes_A:
            of_particle = dict(zip(self.tomograms, sizes_A[TILT_SERIES].tolist(), strict=True))
        for name, (size, own_A) in stated_sizes(document, where).items():
            if own_A is None and TILT_SERIES not in sizes_A:
                raise missing_columns(where, [TILT_SERIES], ["rlnTomoName", *SIZES])
            pixel_A = of_particle.get(name) if own_A is None else own_A
            if pixel_A is not None:
                found[name] = np.array([*(size * pixel_A), pixel_A])
        return {
            name: extent
            for name, extent in found.items()
            if (np.isfinite(extent) & (extent > 0)).all()
        }

    def _shifts_A(self, box: Rotation | None, sizes_A: dict[str, Doubles]) -> Doubles:
        """What a refinement found is taken off, turned as the subtomogram's box is."""
        shifts_A = self._triple(SHIFTS_A)
        if shifts_A is None:
            shifts = self._triple(SHIFTS_PIXELS)
            if shifts is None or not self.n:
                return np.zeros((self.n, 3))
            # Rows whose tomogram has no size are reported and not used; they have no pixel size.
            known = [row for row in range(self.n) if row not in self.without_size]
            sizes = {label: size[known] for label, size in sizes_A.items()}
            size_A = agreed_pixel_size_A(self.path, sizes, self.options.voxel_size_A, len(known))
            shifts_A = np.full((self.n, 3), np.nan)
            shifts_A[known] = shifts[known] * size_A[:, None]
        if box is None:
            return shifts_A
        turned: Doubles = box.apply(np.nan_to_num(shifts_A, nan=0.0, posinf=0.0, neginf=0.0))
        return np.where(np.isfinite(shifts_A).all(axis=1, keepdims=True), turned, np.nan)

    def _scores(self) -> Doubles | None:
        labels = ("tomadaptScore", "rlnAutopickFigureOfMerit")
        return next((self._optional(label) for label in labels if label in self.table), None)

    def _optics(self) -> tuple[StarTable, list[int]] | None:
        """The optics table and each particle's row in it."""
        table = self.document.table("optics")
        if table is None or table is self.table or not len(table):
            return None
        if "rlnOpticsGroup" not in table or "rlnOpticsGroup" not in self.table:
            if len(table) == 1:
                return table, [0] * self.n
            raise missing_columns(self.path, ["rlnOpticsGroup"], self.table.labels)
        rows = {_group(text): row for row, text in enumerate(table.column("rlnOpticsGroup"))}
        groups = [_group(text) for text in self.table.column("rlnOpticsGroup")]
        for row, group in enumerate(groups):
            if group not in rows:
                raise InputError(
                    f"{self.path}, {self.table.place(row)}: its optics group is not in data_optics",
                    expected=" or ".join(list(rows)[:8]),
                    got=group[:80],
                    remedy="mend rlnOpticsGroup or add the group",
                )
        return table, [rows[group] for group in groups]

    def _of(self, table: StarTable, label: str, path: Path) -> Doubles:
        return numbers(table.column(label), what=label, path=path, place=table.place)

    def _optional(self, label: str) -> Doubles | None:
        """A column of the particles, or of their optics groups."""
        if label in self.table:
            return self._of(self.table, label, self.path)
        if self.optics is not None and label in self.optics[0]:
            values: Doubles = self._of(self.optics[0], label, self.path)[self.optics[1]]
            return values
        return None

    def _columns(self, labels: tuple[str, ...]) -> Doubles:
        """(n, 3)."""
        missing = [label for label in labels if label not in self.table]
        if missing:
            raise missing_columns(self.path, missing, self.table.labels)
        return np.stack([self._of(self.table, c, self.path) for c in labels], axis=1)

    def _mean_over_time(self, first: tuple[str, ...]) -> Doubles:
        """M's coordinates, (n, 3), as its ``CoordinatesMean``: over all samples that there are."""
        samples, later = [first], _numbered(first, 2)
        while all(label in self.table for label in later):
            samples.append(later)
            later = _numbered(first, len(samples) + 1)
        mean: Doubles = np.mean([self._columns(labels) for labels in samples], axis=0)
        return mean

    def _triple(self, labels: tuple[str, ...]) -> Doubles | None:
        return self._columns(labels) if any(c in self.table for c in labels) else None

    def _texts(self, *labels: str) -> tuple[str, ...] | None:
        return next((self.table.column(label) for label in labels if label in self.table), None)


def _numbered(first: tuple[str, ...], number: int) -> tuple[str, ...]:
    return tuple(f"{label[:-1]}{number}" for label in first)


def _group(text: str) -> str:
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) < 20 else text


def box_rotations(particles: ParticleList) -> Rotation | None:
    """The rotations of RELION's boxes, by which the poses in them are turned; None without any."""
    table = particles.table
    if table is None or not all(label in table for label in BOX_ANGLES):
        return None
    degrees = [[float(text) for text in table.column(label)] for label in BOX_ANGLES]
    return rotations_from(np.array(degrees).T, "ZYZ")
