"""How particles were recorded: the acquisition, and the Fourier points that it measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, InputError
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.tomograms.spectrum import cubes_power
from tomadapt.tomograms.wedge import compare_with_stated, estimate_wedge


@dataclass(frozen=True)
class StatedRecording:
    """What a user states about the recording; it replaces what the particles' files say.

    Attributes
    ----------
    tilt_range_deg
        First and last tilt about y.
    tilt_step_deg
        Step between tilts; 3 when only the range is stated.
    defocus_um
        Positive = underfocus. When neither this nor the particles' files state it, no CTF is
        applied, as is right for particles whose CTF was corrected.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        As in :class:`~tomadapt.acquisition.Acquisition`; 300, 2.7 and 0.07 when nothing states
        them.
    """

    tilt_range_deg: tuple[float, float] | None = None
    tilt_step_deg: float | None = None
    defocus_um: float | None = None
    voltage_kv: float | None = None
    spherical_aberration_mm: float | None = None
    amplitude_contrast: float | None = None


@dataclass(frozen=True)
class Recording:
    """How particles were recorded.

    Attributes
    ----------
    acquisition
        Tilts and optics.
    ctf_corrected
        Whether no CTF is applied, because it was corrected or is not known.
    """

    acquisition: Acquisition
    ctf_corrected: bool

    def points(self, data: Subtomograms, *, device: torch.device | str = "cpu") -> MeasuredPoints:
        """The points of Fourier space where the particles were measured."""
        return MeasuredPoints.of(
            self.acquisition,
            n=data.box,
            voxel_size_A=data.voxel_size_A,
            ctf_corrected=self.ctf_corrected,
            device=device,
        )

    @property
    def summary(self) -> dict[str, str]:
        """The tilts and the optics as text, by name."""
        a = self.acquisition
        tilts = a.tilt_angles_deg
        said = {"tilts": f"{tilts[0]:g}° to {tilts[-1]:g}° about y, {len(tilts)} of them"}
        if self.ctf_corrected:
            return said | {"CTF": "none applied: taken as corrected"}
        return said | {
            "defocus": f"{a.defocus_um:g} µm",
            "voltage": f"{a.voltage_kv:g} kV",
            "spherical aberration": f"{a.spherical_aberration_mm:g} mm",
            "amplitude contrast": f"{a.amplitude_contrast:g}",
        }


def recording_of(data: Subtomograms, stated: StatedRecording | None = None) -> Recording:
    """The acquisition of some particles, from their files and from what the user states.

    Parameters
    ----------
    data
        The particles.
    stated
        What the user states; it replaces those values of the particles' files and no others.

    Raises
    ------
    ConfigError
        When neither the particles' files nor the user state the tilts, or what is stated cannot be
        used.
    """
    stated = stated or StatedRecording()
    known = data.acquisition
    if known is None and stated.tilt_range_deg is None:
        raise ConfigError(
            "it is not known which tilts these particles were recorded at",
            expected="a set that says it, or a stated range (--tilt-range FIRST LAST, degrees)",
            remedy="state it, and the defocus (µm) where the CTF was not corrected",
        )
    flat = known is None and stated.defocus_um is None
    optics = ("defocus_um", "voltage_kv", "spherical_aberration_mm", "amplitude_contrast")
    values: dict[str, Any] = (
        {"defocus_um": 0.0, "mtf": "none"} if known is None else known.model_dump()
    )
    changes = {name: v for name in optics if (v := getattr(stated, name)) is not None}
    if changes or stated.tilt_range_deg is not None:
        changes["name"] = "stated"
    values |= changes
    if stated.tilt_range_deg is not None:
        step = 3.0 if stated.tilt_step_deg is None else stated.tilt_step_deg
        try:
            values["tilt_angles_deg"] = tilt_range(*stated.tilt_range_deg, step)
        except ValueError as error:
            first, last = stated.tilt_range_deg
            raise ConfigError(
                "the tilt range cannot be used",
                expected="degrees, the first below the last, and a positive step",
                got=f"{first:g} to {last:g} by {step:g}",
                remedy="mend --tilt-range or --tilt-step",
            ) from error
    try:
        return Recording(Acquisition.model_validate(values), flat)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        raise ConfigError(
            f"the stated {name or 'recording'} cannot be used",
            expected=wrong["msg"],
            got=wrong["input"] if name else None,
            remedy="mend it; defocus is in µm (not Å), tilts in degrees, voltage in kV",
        ) from error


def contradiction(data: Subtomograms, recording: Recording) -> str | None:
    """One sentence when the particles' power spectrum contradicts the stated tilts, else None."""
    try:
        shown = estimate_wedge(cubes_power(data))
    except InputError:  # too small, or without a spectrum
        return None
    return compare_with_stated(shown, recording.acquisition)


def measured_points(
    data: Subtomograms,
    stated: StatedRecording | None = None,
    *,
    device: torch.device | str = "cpu",
) -> MeasuredPoints:
    """The points of Fourier space where some particles were measured.

    Parameters
    ----------
    data
        The particles.
    stated
        What the user states; see :func:`recording_of`, also for the errors raised.
    device
        Where to keep the arrays.
    """
    return recording_of(data, stated).points(data, device=device)
