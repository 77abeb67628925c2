"""RELION 4, 5 and 5.1: the STAR file of tomograms and those of their tilt series.

Sources: RELION 5 (commit 73f0a3c), ``src/jaz/tomography/tomogram_set.cpp`` (``loadTomogram``: in
RELION 4 the tables of the images are in the same file, with matrices; in RELION 5 in files of
their own, with angles), ``src/metadata_label.h`` (sizes are those of the unbinned tomogram),
``programs/reconstruct_tomogram.cpp`` (binning and volume), ``gui_jobwindow.cpp`` ("Invert defocus
handedness": yes by default, −1 in the STAR file), ``tomography_python_programs`` (defocus U and V
in Å, the target defocus in µm and negative).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.tomogram_sizes import SIZES
from tomadapt.io.relion_files import SERIES_FILE, located, triples
from tomadapt.io.star import StarDocument, StarTable, read_star
from tomadapt.project.claims import Claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import column, plausible, take_volume
from tomadapt.project.tilts import TiltTable, defocus_columns

Doubles = NDArray[np.float64]

NAME = "rlnTomoName"
OPTICS = {
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "tilt_series_pixel_size_A": "rlnTomoTiltSeriesPixelSize",
}
VOLUMES = ("rlnTomoReconstructedTomogram", "rlnTomoDenoisedTomogram")
HALVES = ("rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2")


def tomograms_file(path: Path) -> Path | None:
    """The STAR file of tomograms that a STAR file is, or names as an optimisation set; or None.

    Raises
    ------
    InputError
        When the file is damaged, or what it names is not there.
    """
    document = read_star(path)
    if _general(document) is not None:
        return path
    for table in document.tables:
        if "rlnTomoTomogramsFile" in table:
            found = located(table.column("rlnTomoTomogramsFile")[0], path)
            if not found.is_file():
                raise InputError(
                    f"{path} names a file that is not there",
                    expected="the tomograms' STAR file",
                    got=str(found),
                    remedy="run it in the project's folder, or mend the path in the file",
                )
            return found
    return None


def read_relion(path: Path, root: Path) -> list[TomogramEntry]:
    """Read the tomograms of a STAR file of RELION 4 or 5.

    Parameters
    ----------
    path
        ``tomograms.star``, or that of tilt series.
    root
        The project's folder, from which files are named.

    Raises
    ------
    InputError
        When the file is damaged or has no tomograms.
    """
    document = read_star(path)
    table = _general(document)
    if table is None or not len(table):
        raise InputError(
            f"{path} has no tomograms",
            expected=f"a table with {NAME} and {SERIES_FILE}, or with {', '.join(SIZES)}",
            got=", ".join(f"data_{t.block}" for t in document.tables[:5]) or "no table",
            remedy="give the STAR file of a job that has tomograms or tilt series",
        )
    entries = []
    for row, name in enumerate(table.column(NAME)):
        claims = Claims(name, root)
        one = table.take([row])
        _general_claims(claims, one, path)
        _series_claims(claims, one, document, path)
        entries.append(claims.entry())
    return entries


def _general(document: StarDocument) -> StarTable | None:
    for table in document.tables:
        if NAME in table and (SERIES_FILE in table or all(size in table for size in SIZES)):
            return table
    return None


def _general_claims(claims: Claims, one: StarTable, path: Path) -> None:
    """What the row of a tomogram says."""

    def said(label: str) -> float | None:
        values = claims.read(column, one, label, path)
        return None if values is None else float(values[0])

    for field, label in OPTICS.items():
        value = said(label)
        claims.state(field, plausible(value) if field.endswith("_A") else value, path, label)
    pixel, binning = plausible(said("rlnTomoTiltSeriesPixelSize")), said("rlnTomoTomogramBinning")
    binning = plausible(binning)
    claims.state("binning", binning, path, "rlnTomoTomogramBinning")
    if pixel and binning:
        what = "rlnTomoTiltSeriesPixelSize × rlnTomoTomogramBinning"
        claims.state("voxel_size_A", round(pixel * binning, 4), path, what)
        sizes = [plausible((said(label) or 0) / binning) for label in SIZES]
        x, y, z = (round(size) if size else 0 for size in sizes)
        if x and y and z:
            claims.state("size_xyz", (x, y, z), path, "rlnTomoSizeX/Y/Z over the binning")
    if (hand := said("rlnTomoHand")) is not None:
        # -1 is what RELION writes by default, and WarpTools for series that are not inverted.
        claims.state("inverted", hand > 0, path, f"rlnTomoHand {hand:g}")
    named = [one.column(label)[0] for label in VOLUMES if label in one]
    take_volume(claims, [located(name, path) for name in named if name not in ("", "None")])
    # Half maps are made for denoising; which one to search is for a person to say.
    halves = [located(one.column(label)[0], path) for label in HALVES if label in one]
    claims.other_volumes += [half for half in halves if half.is_file()]


def _series_claims(claims: Claims, one: StarTable, document: StarDocument, path: Path) -> None:
    """What the table of a tomogram's images says, in its own file or in that of the tomograms."""
    series_path = path
    if SERIES_FILE in one and document.table(claims.name) is None:
        series_path = located(one.column(SERIES_FILE)[0], path)
        read = claims.read(read_star, series_path)
        if read is None:
            return
        document = read
    table = document.table(claims.name)
    if table is None or not len(table):
        got = ", ".join(f"data_{t.block}" for t in document.tables[:3]) or "no table"
        claims.unreadable.append(
            f"{series_path} has no table data_{claims.name} of tilt images; got {got}"
        )
        return
    claims.read(_tilt_claims, claims, table, series_path)


