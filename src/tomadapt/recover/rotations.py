"""Rotations that cover SO(3) evenly, and the groups of point symmetries."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError

_PSI = 1.533751168755204288118041
"""The root of ψ⁴ = ψ + 4 of Alexa 2022."""


def rotation_grid(step_deg: float) -> NDArray[np.float32]:
    r"""Rotations so many that each has the volume of a ball cell of this step.

    :math:`8π² / step³` of them (steps in radians), on a super-Fibonacci spiral (Alexa 2022, CVPR,
    "Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3)").

    Parameters
    ----------
    step_deg
        Degrees.

    Returns
    -------
    ndarray
        (m, 3, 3) float32 matrices acting on (x, y, z).

    Raises
    ------
    ConfigError
        When the step is below 2° (millions of rotations) or above 90°.
    """
    if not 2 <= step_deg <= 90:
        raise ConfigError(
            "the angular step cannot be used",
            expected="2 to 90 degrees",
            got=f"{step_deg:g}",
            remedy="choose another; the best rotation is refined below the step anyway",
        )
    m = math.ceil(8 * math.pi**2 / math.radians(step_deg) ** 3)
    s = np.arange(m) + 0.5
    alpha, beta = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / _PSI
    r, big_r = np.sqrt(s / m), np.sqrt(1 - s / m)
    quaternions = np.stack(
        [r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)], axis=1
    )
    return np.asarray(Rotation.from_quat(quaternions).as_matrix(), dtype=np.float32)


def angular_distance_deg(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle of the rotation between two of each pair: (n, 3, 3) and (n, 3, 3) give (n,) degrees."""
    return np.asarray(
        np.degrees((Rotation.from_matrix(a).inv() * Rotation.from_matrix(b)).magnitude())
    )


_SYMMETRIES = re.compile(r"([CD])([1-9][0-9]?)|([TOI])")


def symmetry_group(name: str) -> NDArray[np.float32]:
    """The rotations of a point group: C1, C2, …, D2, D7, …, T, O or I.

    The main axis of C and D is z, a two-fold axis of D is x; those of T, O and I are scipy's
    (:meth:`scipy.spatial.transform.Rotation.create_group`).

    Returns
    -------
    ndarray
        (g, 3, 3) float32; the identity is among them.

    Raises
    ------
    ConfigError
        For another name.
    """
    found = _SYMMETRIES.fullmatch(name.upper())
    if not found:
        raise ConfigError(
            f"unknown symmetry {name!r}",
            expected="C1, C2, …, D2, …, T, O or I",
            remedy="mend --symmetry",
        )
    return np.asarray(Rotation.create_group(name.upper()).as_matrix(), dtype=np.float32)
