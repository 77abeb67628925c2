"""How a tilt series was recorded: optics, detector, tilts, exposure, and where noise enters."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

TiltAngles = tuple[float, ...]
TransferCurve = tuple[tuple[float, float], ...]

K2_COUNTING_MTF: TransferCurve = ((0, 1), (0.25, 0.93), (0.5, 0.82), (0.75, 0.69), (1, 0.55))
"""MTF of a direct detector that counts electrons: (fraction of Nyquist, transfer).

A rounded curve of the kind that McMullan et al. 2014 (Ultramicroscopy 147, 156) report for a K2
Summit at 300 kV; no calibration of any one camera.
"""

NAMED_MTFS = {"k2_counting": K2_COUNTING_MTF}
"""Curves that an acquisition may name instead of giving the pairs."""

MAX_TILT_WITH_THICKNESS_DEG = 80.0
"""Steepest tilt with a stated thickness: the path through a slab is infinite at 90°."""

_MAX_TILTS = 10_000


def overfocus(defocus_um: float) -> str | None:
    """A warning for a negative defocus, which is overfocus here and underfocus in some programs."""
    if defocus_um >= 0:
        return None
    return f"a defocus of {defocus_um:g} µm is overfocus: positive values are underfocus"


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
    if (last_deg - first_deg) / step_deg > _MAX_TILTS:
        raise ValueError(f"a range of more than {_MAX_TILTS} tilts, by a step of {step_deg}")
    count = math.floor((last_deg - first_deg) / step_deg + 1e-6) + 1
    return tuple(first_deg + i * step_deg for i in range(count))


VoltageKV = Annotated[float, Field(gt=10, le=3000)]
SphericalAberrationMM = Annotated[float, Field(ge=0, le=20)]
DefocusUM = Annotated[float, Field(ge=-30, le=30)]
AmplitudeContrast = Annotated[float, Field(ge=0, le=1)]


class WithLaterFields(BaseModel):
    """A model that leaves fields of later versions out of its dump while they have their defaults.

    So a configuration without these fields has the same dump and digest in all versions, and sets
    and runs on disk stay valid.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        silent = {k for k in self.later_fields if getattr(self, k) == fields[k].default}
        return {key: value for key, value in dump(self).items() if key not in silent}


class Acquisition(WithLaterFields):
    """The acquisition of the tilt series of one domain.

    Parameters
    ----------
    name
        Its name in reports.
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
        ``"none"``, a name in :data:`NAMED_MTFS` (taken as its pairs), or pairs (fraction of
        Nyquist, transfer) to interpolate between.
    noise_before_ctf
        The fraction of the noise variance in the images that went through CTF, envelope and MTF.
    b_factor_A2
        B in Å² of the envelope exp(−B k²/4) on amplitudes, k in 1/Å.
    exposure_per_tilt_e_per_A2
        Exposure of each tilt image in electrons/Å²; the accumulated exposure attenuates the signal,
        see :func:`tomadapt.simulate.radiation.exposure_attenuation`.
    exposure_order
        ``"dose_symmetric"`` (outwards from 0°, the positive side first), or all tilt angles in the
        order in which they were recorded.
    thickness_in_mean_free_paths
        Thickness of the untilted specimen over the inelastic mean free path (about 395 nm in ice
        at 300 kV: Rice et al. 2018, J. Struct. Biol. 204, 38): noise grows with tilt, see
        :func:`tomadapt.simulate.radiation.relative_noise_variance`.

    Examples
    --------
    >>> Acquisition(name="mine", defocus_um=3.5).voltage_kv
    300.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "custom"
    voltage_kv: VoltageKV = 300.0
    spherical_aberration_mm: SphericalAberrationMM = 2.7
    defocus_um: DefocusUM
    astigmatism_um: Annotated[float, Field(ge=-5, le=5)] = 0.0
    astigmatism_angle_deg: float = 0.0
    amplitude_contrast: AmplitudeContrast = 0.07
    tilt_angles_deg: TiltAngles = tilt_range(-60, 60, 3)
    mtf: Literal["sinc", "none"] | TransferCurve = "sinc"
    noise_before_ctf: Annotated[float, Field(ge=0, le=1)] = 0.5
    b_factor_A2: Annotated[float, Field(ge=0, le=5000)] = 0.0
    exposure_per_tilt_e_per_A2: Annotated[float, Field(ge=0, le=100)] = 0.0
    exposure_order: Literal["dose_symmetric"] | TiltAngles = "dose_symmetric"
    thickness_in_mean_free_paths: Annotated[float, Field(ge=0, le=3)] = 0.0

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "b_factor_A2",
            "exposure_per_tilt_e_per_A2",
            "exposure_order",
            "thickness_in_mean_free_paths",
        }
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_mtf_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("mtf"), str):
            return {**data, "mtf": NAMED_MTFS.get(data["mtf"], data["mtf"])}
        return data

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
        if not isinstance(self.exposure_order, str):
            recorded = sorted(self.exposure_order)
            if len(recorded) != len(angles) or any(
                abs(a - b) > 1e-3 for a, b in zip(recorded, angles, strict=True)
            ):
                raise ValueError(
                    f"exposure_order must hold each of the {len(angles)} tilt angles once; "
                    f"got {len(recorded)} angles"
                )
        steepest = max(abs(angles[0]), abs(angles[-1]))
        if self.thickness_in_mean_free_paths > 0 and steepest > MAX_TILT_WITH_THICKNESS_DEG:
            raise ValueError(
                "thickness_in_mean_free_paths needs tilts within "
                f"±{MAX_TILT_WITH_THICKNESS_DEG:g} degrees; got {steepest:g}"
            )
        return self


BATCH_A = Acquisition(
    name="batch_a", spherical_aberration_mm=2.0, defocus_um=5.0, amplitude_contrast=0.0
)
"""Target domain of Lin et al. 2019, section 3.1 (Cs 2.0 mm, 5 µm underfocus, 300 kV, ±60°)."""

BATCH_B = Acquisition(
    name="batch_b", spherical_aberration_mm=2.2, defocus_um=10.0, amplitude_contrast=0.0
)
"""Source domain of Lin et al. 2019, section 3.1 (Cs 2.2 mm, 10 µm underfocus, 300 kV, ±60°)."""

PSEUDO_EXPERIMENTAL = Acquisition(
    name="pseudo_experimental",
    spherical_aberration_mm=2.0,
    defocus_um=5.5,
    mtf=K2_COUNTING_MTF,
    b_factor_A2=800.0,
    exposure_per_tilt_e_per_A2=2.0,
    thickness_in_mean_free_paths=0.5,
)
"""A substitute for the recorded set S_e1 of Lin et al. 2019, section 3.2: a Polara with a K2 in
counting mode, 5 to 6 µm underfocus. Parameters that the paper does not state (B, exposure,
thickness, tilts) have usual values; see ``docs/methods.md``."""

NAMED_ACQUISITIONS = {a.name: a for a in (BATCH_A, BATCH_B, PSEUDO_EXPERIMENTAL)}
