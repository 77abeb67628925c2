"""Datasets of the CryoET Data Portal, as they are downloaded.

Source: chanzuckerberg/cryoet-data-portal-backend, ``ingestion_tools/scripts/importers``:
``tomogram.py`` (``RUN/Reconstructions/VoxelSpacing10.000/Tomograms/ID/NAME.zarr``, ``.mrc`` and
``tomogram_metadata.json``), ``tiltseries.py`` (``RUN/TiltSeries/ID/tiltseries_metadata.json``; its
``per_section_parameter`` has ``raw_angle``, ``frame_acquisition_order``, ``major_defocus`` and
``minor_defocus`` in Å and ``astigmatic_angle``), ``rawtilt.py``; ``schema/core/v1.1.0/common.yaml``
(voltage in volts, Cs in mm, pixel size in Å). The portal does not say the hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tomadapt.io.star import read_text
from tomadapt.project.claims import Claims
from tomadapt.project.copick import spacings, state_spacing
from tomadapt.project.imod import read_angles
from tomadapt.project.mdoc import mdoc_claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import Doubles, one_number, plausible, take_volume
from tomadapt.project.tilts import TiltTable, principal_defoci
from tomadapt.runs.json_files import json_object

RECONSTRUCTIONS, SERIES = "Reconstructions", "TiltSeries"
_A_TO_UM = 1e-4


def portal_runs(folder: Path) -> list[Path]:
    """The runs of a dataset: a folder of them, or one of them itself."""
    return sorted(path for path in (folder, *folder.glob("*")) if (path / RECONSTRUCTIONS).is_dir())


def read_portal(folder: Path, root: Path) -> list[TomogramEntry]:
    """Read the runs of a dataset of the CryoET Data Portal.

    Parameters
    ----------
    folder, root
        The dataset or run, and the project's folder, from which files are named.

    Raises
    ------
    InputError
        When a file says what cannot be.
    """
    entries = []
    for run in portal_runs(folder):
        claims = Claims(run.name, root)
        for path in sorted((run / SERIES).glob("*/tiltseries_metadata.json"))[:1]:
            claims.read(_series_claims, claims, path)
            for raw in sorted(path.parent.glob("*.rawtlt"))[:1]:
                angles = claims.read(read_angles, raw)
                if angles is not None:
                    claims.tilts(TiltTable(angles), raw)
        for path in sorted((run / "Frames").glob("*.mdoc"))[:1]:
            claims.read(mdoc_claims, claims, path, binned=True)
        _volume_claims(claims, run / RECONSTRUCTIONS)
        entries.append(claims.entry())
    return entries


def _volume_claims(claims: Claims, folder: Path) -> None:
    """The volume with the largest voxels, in MRC where it is there twice, and its metadata."""
    found = []
    for spacing, size in spacings(folder):
        for tomogram in sorted((spacing / "Tomograms").glob("*")):
            volumes = sorted(tomogram.glob("*.mrc")) or sorted(tomogram.glob("*.zarr"))
            found += [(-size, volume) for volume in volumes]
    volumes = [volume for _, volume in sorted(found)]
    if volumes:
        state_spacing(claims, volumes[0].parent.parent.parent)
        metadata = volumes[0].parent / "tomogram_metadata.json"
        if metadata.is_file() and (content := claims.read(_json, metadata)) is not None:
            stated = claims.read(_number, content, "voxel_spacing", metadata)
            claims.state("voxel_size_A", plausible(stated), metadata, "voxel_spacing")
    take_volume(claims, volumes)


def _json(path: Path) -> dict[str, Any]:
    text = read_text(path, kind="JSON file")
    return json_object(text, what=str(path), remedy="download it again")


def _number(content: dict[str, Any], key: str, path: Path) -> float | None:
    value = content.get(key)
    return None if value is None else one_number(str(value), what=key, path=path)


def _series_claims(claims: Claims, path: Path) -> None:
    content = _json(path)
    voltage = plausible(_number(content, "acceleration_voltage", path))
    if voltage is not None:
        claims.state("voltage_kv", voltage / 1000, path, "acceleration_voltage, V")
    cs = _number(content, "spherical_aberration_constant", path)
    claims.state("spherical_aberration_mm", cs, path, "spherical_aberration_constant")
    pixel = plausible(_number(content, "pixel_spacing", path))
    claims.state("tilt_series_pixel_size_A", pixel, path, "pixel_spacing")
    sections = content.get("per_section_parameter")
    if not isinstance(sections, list) or not sections:
        return
    angles = _column(sections, "raw_angle", path)
    if angles is None:
        return
    columns: dict[str, Any] = {}
    major, minor, azimuth = (
        _column(sections, key, path)
        for key in ("major_defocus", "minor_defocus", "astigmatic_angle")
    )
    if major is not None and minor is not None:
        defocus, half, angle = principal_defoci(
            major * _A_TO_UM, minor * _A_TO_UM, np.zeros(len(major)) if azimuth is None else azimuth
        )
        columns["defocus_um"] = defocus
        if azimuth is not None:
            columns |= {"astigmatism_um": half, "astigmatism_angle_deg": angle}
    order = _column(sections, "frame_acquisition_order", path)
    flux = plausible(_number(content, "total_flux", path))
    if flux is not None:
        each = round(flux / len(angles), 4)
        claims.state("exposure_per_tilt_e_per_A2", each, path, "total_flux over the tilts")
        if order is not None and len(set(order.tolist())) == len(order):
            columns["pre_exposure_e_per_A2"] = np.argsort(np.argsort(order)) * flux / len(angles)
    claims.tilts(
        TiltTable(angles, **columns),
        path,
        "per_section_parameter",
        defocus="major_defocus, minor_defocus",
    )


def _column(sections: list[Any], key: str, path: Path) -> Doubles | None:
    """(t,) of a key, or None where a section lacks it."""
    values = [
        _number(section, key, path) if isinstance(section, dict) else None for section in sections
    ]
    known = [value for value in values if value is not None]
    return np.array(known) if len(known) == len(sections) else None
