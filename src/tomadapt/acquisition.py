"""How a tilt series was recorded: optics, detector, tilt angles, and where noise enters."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

TiltAngles = tuple[float, ...]


def tilt_range(first_deg: float, last_deg: float, step_deg: float) -> TiltAngles:
    """Tilt angles from first to last inclusive.

    Parameters
    ----------
    first_deg, last_deg, step_deg
        Degrees; the last angle is included when the step meets it to within 10⁻⁶°.

    Returns
    -------
    tuple of float
        Strictly increasing angles in degrees.

    Raises
    ------
    ValueError
        When the range is empty, or the step is not positive, or a number is not finite.
    """
    finite = all(map(math.isfinite, (first_deg, last_deg, step_deg)))
    if not finite or step_deg <= 0 or last_deg <= first_deg:
        raise ValueError(
            f"a tilt range runs upwards with a positive step; got first {first_deg}, "
            f"last {last_deg}, step {step_deg}"
        )
    count = math.floor((last_deg - first_deg) / step_deg + 1e-6) + 1
    return tuple(first_deg + i * step_deg for i in range(count))


class Acquisition(BaseModel):
    """The acquisition of one domain.

    Parameters
    ----------
    name
        What reports call it.
    voltage_kv
        Acceleration voltage in kV.
    spherical_aberration_mm
        Spherical aberration Cs in mm.
    defocus_um
        Mean defocus in µm, positive = underfocus.
    astigmatism_um
        Half the difference of the two principal defoci, in µm.
    astigmatism_angle_deg
        Direction of the larger defocus, from the image's x axis towards y, in degrees (as in
        CTFFIND and RELION).
    amplitude_contrast
        Fraction of amplitude contrast.
    tilt_angles_deg
        Strictly increasing tilt angles about y, in degrees; in a file either a list or a table
        ``{first = -60, last = 60, step = 3}``.
    mtf
        ``"sinc"`` for sinc(πω/2) with ω the fraction of Nyquist (Lin et al. 2019, section 3.1),
        ``"none"``, or pairs (fraction of Nyquist, transfer) to interpolate between.
    noise_before_ctf
        The fraction of the noise variance in the images that went through CTF and MTF.

    Examples
    --------
    >>> Acquisition(name="mine", defocus_um=3.5).voltage_kv
    300.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "custom"
    voltage_kv: Annotated[float, Field(gt=10, le=3000)] = 300.0
    spherical_aberration_mm: Annotated[float, Field(ge=0, le=20)] = 2.7
    defocus_um: Annotated[float, Field(ge=-30, le=30)]
    astigmatism_um: Annotated[float, Field(ge=-5, le=5)] = 0.0
    astigmatism_angle_deg: float = 0.0
    amplitude_contrast: Annotated[float, Field(ge=0, le=1)] = 0.07
    tilt_angles_deg: TiltAngles = tilt_range(-60, 60, 3)
    mtf: Literal["sinc", "none"] | tuple[tuple[float, float], ...] = "sinc"
    noise_before_ctf: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="before")
    @classmethod
    def _expand_tilt_table(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("tilt_angles_deg"), dict):
            table = data["tilt_angles_deg"]
            if set(table) != {"first", "last", "step"}:
                raise ValueError(
                    "tilt_angles_deg as a table needs exactly the keys first, last, step; "
                    f"got {', '.join(map(str, table)) or 'none'}"
                )
            try:
                angles = tilt_range(*(float(table[key]) for key in ("first", "last", "step")))
            except (TypeError, ValueError) as error:
                raise ValueError(f"tilt_angles_deg: {error}") from error
            return {**data, "tilt_angles_deg": angles}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        angles = self.tilt_angles_deg
        if len(angles) < 3:
            raise ValueError(f"tilt_angles_deg needs at least 3 angles; got {len(angles)}")
        if not all(math.isfinite(a) and -90 <= a <= 90 for a in angles):
            raise ValueError("tilt_angles_deg must lie between -90 and 90")
        if any(b <= a for a, b in itertools.pairwise(angles)):
            raise ValueError(
                f"tilt_angles_deg must increase strictly; got {angles[0]:g} … {angles[-1]:g} "
                "(sort them)"
            )
        if angles[-1] - angles[0] >= 180:
            # -90 and 90 are the same central slice: it would count twice.
            raise ValueError("tilt_angles_deg must span less than 180 degrees")
        if not isinstance(self.mtf, str):
            frequencies = [f for f, _ in self.mtf]
            if len(frequencies) < 2 or frequencies != sorted(set(frequencies)):
                raise ValueError("mtf as pairs needs at least two increasing fractions of Nyquist")
        return self


BATCH_A = Acquisition(
    name="batch_a", spherical_aberration_mm=2.0, defocus_um=5.0, amplitude_contrast=0.0
)
"""Target domain of Lin et al. 2019, section 3.1 (Cs 2.0 mm, 5 µm underfocus, 300 kV, ±60°)."""

BATCH_B = Acquisition(
    name="batch_b", spherical_aberration_mm=2.2, defocus_um=10.0, amplitude_contrast=0.0
)
"""Source domain of Lin et al. 2019, section 3.1 (Cs 2.2 mm, 10 µm underfocus, 300 kV, ±60°)."""

NAMED_ACQUISITIONS = {a.name: a for a in (BATCH_A, BATCH_B)}
