"""What every format is turned into: positions in Å, rotations, names, and what else a row held."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.star import StarDocument, StarTable
from tomadapt.io.voxel_sizes import OVERRIDDEN, STATED_TAKEN, require_in_range

Dialect = Literal[
    "relion3.0",
    "relion3.1",
    "relion4",
    "relion5",
    "warp",
    "m",
    "star",
    "dynamo",
    "copick",
    "csv",
    "portal",
    "eman2",
    "cryolo",
    "imod",
    "points",
]
Doubles = NDArray[np.float64]
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
SAME_PLACE_A = 0.01
"""Particles of one tomogram that are nearer than about this are the same one listed twice."""


@dataclass(frozen=True)
class RowProblem:
    """Why a row cannot be used.

    Attributes
    ----------
    row
        Its index, from 0, among the particles.
    reason
        In words, with its place in the file.
    lacks_size
        Whether all that is wrong is that nobody gave the size of its tomogram. Who does not want
        that tomogram's particles need not give it.
    """

    row: int
    reason: str
    lacks_size: bool = False


@dataclass(frozen=True, eq=False)
class ParticleList:
    """The particles of a file, one for each of its rows, in its order.

    A coordinate of 0 is the centre of the tomogram's first voxel. Voxel ``i`` of a tomogram with
    voxels of ``v`` Å lies at ``i v`` whatever its binning, so ``coordinates_A / v`` reversed is the
    place in an array ``[z, y, x]``; the middle of a tomogram of ``n`` voxels is at ``n v / 2``,
    voxel ``n // 2`` for even ``n``. That is how RELION, Warp and copick scale coordinates. Shifts
    that a refinement found are already in them.

    Attributes
    ----------
    coordinates_A
        (n, 3) xyz.
    rotations
        n rotations that turn the reference into the particle's pose in the tomogram (the ``R`` of
        ``docs/conventions.md``), or None where the file has none.
    tomograms
        n names as they are in the file; empty where it has none.
    dialect
        How the file was understood.
    classes
        n class names or numbers as they are in the file.
    scores
        (n,) the picker's scores.
    pixel_size_A
        (n,) size of the pixels of the tilt series (or of the grid) that the file names.
    extra_columns
        Of formats other than STAR: what else a row held, by a name fit for a STAR file.
    document, table
        The STAR file, and which of its tables holds the particles.
    problems
        Rows that cannot be used: coordinates or angles not finite, particles listed twice.
    basis
        In a sentence, what the coordinates count in, where the format leaves a doubt.
    in_angstrom
        Whether the file's coordinates are in Å, so that ``pixel_size_A`` does not scale them.
    names_stated
        Whether ``tomograms`` is what was stated, because the file names none.
    """

    coordinates_A: Doubles
    rotations: Rotation | None
    tomograms: tuple[str, ...]
    dialect: Dialect
    classes: tuple[str, ...] | None = None
    scores: Doubles | None = None
    pixel_size_A: Doubles | None = None
    extra_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    document: StarDocument | None = None
    table: StarTable | None = None
    problems: tuple[RowProblem, ...] = ()
    basis: str = ""
    in_angstrom: bool = False
    names_stated: bool = False

    def __len__(self) -> int:
        """Give the number of particles, which is that of the file's rows."""
        return len(self.coordinates_A)

    @property
    def own_tomograms(self) -> tuple[str, ...]:
        """The n names that the file itself has; empty where it has none."""
        return ("",) * len(self) if self.names_stated else self.tomograms


