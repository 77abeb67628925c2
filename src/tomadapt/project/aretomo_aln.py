"""AreTomo's ``.aln``: the tilts that were aligned, and the dark ones that were left out.

Source: AreTomo3 (commit 8a068cf), ``CSaveAlignFile.cpp`` and ``CDarkFrames.cpp``: lines
``# DarkFrame = index section tilt``, the index from 0 and by ascending tilt; ten columns, of which
the last is the tilt; then ``# Local Alignment``. AreTomo 2 writes the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.project.reading import Doubles, one_number, text_of

_DARK = re.compile(r"#\s*DarkFrame\s*=\s*(\d{1,9})\s")


@dataclass(frozen=True, eq=False)
class Alignment:
    """What an ``.aln`` says.

    Attributes
    ----------
    angles_deg
        (t,) of the tilts that were aligned, with the offset that the alignment found.
    dark
        Which tilts were left out, as rows of all tilts in the order of ascending angles.
    """

    angles_deg: Doubles
    dark: tuple[int, ...]

    def kept(self, angles_deg: Doubles) -> NDArray[np.intp]:
        """The rows of a list of all tilts that were aligned; all rows of any other list."""
        rows = np.argsort(angles_deg, kind="stable")
        if len(rows) != len(self.angles_deg) + len(self.dark) or max(self.dark, default=0) >= len(
            rows
        ):
            return rows
        return np.delete(rows, list(self.dark))


def read_aln(path: Path) -> Alignment:
    """Read AreTomo's alignment.

    Raises
    ------
    InputError
        When it is damaged or has no tilts.
    """
    text = text_of(path, kind=".aln file of AreTomo")
    dark: list[int] = []
    angles = []
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _DARK.match(line.strip()):
            dark.append(int(found[1]))
        if line.strip().startswith("# Local Alignment"):
            break
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 10:
            raise InputError(
                f"{path}, line {number}: no row of an alignment",
                expected="10 numbers",
                got=f"{len(words)}: {line.strip()[:80]}",
                remedy="copy the file again",
            )
        angles.append(one_number(words[9], what=f"line {number}, TILT", path=path))
    if not angles:
        raise InputError(
            f"{path} has no tilts",
            expected="rows of SEC, ROT, GMAG, TX, TY, SMEAN, SFIT, SCALE, BASE, TILT",
            remedy="copy the file again",
        )
    return Alignment(np.array(angles, dtype=float), tuple(sorted(set(dark))))
