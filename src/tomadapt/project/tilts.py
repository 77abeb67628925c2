"""Tables of tilts of several files: whether they are of the same series, and brought together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

NOMINAL_DEG = 0.1
"""Two lists of the stage's angles differ by less: programs write one or two decimals."""
REFINED_DEG = 2.0
"""An alignment moves single tilts by less, apart from an offset of all of them."""
LARGEST_OFFSET_DEG = 30.0
"""The pre-tilt of a lamella, which an alignment may take off all angles, is less."""
_SAME_TILT_DEG = 0.5


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
    """

    angles_deg: Doubles | None
    refined: bool = False
    pre_exposure_e_per_A2: Doubles | None = None
    defocus_um: Doubles | None = None
    astigmatism_um: Doubles | None = None
    astigmatism_angle_deg: Doubles | None = None

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
    refined = first.refined or second.refined
    allowed = REFINED_DEG if refined else NOMINAL_DEG
    offset = float(np.median(one - other)) if refined else 0.0
    off = np.abs(one - other - offset)
    mirrored = np.abs(one + other[::-1]).max() <= allowed
    if mirrored and np.abs(one - other).max() > 2 * allowed:
        return "the angles in {first} have the opposite sign of those in {second}"
    if off.max() > allowed or abs(offset) > LARGEST_OFFSET_DEG:
        worst = int(np.argmax(off))
        return f"{one[worst]:g}° in {{first}}, {other[worst]:g}° in {{second}}"
    return ""


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


def mean_astigmatism(half_um: Doubles, angle_deg: Doubles) -> tuple[float, float]:
    """The mean of astigmatisms as vectors of twice the angle, since a half-turn changes none."""
    mean = complex(np.mean(half_um * np.exp(2j * np.radians(angle_deg))))
    return round(abs(mean), 6), round(float(np.degrees(np.angle(mean))) / 2 % 180, 3) % 180
