"""What is known of how particles were recorded, as alignment needs it: measured points."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.errors import ConfigError
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.subtomograms import Subtomograms


@dataclass(frozen=True)
class StatedRecording:
    """What a user says of the recording; it counts before what the particles' own files say.

    Attributes
    ----------
    tilt_range_deg
        First and last tilt about y.
    tilt_step_deg
        Between them.
    defocus_um
        Positive = underfocus; None where the CTF was corrected or is not known, then no CTF is
        applied.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        As in :class:`~tomadapt.acquisition.Acquisition`.
    """

    tilt_range_deg: tuple[float, float] | None = None
    tilt_step_deg: float = 3.0
    defocus_um: float | None = None
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07


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
        What the user says.
    device
        Where to keep them.

    Raises
    ------
    ConfigError
        When neither the particles' files nor the user say which tilts there were, or the tilts
        cannot be used.
    """
    stated = stated or StatedRecording()
    acquisition, flat = data.acquisition, False
    if stated.tilt_range_deg is not None:
        try:
            tilts = tilt_range(*stated.tilt_range_deg, stated.tilt_step_deg)
        except ValueError as error:
            raise ConfigError(
                "the tilt range cannot be used", got=str(error), remedy="mend --tilt-range"
            ) from error
        flat = stated.defocus_um is None
        acquisition = Acquisition(
            name="stated",
            defocus_um=stated.defocus_um or 0.0,
            voltage_kv=stated.voltage_kv,
            spherical_aberration_mm=stated.spherical_aberration_mm,
            amplitude_contrast=stated.amplitude_contrast,
            tilt_angles_deg=tilts,
            mtf="none",
        )
    elif stated.defocus_um is not None:
        raise ConfigError(
            "a defocus without tilts", expected="--tilt-range FIRST LAST", remedy="give it too"
        )
    if acquisition is None:
        raise ConfigError(
            "it is not known which tilts these particles were recorded at",
            expected="a set that says it, or --tilt-range FIRST LAST (degrees)",
            remedy="give --tilt-range, and --defocus where the CTF was not corrected",
        )
    return MeasuredPoints.of(
        acquisition, n=data.box, voxel_size_A=data.voxel_size_A, flat_transfer=flat, device=device
    )
