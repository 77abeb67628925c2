"""Particles from CSV files with a line of names."""

from __future__ import annotations

import csv
import io
import re

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    agreed_pixel_size_A,
    find_problems,
    missing_columns,
    numbers,
    rotations_from,
)

IN_ANGSTROM = ("x_A", "y_A", "z_A")
IN_VOXELS = ("x", "y", "z")
ANGLES = (("rot", "tilt", "psi"), ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
TOMOGRAM = ("tomogram", "tomo", "tomo_name", "rlnTomoName")
CLASS = ("class", "class_name", "label", "rlnClassNumber")
SCORE = ("score", "rlnAutopickFigureOfMerit")


def particles_from_csv(text: str, options: ReadOptions) -> ParticleList:
    """Read a CSV file; see :func:`~tomadapt.io.particle_lists.read_particles`.

    Columns are ``x_A, y_A, z_A`` (Å) or ``x, y, z`` (voxels, the first one's centre is 0), and
    optionally ``rot, tilt, psi`` (RELION's ZYZ in degrees), ``tomogram``, ``class``, ``score``.
    """
    return _Columns(text, options).particles()


class _Columns:
    def __init__(self, text: str, options: ReadOptions) -> None:
        self.options = options
        text = text.removeprefix("\ufeff")
        header = text.lstrip().split("\n", 1)[0]
        delimiter = max(",;\t", key=header.count)
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
        self.columns = {name: number for number, name in enumerate(names)}
        self.used: set[str] = set()

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

    def _place(self, row: int) -> str:
        return f"row {row + 1} (line {self.lines[row]})"

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
        return numbers(texts, what=name, path=self.options.path, place=self._place)

    def _coordinates_A(self) -> tuple[Doubles, Doubles | None]:
        stated_A, n = self.options.voxel_size_A, len(self.rows)
        in_angstrom = self._triple(IN_ANGSTROM)
        if in_angstrom is not None:
            known = stated_A is not None
            size = agreed_pixel_size_A(self.options.path, {}, stated_A, n) if known else None
            return in_angstrom, size
        in_voxels = self._triple(IN_VOXELS)
        if in_voxels is None:
            raise missing_columns(self.options.path, ["x_A, y_A, z_A or x, y, z"], [*self.columns])
        size_A = agreed_pixel_size_A(self.options.path, {}, stated_A, n)
        return in_voxels * size_A[:, None], size_A

    def particles(self) -> ParticleList:
        coordinates_A, size_A = self._coordinates_A()
        angles = next((a for a in map(self._triple, ANGLES) if a is not None), None)
        tomograms = self.options.names(self._texts(*TOMOGRAM), len(self.rows))
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
            problems=find_problems(coordinates_A, angles, tomograms, self._place),
        )

    def _extra(self) -> dict[str, tuple[str, ...]]:
        extra: dict[str, tuple[str, ...]] = {}
        for name in self.columns:
            if name not in self.used:
                label = "csv_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
                while label in extra:
                    label += "_"
                extra[label] = self._texts(name) or ()
        return extra
