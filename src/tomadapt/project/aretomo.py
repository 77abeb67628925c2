"""AreTomo 2 and 3: ``.aln``, ``_TLT.txt``, ``_CTF.txt``, the session's JSON and the metrics.

Sources: AreTomo3 (commit 8a068cf): ``CSaveAlignFile.cpp`` (``.aln``: ``# DarkFrame = index section
tilt``, ten columns of which the last is the tilt, then tilts of local patches), ``CTsPackage.cpp``
(``_TLT.txt``: tilt, number in the order of recording, e/Å² of the image; ``_Vol.mrc``,
``_2ND_Vol.mrc``), ``CSaveCtfResults.cpp`` (``_CTF.txt``: number, larger and smaller defocus in Å,
azimuth in degrees, phase shift, score, resolution, and in version 3 the hand; a row a tilt that was
aligned; ``_CTF_Imod.txt``), ``CAreTomoMain.cpp`` (a hand of 1 is the regular one),
``CTsMetrics.cpp`` (``TiltSeries_Metrics.csv``), ``CAreTomo3Json.cpp`` (``AreTomo3_Session.json``).
AreTomo 2 writes ``_ctf.txt`` with seven columns, and its volume is called as the user wishes:
``_rec.mrc`` is taken.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.star import read_text
from tomadapt.project.claims import Claims
from tomadapt.project.imod import read_angles
from tomadapt.project.imod_defocus import read_defocus
from tomadapt.project.mdoc import mdoc_claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import (
    Doubles,
    files_below,
    one_number,
    pixel_size_of,
    plausible,
    rows_of_numbers,
    take_volume,
)
from tomadapt.project.tilts import TiltTable, principal_defoci
from tomadapt.runs.json_files import json_object

SESSION, METRICS = "AreTomo3_Session.json", "TiltSeries_Metrics.csv"
VOLUMES = ("_Vol.mrc", "_rec.mrc", "_2ND_Vol.mrc", "_3RD_Vol.mrc")
_DARK = re.compile(r"#\s*DarkFrame\s*=\s*(-?\d+)\s+(-?\d+)\s+(\S+)")
_A_TO_UM = 1e-4


@dataclass(frozen=True, eq=False)
class Alignment:
    """What an ``.aln`` says: angles of the tilts that were aligned, and of the dark ones."""

    angles_deg: Doubles
    dark_deg: Doubles


def read_aretomo(folder: Path, root: Path) -> list[TomogramEntry]:
    """Read the tilt series of AreTomo's output folder.

    Parameters
    ----------
    folder, root
        Where they are, and the project's folder, from which files are named.

    Raises
    ------
    InputError
        When a file says what cannot be.
    """
    entries = []
    for path in files_below(folder, (".aln",), deepest=2):
        name = path.name[: -len(".aln")]
        claims = Claims(name.removesuffix(".mrc").removesuffix("_st"), root)
        _series_claims(claims, path, name)
        entries.append(claims.entry())
    return entries


def read_aln(path: Path) -> Alignment:
    """Read AreTomo's alignment.

    Raises
    ------
    InputError
        When it is damaged or has no tilts.
    """
    text = read_text(path, kind=".aln file of AreTomo")
    dark, angles = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _DARK.match(line.strip()):
            dark.append(one_number(found[3], what=f"line {number}, DarkFrame", path=path))
        if line.strip().startswith("# Local Alignment"):
            break
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 10:
            raise InputError(
                f"{path}, line {number}: no row of an alignment",
                expected="10 numbers",
                got=f"{len(words)}: {line.strip()[:80]}",
                remedy="copy the file again",
            )
        angles.append(one_number(words[9], what=f"line {number}, TILT", path=path))
    if not angles:
        raise InputError(
            f"{path} has no tilts",
            expected="rows of SEC, ROT, GMAG, TX, TY, SMEAN, SFIT, SCALE, BASE, TILT",
            remedy="copy the file again",
        )
    return Alignment(np.array(angles, dtype=float), np.array(dark, dtype=float))


def _series_claims(claims: Claims, path: Path, name: str) -> None:
    folder = path.parent
    alignment = claims.read(read_aln, path)
    angles = alignment.angles_deg if alignment is not None else None
    if alignment is not None:
        claims.tilts(TiltTable(alignment.angles_deg, refined=True), path, "TILT")
    dark = alignment.dark_deg if alignment is not None else np.zeros(0)
    recorded = folder / f"{name}_TLT.txt"
    if recorded.is_file():
        claims.read(_recorded_claims, claims, recorded, dark)
    elif (raw := folder / f"{name}.rawtlt").is_file():
        stage = claims.read(read_angles, raw)
        if stage is not None:
            claims.tilts(TiltTable(_without(stage, dark)[0]), raw)
    for suffix in ("_CTF.txt", "_ctf.txt"):
        if (ctf := folder / f"{name}{suffix}").is_file():
            claims.read(_ctf_claims, claims, ctf, angles)
            break
    if (imod := folder / f"{name}_CTF_Imod.txt").is_file():
        claims.read(_imod_claims, claims, imod)
    if (mdoc := folder / f"{name}.mdoc").is_file():
        # Its rows are of all tilts, and AreTomo left dark ones out: only what is of all counts.
        whole = Claims(claims.name, claims.root)
        claims.read(mdoc_claims, whole, mdoc)
        claims.unreadable += whole.unreadable
        claims.nominal_defocus += whole.nominal_defocus
        for field in ("voltage_kv", "exposure_per_tilt_e_per_A2"):
            claims.stated.setdefault(field, []).extend(whole.stated.get(field, []))
            if not claims.stated[field]:
                del claims.stated[field]
    for stack in (folder / f"{name}.mrc", folder / f"{name}_st.mrc", folder / f"{name}.st"):
        if stack.is_file():
            pixel = claims.read(pixel_size_of, stack)
            claims.state("tilt_series_pixel_size_A", pixel, stack, "header")
    _session_claims(claims, folder, name)
    take_volume(claims, [p for end in VOLUMES if (p := folder / f"{name}{end}").is_file()])


def _without(angles: Doubles, dark: Doubles) -> tuple[Doubles, NDArray[np.intp]]:
    """Angles without the dark ones, and which rows these are."""
    rows = np.arange(len(angles))
    for tilt in dark:
        if len(rows):
            nearest = int(np.argmin(np.abs(angles[rows] - tilt)))
            rows = np.delete(rows, nearest)
    return angles[rows], rows


def _recorded_claims(claims: Claims, path: Path, dark: Doubles) -> None:
    """Tilts, their order and exposure from ``_TLT.txt``."""
    rows = rows_of_numbers(path, kind="AreTomo's list of tilts", columns=1)
    angles, kept = _without(np.array([row[0] for row in rows]), dark)
    before = None
    if all(len(row) >= 3 for row in rows):
        order = np.argsort([row[1] for row in rows], kind="stable")
        exposure = np.array([row[2] for row in rows])
        if exposure.any():
            before = np.empty(len(rows))
            before[order] = np.cumsum(exposure[order]) - exposure[order]
            before = before[kept]
            mean = round(float(exposure.mean()), 4)
            claims.state("exposure_per_tilt_e_per_A2", mean, path, "third column")
    claims.tilts(TiltTable(angles, pre_exposure_e_per_A2=before), path)


def _ctf_claims(claims: Claims, path: Path, angles: Doubles | None) -> None:
    rows = rows_of_numbers(path, kind="AreTomo's CTF", columns=7)
    first, second, azimuth = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    defocus, half, angle = principal_defoci(first * _A_TO_UM, second * _A_TO_UM, azimuth)
    own = angles if angles is not None and len(angles) == len(rows) else None
    columns: dict[str, Any] = {
        "defocus_um": defocus,
        "astigmatism_um": half,
        "astigmatism_angle_deg": angle,
    }
    claims.tilts(TiltTable(own, refined=True, **columns), path)
    hands = {row[7] for row in rows if len(row) >= 8 and row[7]}
    if len(hands) == 1:
        claims.state("inverted", hands.pop() < 0, path, "dfHand")


def _imod_claims(claims: Claims, path: Path) -> None:
    """The same defocus for IMOD; a file of an earlier run may differ."""
    mean = round(float(read_defocus(path).defocus_um.mean()), 6)
    claims.state("defocus_um", mean, path)


def _session_claims(claims: Claims, folder: Path, name: str) -> None:
    """What the session was started with, and the row of the series in the metrics."""
    if (metrics := folder / METRICS).is_file():
        claims.read(_metrics_claims, claims, metrics, name)
    if (session := folder / SESSION).is_file():
        claims.read(_json_claims, claims, session)


def _metrics_claims(claims: Claims, path: Path, name: str) -> None:
    rows = csv.DictReader(io.StringIO(read_text(path, kind="CSV file")), skipinitialspace=True)
    for row in rows:
        if Path((row.get("Tilt_Series") or "").strip()).stem != name:
            continue

        def said(key: str, row: dict[str, str] = row) -> float | None:
            return one_number(row.get(key), what=key, path=path)

        pixel = plausible(said("Pix_Size(A)"))
        claims.state("tilt_series_pixel_size_A", pixel, path, "Pix_Size")
        defocus = plausible(said("Defocus(A)"))
        if defocus is not None:
            claims.state("defocus_um", defocus * _A_TO_UM, path, "Defocus")
        claims.state("voltage_kv", plausible(said("Kv")), path, "Kv")
        claims.state("spherical_aberration_mm", plausible(said("Cs(nm)")), path, "Cs, in mm")


def _json_claims(claims: Claims, path: Path) -> None:
    text = read_text(path, kind="JSON file")
    session = json_object(text, what=str(path), remedy="copy it again")
    options = session.get("parameters", {})
    options = options if isinstance(options, dict) else {}
    for field, key in (
        ("voltage_kv", "kV"),
        ("spherical_aberration_mm", "Cs"),
        ("amplitude_contrast", "AmpContrast"),
    ):
        value = options.get(key)
        if value is not None:
            number = one_number(str(value), what=key, path=path)
            claims.state(field, number, path, f"-{key}")
