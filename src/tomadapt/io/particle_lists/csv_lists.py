"""Particles from and as CSV files with a line of names."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.particle_lists.columns import (
    Columns,
    checked_rows,
    column_texts,
    not_encodable,
    value_text,
)
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    agreed_pixel_size_A,
    find_problems,
    missing_columns,
    numbers,
    place_by_lines,
    relion_angles_deg,
    rotations_from,
)
from tomadapt.io.star import MAX_COLUMNS
from tomadapt.runs.atomic import write_rows

IN_ANGSTROM = ("x_A", "y_A", "z_A")
IN_VOXELS = ("x", "y", "z")
ANGLES = (("rot", "tilt", "psi"), ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
TOMOGRAM = ("tomogram", "tomo", "tomo_name", "rlnTomoName")
CLASS = ("tomadaptClassName", "class", "class_name", "label", "rlnClassNumber")
SCORE = ("tomadaptScore", "score", "rlnAutopickFigureOfMerit")
PIXEL = "pixel_size_A"

_READ = {PIXEL, *IN_ANGSTROM, *IN_VOXELS, *ANGLES[0], *TOMOGRAM, *CLASS, *SCORE}
_READ_LOWER = {name.lower(): name for name in _READ}
_OWN_NAME = re.compile(r"(csv_|dynamo|copick|portal|eman2|cryolo|imod)[A-Za-z0-9_]+")


def particles_from_csv(text: str, options: ReadOptions) -> ParticleList:
    """Read a CSV file; see :func:`~tomadapt.io.particle_lists.read_particles`.

    Columns are ``x_A, y_A, z_A`` (Å) or ``x, y, z`` (voxels, the first one's centre is 0), and
    optionally ``rot, tilt, psi`` (RELION's ZYZ in degrees), ``tomogram``, ``class``, ``score``,
    ``pixel_size_A`` (of the coordinates, Å); capitals do not matter. The results' columns of
    :func:`write_csv` are taken for the class and the score before any others.
    """
    return _Columns(text, options).particles()


def _as_known(names: Sequence[str]) -> list[str]:
    """Names as they are read here, where they differ from these by capitals alone: X for x."""
    counts = Counter(name.lower() for name in names)
    return [
        _READ_LOWER.get(name.lower(), name) if counts[name.lower()] == 1 else name for name in names
    ]


class _Columns:
    def __init__(self, text: str, options: ReadOptions) -> None:
        self.options = options
        text = text.removeprefix("\ufeff")
        header = re.sub(r'"[^"]*"', "", text.lstrip().split("\n", 1)[0])
        delimiter = max(",;\t", key=header.count)
        if header.count(delimiter) >= MAX_COLUMNS:
            got = f"{header.count(delimiter) + 1}"
            raise self._damaged(1, f"at most {MAX_COLUMNS} columns", got)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        self.rows: list[list[str]] = []
        self.lines: list[int] = []
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    self.rows.append([cell.strip() for cell in row])
                    self.lines.append(reader.line_num)
                    self._check_width()
        except csv.Error as error:
            raise self._damaged(reader.line_num, "comma-separated values", str(error)) from error
        if not self.rows:
            raise self._damaged(1, "a line of names", "none")
        names = self.rows.pop(0)
        self.lines.pop(0)
        if len(set(names)) != len(names):
            raise self._damaged(1, "each name once", ", ".join(names)[:200])
        self.columns = {name: number for number, name in enumerate(_as_known(names))}
        self.used: set[str] = set()
        self.place = place_by_lines(self.lines)

    def _check_width(self) -> None:
        if len(self.rows[-1]) != len(self.rows[0]):
            expected = f"{len(self.rows[0])} values, as many as names"
            raise self._damaged(self.lines[-1], expected, str(len(self.rows[-1])))

    def _damaged(self, line: int, expected: str, got: str) -> InputError:
        return InputError(
            f"{self.options.path}, line {line}, cannot be read as CSV",
            expected=expected,
            got=got,
            remedy="mend that line; the file may be cut off",
        )

    def _texts(self, *names: str) -> tuple[str, ...] | None:
        name = next((name for name in names if name in self.columns), None)
        if name is None:
            return None
        self.used.add(name)
        return tuple(row[self.columns[name]] for row in self.rows)

    def _triple(self, names: tuple[str, ...]) -> Doubles | None:
        missing = [name for name in names if name not in self.columns]
        if len(missing) == len(names):
            return None
        if missing:
            raise missing_columns(self.options.path, missing, list(self.columns))
        return np.stack([self._numbers(name) for name in names], axis=1)

    def _numbers(self, name: str) -> Doubles:
        texts = self._texts(name) or ()
        return numbers(texts, what=name, path=self.options.path, place=self.place)

    def _coordinates_A(self) -> tuple[Doubles, Doubles | None]:
        stated_A, n = self.options.voxel_size_A, len(self.rows)
        sizes_A = {PIXEL: self._numbers(PIXEL)} if PIXEL in self.columns else {}
        in_angstrom = self._triple(IN_ANGSTROM)
        if in_angstrom is not None:
            known = stated_A is not None or sizes_A
            size = agreed_pixel_size_A(self.options.path, sizes_A, stated_A, n) if known else None
            return in_angstrom, size
        in_voxels = self._triple(IN_VOXELS)
        if in_voxels is None:
            raise missing_columns(self.options.path, ["x_A, y_A, z_A or x, y, z"], [*self.columns])
        return self.options.in_pixels(in_voxels, sizes_A)

    def particles(self) -> ParticleList:
        coordinates_A, size_A = self._coordinates_A()
        angles = next((a for a in map(self._triple, ANGLES) if a is not None), None)
        names = self._texts(*TOMOGRAM)
        tomograms = self.options.names(names, len(self.rows))
        score = next((name for name in SCORE if name in self.columns), None)
        classes = self._texts(*CLASS)
        scores = self._numbers(score) if score else None
        return ParticleList(
            coordinates_A,
            None if angles is None else rotations_from(angles, "ZYZ"),
            tomograms,
            "csv",
            classes=classes,
            scores=scores,
            pixel_size_A=size_A,
            extra_columns=self._extra(),
            problems=find_problems(coordinates_A, angles, tomograms, self.place),
            in_angstrom=IN_ANGSTROM[0] in self.columns,
            names_stated=names is None,
        )

    def _extra(self) -> dict[str, tuple[str, ...]]:
        extra: dict[str, tuple[str, ...]] = {}
        for name in self.columns:
            if name not in self.used:
                own = _OWN_NAME.fullmatch(name)  # a column that a reader here has named already
                label = name if own else "csv_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
                while label in extra:
                    label += "_"
                extra[label] = self._texts(name) or ()
        return extra


def write_csv(
    path: Path | str,
    particles: ParticleList,
    *,
    columns: Columns | None = None,
    rows: Sequence[int] | None = None,
) -> None:
    """Write particles as a CSV file that :func:`~tomadapt.io.particle_lists.read_particles` reads.

    Its columns are ``tomogram``, ``x_A, y_A, z_A`` and, where the list has them, ``rot, tilt, psi``
    (RELION's ZYZ in degrees), ``class``, ``score`` and ``pixel_size_A``; then all columns of the
    list's STAR table, or whatever else its rows held; then the columns given. Names that this
    format would take for its own get ``star_`` before them. Blanks around a value are not read
    back, and neither are the other tables of a STAR file, which stay out.

    Parameters
    ----------
    columns
        Name to one value for *each* particle of the list. A column of that name is exchanged.
    rows
        Which particles, in which order; all of them when None.

    Raises
    ------
    ConfigError
        When a column or a row does not fit.
    OutputError
        When the file cannot be written.
    """
    path = Path(path)
    kept = checked_rows(rows, len(particles))
    cells = _cells(particles) | column_texts(columns)
    for name, texts in cells.items():
        writable = name and name == name.strip() and not any("\0" in t for t in (name, *texts))
        if len(texts) != len(particles) or not writable:
            raise ConfigError(
                f"the column {name!r} cannot be written into {path}",
                expected=f"a name without blanks around it, and {len(particles)} values",
                got=f"{len(texts)} values",
                remedy="give one value for each row, without zero bytes",
            )
    try:
        write_rows(path, cells, ([texts[row] for texts in cells.values()] for row in kept))
    except UnicodeEncodeError as error:
        raise not_encodable(path, error) from error


def _cells(particles: ParticleList) -> dict[str, Sequence[str]]:
    """All that a list knows of its particles, by the name of its column."""
    cells: dict[str, Sequence[str]] = {}
    if any(particles.tomograms):
        cells["tomogram"] = particles.tomograms
    cells |= _triple(IN_ANGSTROM, particles.coordinates_A)
    if particles.rotations is not None:
        cells |= _triple(ANGLES[0], _angles_deg(particles, particles.rotations))
    if particles.classes is not None:
        cells["class"] = particles.classes
    if particles.scores is not None:
        cells["score"] = [value_text(float(score)) for score in particles.scores]
    sizes_A = particles.pixel_size_A
    if sizes_A is not None and ((sizes_A > 0) & (sizes_A < 1000)).all():
        cells[PIXEL] = [repr(float(size)) for size in sizes_A]
    further: Mapping[str, Sequence[str]] = particles.extra_columns
    if particles.table is not None:
        further = {label: particles.table.column(label) for label in particles.table.labels}
    for label, texts in further.items():
        taken = label.lower() in _READ_LOWER and not label.startswith(
            ("rln", "tomadapt")
        )  # meant as such
        name = f"star_{label}" if taken else label
        while name in cells:
            name += "_"
        cells[name] = texts
    return cells


def _triple(names: Sequence[str], values: Doubles) -> dict[str, Sequence[str]]:
    columns = zip(names, values.T, strict=True)
    return {name: [repr(float(value)) for value in column] for name, column in columns}


def _angles_deg(particles: ParticleList, rotations: Rotation) -> Doubles:
    """RELION's angles, NaN where they were unusable, so that they are told to be so again."""
    angles = relion_angles_deg(rotations)
    without_angles = find_problems(particles.coordinates_A, None, particles.tomograms, str)
    unturned = {p.row for p in particles.problems} - {p.row for p in without_angles}
    angles[sorted(unturned)] = np.nan
    return angles
