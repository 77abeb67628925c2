"""Tables of tilts of several files: whether they are of the same series, and brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Rows = NDArray[np.intp]

NOMINAL_DEG = 0.1
"""Two lists of the stage's angles differ by less: programs write one or two decimals."""
REFINED_DEG = 2.0
"""An alignment moves single tilts by less, apart from an offset of all of them."""
LARGEST_OFFSET_DEG = 30.0
"""The pre-tilt of a lamella, which an alignment may take off all angles, is less."""
OPPOSITE = "the angles in {first} have the opposite sign of those in {second}"
PAIRED = 0.8
"""Where so many pairs of rows have the same angle, or the opposite one, the pairs are right."""
_SAME_TILT_DEG = 0.5
_A_TO_UM = 1e-4


@dataclass(frozen=True, eq=False)
class TiltTable:
    """The tilts of one file, in its order.

    Attributes
    ----------
    angles_deg
        (t,) or None where the file has no angles.
    refined
        Whether an alignment has changed the angles; else they are the stage's.
    pre_exposure_e_per_A2
        (t,) electrons/Å² before each tilt.
    defocus_um
        (t,) mean defocus, positive = underfocus.
    astigmatism_um, astigmatism_angle_deg
        (t,) half the difference of the principal defoci, and the direction of the larger one.
        Of a fit that cannot be, these three are NaN.
    views
        (t,) each row's image in the stack, or None where the file does not tell it.
    recorded
        (t,) its place in the order of recording, or None.
    """

    angles_deg: Doubles | None
    refined: bool = False
    pre_exposure_e_per_A2: Doubles | None = None
    defocus_um: Doubles | None = None
    astigmatism_um: Doubles | None = None
    astigmatism_angle_deg: Doubles | None = None
    views: Rows | None = None
    recorded: Rows | None = None

    def __len__(self) -> int:
        """Give the number of rows."""
        columns = (self.angles_deg, self.pre_exposure_e_per_A2, self.defocus_um)
        return next((len(values) for values in columns if values is not None), 0)


def angle_fault(first: TiltTable, second: TiltTable) -> str:
    """Why two tables cannot be of the same tilt series, with {first} and {second}, or nothing."""
    assert first.angles_deg is not None
    assert second.angles_deg is not None
    one, other = np.sort(first.angles_deg), np.sort(second.angles_deg)
    if len(one) != len(other):
        return f"{len(one)} tilts in {{first}}, {len(other)} in {{second}}"
    if opposite(first, second):
        return OPPOSITE
    refined = first.refined or second.refined
    offset = float(np.median(one - other)) if refined else 0.0
    off = np.abs(one - other - offset)
    if off.max() > _allowed(first, second) or abs(offset) > LARGEST_OFFSET_DEG:
        worst = int(np.argmax(off))
        return f"{one[worst]:g}° in {{first}}, {other[worst]:g}° in {{second}}"
    return ""


def _allowed(first: TiltTable, second: TiltTable) -> float:
    return REFINED_DEG if first.refined or second.refined else NOMINAL_DEG


def pairs(first: TiltTable, second: TiltTable) -> tuple[Rows, bool] | None:
    """Which row of the second table is of the same image as each of the first, and the sign.

    Images are known by their place in the stack, or in the order of recording. That is believed
    where most pairs have the same angle, apart from the offset of an alignment, or the opposite
    one: a stack may have been sorted since.

    Returns
    -------
    rows, opposite
        None where the tables do not tell it.
    """
    for own, others in ((first.views, second.views), (first.recorded, second.recorded)):
        if own is None or others is None or len(own) != len(others):
            continue
        by_own, by_others = np.argsort(own, kind="stable"), np.argsort(others, kind="stable")
        if (own[by_own] != others[by_others]).any() or len(set(own.tolist())) < len(own):
            continue
        rows = np.empty(len(own), dtype=np.intp)
        rows[by_own] = by_others
        if first.angles_deg is None or second.angles_deg is None:
            return rows, False
        one, other = first.angles_deg, second.angles_deg[rows]
        for turned in (False, True):
            off = one + other if turned else one - other
            offset = float(np.median(off)) if first.refined or second.refined else 0.0
            close = np.abs(off - offset) <= _allowed(first, second)
            if abs(offset) <= LARGEST_OFFSET_DEG and close.mean() >= PAIRED:
                return rows, turned
    return None