@dataclass(frozen=True)
class ReadOptions:
    """What a user says about a file; see :func:`~tomadapt.io.particle_lists.read_particles`."""

    path: Path
    voxel_size_A: float | None = None
    tomograms: Path | None = None
    extent_A: tuple[float, float, float] | None = None
    tomogram: str | None = None
    tomogram_voxel_A: float | None = None

    def in_pixels(
        self, places: Doubles, sizes_A: Mapping[str, Doubles] | None = None
    ) -> tuple[Doubles, Doubles]:
        """Coordinates (n, 3) in Å of places that count in pixels, and (n,) the size of these.

        Parameters
        ----------
        places
            (n, 3) from the centre of the first voxel.
        sizes_A
            What the file says, see :func:`agreed_pixel_size_A`, also for what is raised.
        """
        size_A = agreed_pixel_size_A(self.path, sizes_A or {}, self.voxel_size_A, len(places))
        return places * size_A[:, None], size_A

    def known_extent_A(self, what: str) -> Doubles:
        """(3,) x, y, z of the tomogram.

        Raises
        ------
        ConfigError
            When it was not stated; ``what`` says why it is needed.
        """
        if self.extent_A is None:
            raise ConfigError(
                f"the {what}",
                expected="the tomogram's extent",
                got="none",
                remedy="give the tomogram together with the list",
            )
        return np.array(self.extent_A)

    def names(self, texts: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
        """The particles' tomograms: those of the file, or else the one that was stated."""
        return texts if texts is not None else (self.tomogram or "",) * n


Place = Callable[[int], str]
"""Says where a row stands: ``row 3 (line 27)``."""


def place_by_lines(lines: Sequence[int]) -> Place:
    """Where rows stand whose lines, from 1, are known."""
    return lambda row: f"row {row + 1} (line {lines[row]})"


def numbers(texts: Sequence[str], *, what: str, path: Path, place: Place) -> Doubles:
    """Numbers from a column's texts; NaN and infinities pass.

    Raises
    ------
    InputError
        When one is no number: its row is named.
    """
    values = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            if "_" in text:  # Python would take 1_000 for a number
                raise ValueError
            values[row] = float(text)
        except ValueError as error:
            raise InputError(
                f"{path}, {place(row)}: {what} is no number",
                expected="a number with a decimal point",
                got=repr(text[:80]),
                remedy="write decimal points in place of commas"
                if DECIMAL_COMMA.fullmatch(text)
                else "mend that row",
            ) from error
    return values


def is_number(word: str) -> bool:
    """Whether Python reads a word as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def rotation_matrix(given: object, *, side: int = 3) -> Doubles:
    """A matrix that turns, and at 4×4 also shifts; anything else would lose a scale or a mirror.

    Raises
    ------
    TypeError, ValueError
        When it is none.
    """
    matrix = np.array(given, dtype=np.float64)
    last = [0.0] * (side - 1) + [1.0]
    if matrix.shape != (side, side) or (side == 4 and not np.allclose(matrix[3], last)):
        raise ValueError(
            f"a transformation that is no {side}×{side} matrix"
            + (" with a last row 0 0 0 1" if side == 4 else "")
        )
    turn = matrix[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise ValueError("a transformation that scales, shears, mirrors or is not finite")
    return matrix


def missing_columns(
    path: Path, missing: Sequence[str], there: Sequence[str], *, of: str = "its particles"
) -> InputError:
    """The error for columns that are not there."""
    shown = ", ".join(name[:40] for name in there[:40])
    return InputError(
        f"{path} lacks columns of {of}",
        expected=", ".join(missing),
        got=shown or "none",
        remedy="export the particles with these columns",
    )


def agreed_pixel_size_A(
    path: Path, candidates: Mapping[str, Doubles], stated_A: float | None, n: int
) -> Doubles:
    """(n,) pixel size of the coordinates: the first that the file names, or the one stated.

    Parameters
    ----------
    candidates
        Sizes in Å that the file names and that may be meant, the likeliest first.
    stated_A
        What the user says. It decides which of the file's is meant, and counts where it is none of
        them; a warning then names both.

    Raises
    ------
    ConfigError
        When neither knows it, or what is stated is no size.
    InputError
        When the file's is no size.
    """
    if stated_A is not None:
        require_in_range("pixel size of the coordinates", stated_A)
    for name, sizes in candidates.items():
        good = np.asarray((sizes > 0.01) & (sizes < 1000))
        if not good.all():
            raise InputError(
                f"{path}, row {int(np.argmin(good)) + 1}: the pixel size {name} cannot be",
                expected="between 0.01 and 1000 Å",
                got=sizes[int(np.argmin(good))],
                remedy="mend the file",
            )
    if stated_A is None:
        if candidates:
            return next(iter(candidates.values()))
        if not n:
            return np.empty(0)  # of a list of none, such as the rejected ones where all were taken
        raise ConfigError(
            f"the pixel size of the coordinates in {path} is unknown",
            expected="it in the file or stated",
            got="none",
            remedy="give the voxel size of the tomogram that the coordinates count in",
        )
    for sizes in candidates.values():
        if np.all(np.abs(sizes / stated_A - 1) <= OVERRIDDEN):
            return sizes
    if candidates and n:
        shown = ", ".join(f"{s.flat[0]:g} Å ({k})" for k, s in candidates.items() if s.size)
        warnings.warn(
            f"{path} counts in pixels of {shown}, and {stated_A:g} Å are stated: {STATED_TAKEN}",
            stacklevel=4,
        )
    return np.full(n, float(stated_A))


def rotations_from(angles_deg: Doubles, order: str) -> Rotation | None:
    """Rotations of the reference into the particles, from a program's three angles.

    RELION's (``ZYZ``, intrinsic) and Dynamo's (``zxz``, extrinsic) describe the way back, hence the
    inverse: RELION's ``Euler_angles2matrix`` is the transpose of the matrix composed of the three,
    and ``ParticleSet::getMatrix4x4`` uses it to map particle to tomogram; Dynamo's ``table
    convention`` says that a point ``r`` of the template lands at ``inv(m) r``.
    """
    if not len(angles_deg):
        return None
    usable = np.where(np.isfinite(angles_deg), angles_deg, 0.0)  # such rows are in ``problems``
    return Rotation.from_euler(order, usable, degrees=True).inv()


def relion_angles_deg(rotations: Rotation) -> Doubles:
    """(n, 3) RELION's rot, tilt and psi of rotations: the way back of :func:`rotations_from`."""
    with warnings.catch_warnings():
        # At a tilt of 0 only the sum of the other two angles counts: either pair will do.
        warnings.simplefilter("ignore", UserWarning)
        angles: Doubles = rotations.inv().as_euler("ZYZ", degrees=True)
    return angles


def find_problems(
    coordinates_A: Doubles, angles_deg: Doubles | None, tomograms: Sequence[str], place: Place
) -> tuple[RowProblem, ...]:
    """Rows whose coordinates or angles are not finite, and rows that repeat an earlier one."""
    problems = {}
    first: dict[tuple[str, int, int, int], int] = {}
    finite = np.atleast_1d(np.isfinite(coordinates_A).all(axis=1))
    turned = finite
    if angles_deg is not None:
        turned = finite & np.atleast_1d(np.isfinite(angles_deg).all(axis=1))
    for row, (position, tomogram) in enumerate(zip(coordinates_A, tomograms, strict=True)):
        if not turned[row]:
            what = "an angle" if finite[row] else "a coordinate"
            problems[row] = f"{place(row)}: {what} is NaN or infinite"
        elif max(abs(position)) > 1e12:
            problems[row] = f"{place(row)}: a coordinate is beyond any tomogram"
        else:
            x, y, z = (math.floor(c / SAME_PLACE_A + 0.5) for c in position)
            earlier = first.setdefault((tomogram, x, y, z), row)
            if earlier != row:
                problems[row] = f"{place(row)}: the same particle as {place(earlier)}"
    return tuple(RowProblem(row, reason) for row, reason in problems.items())
