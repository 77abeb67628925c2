"""Datasets of the CryoET Data Portal, as they are downloaded.

Source: chanzuckerberg/cryoet-data-portal-backend, ``ingestion_tools/scripts/importers``:
``tomogram.py`` (``RUN/Reconstructions/VoxelSpacing10.000/Tomograms/ID/NAME.zarr``, ``.mrc`` and
``tomogram_metadata.json``), ``tiltseries.py`` (``RUN/TiltSeries/ID/tiltseries_metadata.json``; its
``per_section_parameter`` has ``raw_angle``, ``frame_acquisition_order``, ``major_defocus`` and
``minor_defocus`` in Å and ``astigmatic_angle``), ``rawtilt.py``; ``schema/core/v1.1.0/common.yaml``
(voltage in volts, Cs in mm, pixel size in Å). A tomogram's metadata name its alignment
(``alignment_metadata_path``), and that of ``RUN/Alignments/ID`` the tilt series
(``tiltseries_path``), as paths in the portal's bucket. The portal does not say the hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tomadapt.project.claims import Claims
from tomadapt.project.copick import spacings, state_spacing
from tomadapt.project.imod import read_angles
from tomadapt.project.mdoc import mdoc_claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import Doubles, json_of, one_number, plausible, take_volume
from tomadapt.project.tilts import TiltTable, defocus_columns

RECONSTRUCTIONS, SERIES = "Reconstructions", "TiltSeries"
ALIGNMENTS = "Alignments"
SERIES_METADATA, TOMOGRAM_METADATA = "tiltseries_metadata.json", "tomogram_metadata.json"
_AGAIN = "download it again"


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
        volumes, metadata = _volumes(claims, run / RECONSTRUCTIONS)
        for path in _series_of(claims, run, metadata):
            claims.read(_series_claims, claims, path)
            for raw in _first(claims, sorted(path.parent.glob("*.rawtlt")), "lists of tilts"):
                angles = claims.read(read_angles, raw)
                if angles is not None:
                    claims.tilts(TiltTable(angles, views=np.arange(len(angles))), raw)
        for path in _first(claims, sorted((run / "Frames").glob("*.mdoc")), ".mdoc files"):
            claims.read(mdoc_claims, claims, path, binned=True)
        _volume_claims(claims, volumes, metadata)
        entries.append(claims.entry())
    return entries


def _first(claims: Claims, found: list[Path], of: str) -> list[Path]:
    """The first of several files, and a note of the others."""
    if len(found) > 1:
        others = ", ".join(claims.told_source(path) for path in found[1:])
        claims.note(f"of several {of} {claims.told_source(found[0])} is taken, and not {others}")
    return found[:1]


def _series_of(claims: Claims, run: Path, tomogram: Mapping[str, Any]) -> list[Path]:
    """The metadata of the tilt series that the tomogram is of; of several, or of none, it is told.

    Which it is, the tomogram's alignment says. Where nothing does, a single one is taken.
    """
    found = sorted((run / SERIES).glob(f"*/{SERIES_METADATA}"))
    if len(found) < 2:
        return found
    path = _below(run / ALIGNMENTS, tomogram.get("alignment_metadata_path"))
    known = path is not None and path.is_file()
    alignment = claims.read(json_of, path, _AGAIN) if known else None
    own = None if alignment is None else _below(run / SERIES, alignment.get("tiltseries_path"))
    if own is not None and (metadata := own.parent / SERIES_METADATA) in found:
        others = ", ".join(p.parent.name for p in found if p != metadata)
        claims.note(
            f"of the {len(found)} tilt series {metadata.parent.name} is taken, which the alignment "
            f"of the tomogram names, and not {others}"
        )
        return [metadata]
    taken = _first(claims, found, "tilt series")
    claims.note("nothing tells which of the tilt series the tomogram is of: look whether it is so")
    return taken


def _below(folder: Path, name: Any) -> Path | None:
    """A file that the portal names by its path in the bucket, in the run's folder here."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if folder.name not in parts or ".." in parts:
        return None
    return folder.joinpath(*parts[parts.index(folder.name) + 1 :])


def _volumes(claims: Claims, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """Volumes, the largest voxels first, in MRC where one is there twice; metadata of the first."""
    found = []
    for spacing, size in spacings(folder):
        for tomogram in sorted((spacing / "Tomograms").glob("*")):
            volumes = sorted(tomogram.glob("*.mrc")) or sorted(tomogram.glob("*.zarr"))
            found += [(-size, volume) for volume in volumes]
    volumes = [volume for _, volume in sorted(found)]
    if not volumes:
        return [], {}
    if len({volume.parent for volume in volumes}) > 1:
        claims.note(
            f"of {len(volumes)} volumes {claims.told_source(volumes[0])} is taken; the others are "
            "in other_volumes"
        )
    path = volumes[0].parent / TOMOGRAM_METADATA
    read = claims.read(json_of, path, _AGAIN) if path.is_file() else None
    return volumes, read or {}


def _volume_claims(claims: Claims, volumes: list[Path], metadata: dict[str, Any]) -> None:
    """The volume and its voxel size."""
    if volumes:
        state_spacing(claims, volumes[0].parent.parent.parent)
        path = volumes[0].parent / TOMOGRAM_METADATA
        stated = claims.read(_number, metadata, "voxel_spacing", path)
        claims.state("voxel_size_A", plausible(stated), path, "voxel_spacing")
    take_volume(claims, volumes)


def _number(content: dict[str, Any], key: str, path: Path) -> float | None:
    value = content.get(key)
    return None if value is None else one_number(str(value), what=key, path=path)


def _series_claims(claims: Claims, path: Path) -> None:
    content = json_of(path, _AGAIN)
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
    major, minor, azimuth, shift = (
        _column(sections, key, path)
        for key in ("major_defocus", "minor_defocus", "astigmatic_angle", "phase_shift")
    )
    columns = defocus_columns(major, minor, azimuth)
    if shift is not None:
        claims.phase_shifts(shift, path, "phase_shift")
    order = _column(sections, "frame_acquisition_order", path)
    recorded = views = None
    if order is not None and len(set(order.tolist())) == len(order):
        recorded = np.argsort(np.argsort(order))
    # The list of tilts is in the order of the stack.
    place = _column(sections, "z_index", path)
    if place is not None and len(set(place.tolist())) == len(place):
        views = np.argsort(np.argsort(place))
    flux = plausible(_number(content, "total_flux", path))
    if flux is not None:
        each = round(flux / len(angles), 4)
        claims.state("exposure_per_tilt_e_per_A2", each, path, "total_flux over the tilts")
        if recorded is not None:
            columns["pre_exposure_e_per_A2"] = recorded * flux / len(angles)
    claims.tilts(
        TiltTable(angles, views=views, recorded=recorded, **columns),
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
