"""IMOD's ``.defocus`` files, of all versions.

Source: IMOD's ``ctfplotter/ctfutils.cpp`` (``readDefocusFile``) and ``include/ctfutils.h``; the
manual page of ctfphaseflip. A row is: first and last view (from 1), the lowest and the highest tilt
angle, the defocus in nm. In version 2 the first row ends with the number 2. In version 3 a line
comes first that begins with the sum of flags and ends with the number 3; by the flags, rows go on
with the second defocus and the angle of astigmatism, the phase shift, and a cut-on frequency.
AreTomo's ``_CTF_Imod.txt`` is of version 3 (AreTomo3's ``CSaveCtfResults.cpp``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.project.reading import rows_of_numbers
from tomadapt.project.tilts import TiltTable, principal_defoci

Doubles = NDArray[np.float64]

ASTIGMATISM, ASTIGMATISM_IN_RADIANS, PHASE, INVERT_ANGLES, CUT_ON = 1, 2, 4, 16, 32
_ALL_FLAGS = 63
_NM_TO_UM = 1e-3


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
    """

    version: int
    views: Doubles
    angles_deg: Doubles
    defocus_um: Doubles
    astigmatism_um: Doubles | None
    astigmatism_angle_deg: Doubles | None
    angles_inverted: bool

    @property
    def is_one_view_a_row(self) -> bool:
        """Whether each row is of a single view."""
        return bool((self.views[:, 0] == self.views[:, 1]).all())

    def table(self, angles_deg: Doubles | None) -> TiltTable:
        """The defocus of each tilt.

        A row is that of the middle of its angles; between rows defocus is interpolated, as
        ctfphaseflip does. Rows of single views stand for themselves.

        Parameters
        ----------
        angles_deg
            (t,) of the tilt series; None where no other file has them.
        """
        middle = self.angles_deg.mean(axis=1)
        columns: dict[str, Any] = {"defocus_um": self.defocus_um}
        if self.astigmatism_um is not None and self.astigmatism_angle_deg is not None:
            columns["astigmatism_um"] = self.astigmatism_um
            columns["astigmatism_angle_deg"] = self.astigmatism_angle_deg
        if self.is_one_view_a_row or angles_deg is None:
            return TiltTable(middle, **columns)
        order = np.argsort(middle, kind="stable")
        at = np.interp(angles_deg, middle[order], self.defocus_um[order])
        return TiltTable(angles_deg, **{**columns, "defocus_um": at})


def read_defocus(path: Path) -> DefocusFile:
    """Read a defocus file.

    Raises
    ------
    InputError
        When it is damaged, of an unknown version, or has rows that are too short.
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
    defocus = table[:, 4] * _NM_TO_UM
    half = angle = None
    if flags & ASTIGMATISM:
        azimuth = np.degrees(table[:, 6]) if flags & ASTIGMATISM_IN_RADIANS else table[:, 6]
        defocus, half, angle = principal_defoci(defocus, table[:, 5] * _NM_TO_UM, azimuth)
    inverted = bool(flags & INVERT_ANGLES)
    angles = np.sort((-1 if inverted else 1) * table[:, 2:4], axis=1)
    return DefocusFile(version, table[:, :2], angles, defocus, half, angle, inverted)