def opposite(first: TiltTable, second: TiltTable) -> bool:
    """Whether the angles of one table are those of the other with the opposite sign.

    Image by image where both tables tell which image a row is of. By the angles alone it cannot be
    seen of a range that is the same on both sides.
    """
    if (paired := pairs(first, second)) is not None:
        return paired[1]
    if first.angles_deg is None or second.angles_deg is None or len(first) != len(second):
        return False
    one, other = np.sort(first.angles_deg), np.sort(second.angles_deg)
    allowed = _allowed(first, second)
    mirrored = np.abs(one + other[::-1]).max() <= allowed
    return bool(mirrored and np.abs(one - other).max() > 2 * allowed)


def placed(
    values: Doubles, table: TiltTable, first: TiltTable, others: Sequence[TiltTable] = ()
) -> Doubles | None:
    """Values of a table's rows in the order of another table's ascending angles.

    Image by image where both tell it, or one of the others that count before this one; or else by
    angles, of which the sign may be the opposite. None where they cannot be matched.
    """
    assert first.angles_deg is not None
    order = np.argsort(first.angles_deg, kind="stable")
    if (paired := pairs(first, table)) is not None:
        of_images: Doubles = values[paired[0]][order]
        return of_images
    for other in others:
        if other.angles_deg is not None and (paired := pairs(other, table)) is not None:
            return placed(values[paired[0]], other, first)
    own = table.angles_deg
    if own is not None and opposite(first, table):
        own = -own
    return aligned(values, own, first.angles_deg[order])


def aligned(values: Doubles, own_deg: Doubles | None, to_deg: Doubles) -> Doubles | None:
    """Values of a table's rows in the order of other angles, or None where they cannot be matched.

    Parameters
    ----------
    values, own_deg
        (t,) and the angles of their rows; without angles, rows are in the order of ascending ones.
    to_deg
        (n,) ascending. Of as many rows the first is that of the lowest angle, and so on; of more
        rows those of the same angle count.
    """
    if len(values) == len(to_deg):
        return values if own_deg is None else values[np.argsort(own_deg, kind="stable")]
    if own_deg is None or len(values) < len(to_deg):
        return None
    nearest = np.abs(own_deg[None, :] - to_deg[:, None]).argmin(axis=1)
    close = np.abs(own_deg[nearest] - to_deg) <= _SAME_TILT_DEG
    if not close.all() or len(set(nearest.tolist())) < len(to_deg):
        return None
    matched: Doubles = values[nearest]
    return matched


def principal_defoci(
    first_um: Doubles, second_um: Doubles, angle_deg: Doubles
) -> tuple[Doubles, Doubles, Doubles]:
    """Mean defocus, half the difference (not negative), direction of the larger one in [0, 180).

    Parameters
    ----------
    first_um, second_um
        (t,) the two principal defoci.
    angle_deg
        (t,) direction of the first, from the image's x axis towards y, as in CTFFIND and RELION.
    """
    half = (first_um - second_um) / 2
    angle = np.where(half < 0, angle_deg + 90, angle_deg) % 180
    return (first_um + second_um) / 2, np.abs(half), angle


def defocus_columns(
    first_A: Doubles | None, second_A: Doubles | None, azimuth_deg: Doubles | None
) -> dict[str, Any]:
    """Columns of a :class:`TiltTable` from principal defoci in Å and the direction of the first.

    None where a file has no such column; then there is no defocus, or no astigmatism.
    """
    if first_A is None or second_A is None:
        return {}
    angle = np.zeros(len(first_A)) if azimuth_deg is None else azimuth_deg
    defocus, half, direction = principal_defoci(first_A * _A_TO_UM, second_A * _A_TO_UM, angle)
    if azimuth_deg is None:
        return {"defocus_um": defocus}
    return {"defocus_um": defocus, "astigmatism_um": half, "astigmatism_angle_deg": direction}


def mean_astigmatism(half_um: Doubles, angle_deg: Doubles) -> tuple[float, float]:
    """The mean of astigmatisms as vectors of twice the angle, since a half-turn changes none."""
    mean = complex(np.nanmean(half_um * np.exp(2j * np.radians(angle_deg))))
    return round(abs(mean), 6), round(float(np.degrees(np.angle(mean))) / 2 % 180, 3) % 180