def _tilt_claims(claims: Claims, table: StarTable, path: Path) -> None:
    angles, what = _refined_angles(table, path)
    nominal = column(table, "rlnTomoNominalStageTiltAngle", path)
    columns: dict[str, Any] = {
        "pre_exposure_e_per_A2": column(table, "rlnMicrographPreExposure", path),
        "views": np.arange(len(table)),
    }
    first, second = (column(table, f"rlnDefocus{axis}", path) for axis in "UV")
    columns |= defocus_columns(first, second, column(table, "rlnDefocusAngle", path))
    if (shift := column(table, "rlnPhaseShift", path)) is not None:
        claims.phase_shifts(shift, path, "rlnPhaseShift", "°")
    table_of = {"exposure": "rlnMicrographPreExposure", "defocus": "rlnDefocusU, rlnDefocusV"}
    if angles is None:
        what = "rlnTomoNominalStageTiltAngle"
        claims.tilts(TiltTable(nominal, **columns), path, what, **table_of)
    else:
        claims.tilts(TiltTable(angles, refined=True, **columns), path, what, **table_of)
        if nominal is not None:
            rows = TiltTable(nominal, views=columns["views"])
            claims.tilts(rows, path, "rlnTomoNominalStageTiltAngle")
    target = column(table, "rlnTomoNominalDefocus", path)
    if target is not None:
        claims.target_defocus(-target, path, "rlnTomoNominalDefocus")


def _refined_angles(table: StarTable, path: Path) -> tuple[Doubles | None, str]:
    """Angles of an alignment: RELION 5's, or those of RELION 4's matrices.

    The third row of RELION 4's matrix is along the beam: its entries at x and z are those of a turn
    about y by θ, −sin θ and cos θ (``docs/conventions.md``).
    """
    angles = column(table, "rlnTomoYTilt", path)
    if angles is not None:
        return angles, "rlnTomoYTilt"
    if "rlnTomoProjZ" not in table:
        return None, ""
    x, _, z = triples(table, "rlnTomoProjZ", path).T
    return np.degrees(np.arctan2(-x, z)).round(4), "rlnTomoProjZ"
