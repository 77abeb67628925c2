"""WarpTools: ``.tomostar``, the XML of each tilt series, settings and reconstructions.

Sources: warpem/warp (commit e321344).

- ``WarpTools/Commands/Tiltseries/ImportTiltseries.cs``: columns of ``.tomostar``; ``wrpDose`` is
  what a tilt had before it; angles are those of the mdoc times −1 without ``--dont_invert``.
- ``WarpLib/TiltSeries/TiltSeries.cs``: ``SaveMeta``; volumes are called ``NAME_10.00Apx.mrc`` and
  lie in ``reconstruction``.
- ``CubicGrid.cs``: grids, with a node a tilt in the order of ``Angles``.
- ``CTF.cs`` and ``ExportParticlesTiltseries.cs``: defocus in µm; the principal defoci are defocus ±
  half of ``DefocusDelta``; phase shifts are in units of π.
- ``OptionsWarp.cs``: settings; the pixel size is before binning by 2 to the power of ``BinTimes``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.star import read_star
from tomadapt.project.claims import Claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import (
    by_voxel_size,
    column,
    files_below,
    one_number,
    plausible,
    take_volume,
)
from tomadapt.project.tilts import TiltTable, principal_defoci
from tomadapt.project.warp_xml import damaged, grid_of, numbers_of, params_of, read_xml

Doubles = NDArray[np.float64]

DERIVED = ("deconv", "even", "odd", "denoised", "filtered")
"""Folders of volumes that are not the reconstruction itself."""
_CTF = {"voltage_kv": "Voltage", "spherical_aberration_mm": "Cs", "amplitude_contrast": "Amplitude"}


def read_warp(folder: Path, root: Path) -> list[TomogramEntry]:
    """Read the tilt series of a WarpTools project.

    Parameters
    ----------
    folder
        Where the ``.tomostar`` files and the processing folder are, or one of these.
    root
        The project's folder, from which files are named.

    Raises
    ------
    InputError
        When nothing of WarpTools can be read.
    """
    stars = _one_a_name(files_below(folder, (".tomostar",)))
    series = _one_a_name(series_files(folder))
    volumes = _volumes(folder)
    entries = []
    for name in sorted({*stars, *series}):
        claims = Claims(name, root)
        xml = claims.read(read_xml, series[name]) if name in series else None
        used = None
        if xml is not None:
            used = claims.read(_series, claims, xml, series[name])
        if name in stars:
            claims.read(_tomostar, claims, stars[name], used)
        _settings(claims, folder)
        take_volume(claims, by_voxel_size(volumes.get(name, [])))
        entries.append(claims.entry())
    return entries


def _one_a_name(paths: Sequence[Path]) -> dict[str, Path]:
    """Name of the series → its file, that of the fewest folders; others are told."""
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (len(path.parts), path)):
        first = found.setdefault(path.stem, path)
        if first != path:
            warnings.warn(f"{first} is read, and not {path} of the same name", stacklevel=2)
    return found


def series_files(folder: Path) -> list[Path]:
    """The XML files of tilt series below a folder."""
    return [path for path in files_below(folder, (".xml",)) if _starts_as_series(path)]


def _starts_as_series(path: Path) -> bool:
    """Whether an XML file is that of a tilt series: those of its frames begin with another tag."""
    try:
        with path.open("rb") as file:
            return b"<TiltSeries" in file.read(1000)
    except OSError:
        return False


def _volumes(folder: Path) -> dict[str, list[Path]]:
    """Name of the series → its reconstructions."""
    found: dict[str, list[Path]] = {}
    for path in files_below(folder, ("apx.mrc",), deepest=4):
        within = path.relative_to(folder).parts[:-1]
        if "reconstruction" in within and not set(within) & set(DERIVED):
            found.setdefault(path.name.rpartition("_")[0], []).append(path)
    return found


def _series(claims: Claims, root: ElementTree.Element, path: Path) -> NDArray[np.bool_] | None:
    """What the XML of a tilt series says; gives which of its tilts are used."""
    angles = numbers_of(root, "Angles", path)
    inverted = root.get("AreAnglesInverted")
    if inverted is not None:
        flag = inverted.strip().lower() == "true"
        claims.state("inverted", flag, path, f"AreAnglesInverted {inverted}")
    _optics(claims, root, path)
    if angles is None:
        return None
    element = root.find("UseTilt")
    flags = (element.text or "").split() if element is not None else []
    used = np.array([word.lower() == "true" for word in flags] or [True] * len(angles))
    if len(used) != len(angles):
        raise damaged(path, f"{len(angles)} Angles and {len(used)} UseTilt")
    dose = numbers_of(root, "Dose", path)
    rows = np.arange(len(angles))
    table = {"pre_exposure_e_per_A2": dose, **_defocus(claims, root, path, len(angles))}
    columns: dict[str, Any] = {}
    for name, values in table.items():
        if values is not None and len(values) != len(angles):
            claims.disagree(
                f"{name}: {len(values)} rows for {len(angles)} tilts in "
                f"{claims.told_source(path)}; they are not taken"
            )
        elif values is not None:
            columns[name] = values[used]
    claims.tilts(
        TiltTable(angles[used], views=rows[used], **columns),
        path,
        "Angles",
        exposure="Dose",
        defocus="GridCTF",
    )
    return used


def _defocus(
    claims: Claims, root: ElementTree.Element, path: Path, tilts: int
) -> dict[str, Doubles | None]:
    """Columns of defocus and astigmatism from the grids; none where no CTF was fitted."""
    for shift in (grid_of(root, "GridCTFPhase", path), [_phase_shift(root, path)]):
        if shift is not None:
            claims.phase_shifts(180 * np.asarray(shift), path, "phase shift", "°")
    defocus = grid_of(root, "GridCTF", path)
    if defocus is None or not defocus.any():  # Warp writes a grid of one 0 before the fit
        return {}
    if len(defocus) == 1 < tilts:
        defocus = np.full(tilts, defocus[0])
    columns: dict[str, Doubles | None] = {"defocus_um": defocus}
    delta, angle = (
        grid_of(root, "GridCTFDefocusDelta", path),
        grid_of(root, "GridCTFDefocusAngle", path),
    )
    if delta is not None and angle is not None:
        delta, angle = (np.full(len(defocus), v[0]) if len(v) == 1 else v for v in (delta, angle))
        if len(delta) == len(angle) == len(defocus):
            _, half, direction = principal_defoci(defocus + delta / 2, defocus - delta / 2, angle)
            columns |= {"astigmatism_um": half, "astigmatism_angle_deg": direction}
    stated = one_number(params_of(root.find("CTF")).get("Defocus"), what="CTF Defocus", path=path)
    claims.state("defocus_um", stated, path, "CTF Defocus")
    return columns


def _phase_shift(root: ElementTree.Element, path: Path) -> float:
    """Of the CTF, in units of π."""
    text = params_of(root.find("CTF")).get("PhaseShift")
    return one_number(text, what="PhaseShift", path=path) or 0.0


def _optics(claims: Claims, root: ElementTree.Element, path: Path) -> None:
    """Voltage and so on of the CTF that was fitted, and the pixel size it was fitted at."""
    options = params_of(root.find("OptionsCTF"))
    if not options:
        return
    for field, name in _CTF.items():
        claims.state(field, one_number(options.get(name), what=name, path=path), path, name)
    pixel = one_number(options.get("PixelSize"), what="PixelSize", path=path)
    claims.state("tilt_series_pixel_size_A", plausible(pixel), path, "OptionsCTF PixelSize")


def _tomostar(claims: Claims, path: Path, used: NDArray[np.bool_] | None) -> None:
    table = next((t for t in read_star(path).tables if "wrpAngleTilt" in t), None)
    if table is None or not len(table):
        raise InputError(
            f"{path} has no tilts",
            expected="a table with wrpAngleTilt and wrpDose",
            remedy="import the tilt series into WarpTools again",
        )
    # The XML has the tilts in the same order.
    columns: dict[str, Any] = {
        "angles_deg": column(table, "wrpAngleTilt", path),
        "pre_exposure_e_per_A2": column(table, "wrpDose", path),
        "views": np.arange(len(table)),
    }
    if used is not None and len(used) == len(table):
        columns = {name: v[used] if v is not None else None for name, v in columns.items()}
    claims.tilts(TiltTable(**columns), path, "wrpAngleTilt", exposure="wrpDose")


def _settings(claims: Claims, folder: Path) -> None:
    """The pixel size in the settings of tilt series; those of frames have another extension."""
    for path in files_below(folder, (".settings",), deepest=1):
        root = claims.read(read_xml, path)
        if root is None or "tomostar" not in params_of(root.find("Import")).get("Extension", ""):
            continue
        text = params_of(root.find("Import")).get("PixelSize")
        pixel = claims.read(one_number, text, what="PixelSize", path=path)
        claims.state("tilt_series_pixel_size_A", plausible(pixel), path, "Import PixelSize")
