"""IMOD's ``.defocus`` files, of all versions.

Sources: IMOD's ``ctfplotter/ctfutils.cpp`` (``readDefocusFile``), ``include/ctfutils.h`` and
``ctfphaseflip.cpp``; the manual page of ctfphaseflip. A row is: first and last view (from 1), the
lowest and the highest tilt angle, the defocus in nm. In version 2 the first row ends with the
number 2. In version 3 a line comes first that begins with the sum of flags and ends with the
number 3; by the flags, rows go on with the second defocus and the angle of astigmatism, the phase
shift, and a cut-on frequency.
AreTomo's ``_CTF_Imod.txt`` is of version 3 (AreTomo3's ``CSaveCtfResults.cpp``).

The angle of astigmatism is as in CTFFIND and RELION: ``ctfphaseflip.cpp`` has, with the first
defocus the larger one, ½(d₁ + d₂ + (d₁ − d₂) cos 2(α − axis)) for a frequency at the angle α from x
towards y (Rohou & Grigorieff 2015), in the images as they were recorded: it adds the rotation of
the alignment itself. A second defocus of 0 stands for no astigmatism that was fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.project.reading import rows_of_numbers
from tomadapt.project.tilts import Rows, TiltTable, opposite, principal_defoci

Doubles = NDArray[np.float64]

ASTIGMATISM, ASTIGMATISM_IN_RADIANS, PHASE, PHASE_IN_RADIANS = 1, 2, 4, 8
INVERT_ANGLES, CUT_ON = 16, 32
_ALL_FLAGS = 63
_NM_TO_UM = 1e-3
LARGEST_UM = 30.0
"""Where all numbers are less, they are µm: nobody records a tilt series so near to focus in nm."""


@dataclass(frozen=True, eq=False)
class DefocusFile:
    """What a defocus file says, a row for each range of views.

    Attributes
    ----------
    version
        1 where the file does not say it.
    views
        (r, 2) first and last view, from 1.
    angles_deg
        (r, 2) lowest and highest tilt angle, inverted where the file's flags say so.
    defocus_um, astigmatism_um, astigmatism_angle_deg
        (r,) mean; half the difference and the direction of the larger defocus, None without the
        flag.
    angles_inverted
        Whether the file says that angles need to be inverted.
    phase_deg
        (r,) shift of a phase plate; None without the flag.
    """

    version: int
    views: Doubles
    angles_deg: Doubles
    defocus_um: Doubles
    astigmatism_um: Doubles | None
    astigmatism_angle_deg: Doubles | None
    angles_inverted: bool
    phase_deg: Doubles | None

    @property
    def is_one_view_a_row(self) -> bool:
        """Whether each row is of a single view."""
        return bool((self.views[:, 0] == self.views[:, 1]).all())

    def table(self, angles_deg: Doubles | None) -> TiltTable:
        """The defocus of each tilt.

        Rows of single views stand for themselves. A row of several is that of the view in their
        middle, or in version 1, whose views may be low by one (IMOD's ``checkAndFixDefocusList``),
        of the middle of its angles; between rows defocus is interpolated, as ctfphaseflip does.

        Parameters
        ----------
        angles_deg
            (t,) of the tilt series, in the order of the stack; None where no other file has them.
        """
        middle = self.angles_deg.mean(axis=1)
        columns: dict[str, Any] = {"defocus_um": self.defocus_um, "refined": True}
        if self.astigmatism_um is not None and self.astigmatism_angle_deg is not None:
            columns["astigmatism_um"] = self.astigmatism_um
            columns["astigmatism_angle_deg"] = self.astigmatism_angle_deg
        if angles_deg is None:
            return TiltTable(middle if self.is_one_view_a_row else None, **columns)
        if self.is_one_view_a_row:
            return TiltTable(middle, views=self._rows_of(len(angles_deg)), **columns)
        at, to = middle, angles_deg
        if self.version > 1:
            # Of an even number of views the first of the two in the middle, as there.
            at, to = np.floor(self.views.mean(axis=1)) - 1, np.arange(len(angles_deg), dtype=float)
        elif self.is_turned(angles_deg):
            at = -middle
        order = np.argsort(at, kind="stable")
        columns["defocus_um"] = np.interp(to, at[order], self.defocus_um[order])
        return TiltTable(angles_deg, views=np.arange(len(angles_deg)), **columns)

    def is_turned(self, angles_deg: Doubles) -> bool:
        """Whether the rows have the opposite sign of the angles of the views that they name."""
        last = len(angles_deg)
        ranges = np.clip(self.views, 1, last).astype(int)
        named = np.array([angles_deg[a - 1 : max(a, b)].mean() for a, b in ranges])
        rows = np.arange(len(named))
        own = TiltTable(self.angles_deg.mean(axis=1), refined=True, views=rows)
        return opposite(TiltTable(named, refined=True, views=rows), own)

    def turned(self) -> DefocusFile:
        """The file with the opposite sign of its angles."""
        return replace(self, angles_deg=-self.angles_deg[:, ::-1])

    def _rows_of(self, tilts: int) -> Rows | None:
        """The view of each row, from 0; of version 1 the place in their order."""
        views = np.clip(self.views[:, 0], 0, 1e6).astype(np.intp) - 1
        if self.version > 1:
            return views
        return np.argsort(np.argsort(views, kind="stable")) if len(views) == tilts else None


def read_defocus(path: Path) -> DefocusFile:
    """Read a defocus file.

    Raises
    ------
    InputError
        When it is damaged, of an unknown version, has rows that are too short, or numbers that are
        not nm.
    """
    rows = rows_of_numbers(path, kind="a defocus file of IMOD", columns=5)
    version, flags = 1, 0
    if len(rows[0]) == 6:
        version, flags = int(rows[0][5]), int(rows[0][0])
    if version == 3:
        rows = rows[1:]
    else:
        flags = 0
    if version not in (1, 2, 3) or not 0 <= flags <= _ALL_FLAGS or not rows:
        raise InputError(
            f"{path} is no defocus file that is known",
            expected="version 1, 2 or 3 of IMOD's format, and rows",
            got=f"version {version}, flags {flags}, {len(rows)} rows",
            remedy="save it again in ctfplotter",
        )
    count = 5 + 2 * bool(flags & ASTIGMATISM) + bool(flags & PHASE) + bool(flags & CUT_ON)
    short = next((row for row in rows if len(row) < count), None)
    if short is not None:
        raise InputError(
            f"{path} has rows that are too short for its flags",
            expected=f"{count} numbers a row (flags {flags})",
            got=f"{len(short)}: {' '.join(f'{value:g}' for value in short)}",
            remedy="save it again in ctfplotter",
        )
    table = np.array([row[:count] for row in rows])
    if np.abs(table[:, 4]).max() <= LARGEST_UM:
        raise InputError(
            f"{path} has a defocus that cannot be in nm",
            expected=f"nm, such as 3000, as ctfplotter writes it; more than {LARGEST_UM:g}",
            got=f"{', '.join(f'{value:g}' for value in table[:3, 4])}, which look like µm",
            remedy="write nm into the file, or defocus_um into the project file",
        )
    defocus = table[:, 4] * _NM_TO_UM
    half = angle = None
    if flags & ASTIGMATISM:
        azimuth = np.degrees(table[:, 6]) if flags & ASTIGMATISM_IN_RADIANS else table[:, 6]
        second = np.where(table[:, 5] == 0, table[:, 4], table[:, 5])
        defocus, half, angle = principal_defoci(defocus, second * _NM_TO_UM, azimuth)
    phase = None
    if flags & PHASE:
        shifts = table[:, 7 if flags & ASTIGMATISM else 5]
        phase = np.degrees(shifts) if flags & PHASE_IN_RADIANS else shifts
    inverted = bool(flags & INVERT_ANGLES)
    angles = np.sort((-1 if inverted else 1) * table[:, 2:4], axis=1)
    return DefocusFile(version, table[:, :2], angles, defocus, half, angle, inverted, phase)
