"""AreTomo 2 and 3: alignments, ``_TLT.txt``, ``_CTF.txt``, the session's JSON and metrics.

Sources: AreTomo3 (commit 8a068cf).

- ``CTsPackage.cpp``: ``_TLT.txt`` (tilt, number in the order of recording, e/Å² of the image);
  ``_Vol.mrc``, ``_2ND_Vol.mrc``.
- ``CSaveCtfResults.cpp``: ``_CTF.txt`` (number, larger and smaller defocus in Å, azimuth in
  degrees, phase shift, score, resolution, the hand; of all tilts, or without dark ones);
  ``_CTF_Imod.txt``.
- ``CAreTomoMain.cpp``: a hand of 1 is the regular one.
- ``CTsMetrics.cpp``: ``TiltSeries_Metrics.csv``; defocus and phase shift are those of the image
  nearest to 0°. ``CAreTomo3Json.cpp``: ``AreTomo3_Session.json``.

AreTomo 2 writes ``_ctf.txt`` with seven columns, and its volume is called as the user wishes:
``_rec.mrc`` is taken.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from tomadapt.project.aretomo_aln import Alignment, read_aln
from tomadapt.project.claims import Claims
from tomadapt.project.imod import read_angles
from tomadapt.project.imod_defocus import read_defocus
from tomadapt.project.mdoc import mdoc_claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import (
    files_below,
    json_of,
    names_of_folders,
    one_number,
    pixel_size_of,
    plausible,
    rows_of_numbers,
    take_volume,
    tell_name,
    text_of,
)
from tomadapt.project.tilts import TiltTable, defocus_columns

SESSION, METRICS = "AreTomo3_Session.json", "TiltSeries_Metrics.csv"
VOLUMES = ("_Vol.mrc", "_rec.mrc", "_2ND_Vol.mrc", "_3RD_Vol.mrc")
_A_TO_UM = 1e-4


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
    found = files_below(folder, (".aln",), deepest=2)
    bare = {(path.parent, _bare(path)): path for path in found}
    for (inner, name), called in names_of_folders(sorted(bare), folder).items():
        claims = Claims(called, root)
        tell_name(claims, inner, name)
        path = bare[inner, name]
        _series_claims(claims, path, path.name.removesuffix(".aln"))
        entries.append(claims.entry())
    return entries


def _bare(path: Path) -> str:
    name = path.name.removesuffix(".aln")
    return name.removesuffix(".mrc").removesuffix("_st").removesuffix(".st")


def _series_claims(claims: Claims, path: Path, name: str) -> None:
    folder = path.parent
    alignment = claims.read(read_aln, path)
    if alignment is not None:
        claims.tilts(TiltTable(alignment.angles_deg, refined=True), path, "TILT")
    recorded = folder / f"{name}_TLT.txt"
    if recorded.is_file():
        claims.read(_recorded_claims, claims, recorded, alignment)
    elif (raw := folder / f"{name}.rawtlt").is_file():
        stage = claims.read(read_angles, raw)
        if stage is not None:
            used = np.arange(len(stage)) if alignment is None else alignment.kept(stage)
            claims.tilts(TiltTable(stage[used]), raw)
    for suffix in ("_CTF.txt", "_ctf.txt"):
        if (ctf := folder / f"{name}{suffix}").is_file():
            claims.read(_ctf_claims, claims, ctf, alignment)
            break
    if (imod := folder / f"{name}_CTF_Imod.txt").is_file():
        claims.read(_imod_claims, claims, imod)
    if (mdoc := folder / f"{name}.mdoc").is_file():
        kept = alignment.kept if alignment is not None else None
        # AreTomo makes the stack of movies, whose pixels may be others.
        claims.read(mdoc_claims, claims, mdoc, binned=True, kept=kept)
    for stack in (folder / f"{name}.mrc", folder / f"{name}_st.mrc", folder / f"{name}.st"):
        if stack.is_file():
            pixel = claims.read(pixel_size_of, stack)
            claims.state("tilt_series_pixel_size_A", pixel, stack, "header")
    _session_claims(claims, folder, name)
    take_volume(claims, [p for end in VOLUMES if (p := folder / f"{name}{end}").is_file()])


def _recorded_claims(claims: Claims, path: Path, alignment: Alignment | None) -> None:
    """Tilts, their order and exposure from ``_TLT.txt``."""
    rows = rows_of_numbers(path, kind="AreTomo's list of tilts", columns=1)
    angles = np.array([row[0] for row in rows])
    kept = np.arange(len(rows)) if alignment is None else alignment.kept(angles)
    before = recorded = None
    if all(len(row) >= 2 for row in rows):
        recorded = np.argsort(np.argsort([row[1] for row in rows], kind="stable"))[kept]
    if all(len(row) >= 3 for row in rows):
        order = np.argsort([row[1] for row in rows], kind="stable")
        exposure = np.array([row[2] for row in rows])
        if exposure.any():
            before = np.empty(len(rows))
            before[order] = np.cumsum(exposure[order]) - exposure[order]
            before = before[kept]
            mean = round(float(exposure.mean()), 4)
            claims.state("exposure_per_tilt_e_per_A2", mean, path, "third column")
    claims.tilts(TiltTable(angles[kept], pre_exposure_e_per_A2=before, recorded=recorded), path)


def _ctf_claims(claims: Claims, path: Path, alignment: Alignment | None) -> None:
    """Defocus from ``_CTF.txt``, by ascending angle: of all tilts, or of those aligned."""
    rows = rows_of_numbers(path, kind="AreTomo's CTF", columns=7)
    own = None
    if alignment is not None:
        kept = alignment.kept(np.arange(len(rows), dtype=float))
        rows = [rows[row] for row in kept]
        if len(rows) == len(alignment.angles_deg):
            own = np.sort(alignment.angles_deg)
    first, second, azimuth, shift = (np.array([row[k] for row in rows]) for k in (1, 2, 3, 4))
    columns = defocus_columns(first, second, azimuth)
    claims.tilts(TiltTable(own, refined=True, **columns), path)
    claims.phase_shifts(shift, path, "column 5")
    hands = {row[7] for row in rows if len(row) >= 8 and row[7]}
    if len(hands) == 1:
        claims.state("inverted", hands.pop() < 0, path, "dfHand")


def _imod_claims(claims: Claims, path: Path) -> None:
    """The same defocus for IMOD; a file of an earlier run may differ."""
    defocus = read_defocus(path)
    claims.state("defocus_um", round(float(np.median(defocus.defocus_um)), 6), path)
    if defocus.phase_deg is not None:
        claims.phase_shifts(defocus.phase_deg, path, "", "°")


def _session_claims(claims: Claims, folder: Path, name: str) -> None:
    """What the session was started with, and the row of the series in the metrics."""
    if (metrics := folder / METRICS).is_file():
        claims.read(_metrics_claims, claims, metrics, name)
    if (session := folder / SESSION).is_file():
        claims.read(_json_claims, claims, session)


def _metrics_claims(claims: Claims, path: Path, name: str) -> None:
    rows = csv.DictReader(io.StringIO(text_of(path, kind="CSV file")), skipinitialspace=True)
    own = [row for row in rows if Path((row.get("Tilt_Series") or "").strip()).stem == name]
    if not own:
        return

    def said(key: str) -> float | None:
        # A session that is resumed adds rows: the last is that of the files beside it.
        return one_number(own[-1].get(key), what=key, path=path)

    pixel = plausible(said("Pix_Size(A)"))
    claims.state("tilt_series_pixel_size_A", pixel, path, "Pix_Size")
    defocus = plausible(said("Defocus(A)"))
    if defocus is not None:
        claims.defocus_of_the_least_tilted(defocus * _A_TO_UM, path, "Defocus")
    if (shift := said("ExtPhase(Deg)")) is not None:
        claims.phase_shifts([shift], path, "ExtPhase", "°")
    claims.state("voltage_kv", plausible(said("Kv")), path, "Kv")
    claims.state("spherical_aberration_mm", plausible(said("Cs(nm)")), path, "Cs, in mm")


def _json_claims(claims: Claims, path: Path) -> None:
    session = json_of(path, "copy it again")
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
