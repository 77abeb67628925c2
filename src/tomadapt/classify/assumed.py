"""What a classification takes for granted, and what that rests on: a sentence for each decision."""

from __future__ import annotations

from collections.abc import Sequence

from tomadapt.acquisition import Acquisition
from tomadapt.classify.options import ClassifyOptions
from tomadapt.data.tomogram import Tomogram
from tomadapt.io.voxel_sizes import STATED_TAKEN
from tomadapt.recover.recording import Recording
from tomadapt.tomograms.contrast import Sign
from tomadapt.tomograms.positions import Positions
from tomadapt.tomograms.wedge import WedgeEstimate


def tomogram_assumptions(
    options: ClassifyOptions,
    tomogram: Tomogram,
    sign: Sign,
    wedge: WedgeEstimate,
    positions: Positions,
    told: Sequence[str] = (),
) -> dict[str, str]:
    """Decision → what it rests on, of a tomogram; ``told`` was warned of when it was opened."""
    found = {"voxel size": _voxel_size(tomogram.voxel_size_A, options.voxel_size_A, told)}
    if options.particles is None:
        pixel_A = options.tilt_series_pixel_size_A
        size_A = tomogram.voxel_size_A if pixel_A is None else pixel_A
        of = "the tomogram's voxels" if pixel_A is None else "the tilt series' pixels, as stated,"
        found["coordinates"] = f"picks are written in {of} of {size_A:g} Å"
    found |= positions.assumed
    acquisition = options.source.acquisition
    found["contrast"] = sign.text
    found["tilts"] = f"{_range(acquisition)} about y, as stated; measured: {wedge.text}"
    found["CTF"] = _ctf(acquisition)
    found["label key"] = (
        "tomadaptSubtomogram in particles.star numbers the cubes in subtomograms/ from 1; "
        f"their digest is {positions.cubes}"
    )
    return found


def cubes_assumptions(
    voxel_size_A: float,
    recording: Recording,
    summary: dict[str, str],
    *,
    stated_voxel_size_A: float | None,
    contrast: str,
    files: bool,
    told: Sequence[str] = (),
) -> dict[str, str]:
    """Decision → what it rests on, of cubes.

    Parameters
    ----------
    voxel_size_A, stated_voxel_size_A
        Of the cubes, and as the user stated it.
    recording, summary
        How they were recorded, and the same in words.
    contrast
        How their sign was found.
    files
        Whether each cube has a file of its own.
    told
        What was warned of when they were opened.
    """
    found = {
        "voxel size": _voxel_size(voxel_size_A, stated_voxel_size_A, told),
        "contrast": contrast,
        "tilts": summary.get("tilts", _range(recording.acquisition)),
        "CTF": summary.get("CTF", _ctf(recording.acquisition)),
        "label key": "index in labels.csv numbers the cubes from 0, in the order of their file"
        + ("; file names each one's own" if files else ""),
    }
    return found


def _voxel_size(size_A: float, stated_A: float | None, told: Sequence[str]) -> str:
    """Where it comes from; where the file says another one, both are named."""
    source = "as the file says" if stated_A is None else "as stated"
    other = "".join(f"; {text}" for text in told if text.endswith(STATED_TAKEN))
    return f"voxels of {size_A:g} Å, {source}{other}"


def _range(acquisition: Acquisition) -> str:
    first, last = acquisition.tilt_angles_deg[0], acquisition.tilt_angles_deg[-1]
    return f"{first:+.0f}° … {last:+.0f}°"


def _ctf(acquisition: Acquisition) -> str:
    return (
        f"defocus {acquisition.defocus_um:g} µm, as stated; {acquisition.voltage_kv:g} kV, "
        f"Cs {acquisition.spherical_aberration_mm:g} mm, amplitude contrast "
        f"{acquisition.amplitude_contrast:g}, as stated or as usual"
    )
