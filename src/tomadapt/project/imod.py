"""IMOD: ``.tlt``, ``.rawtlt``, ``.mdoc``, ``.defocus``, command files and stacks of tilt series.

Sources: IMOD's manual pages of tilt, ctfphaseflip and newstack; command files as etomo writes them
(``ctfcorrection.com``: ``Voltage`` in kV, ``SphericalAberration`` in mm, ``PixelSize`` and
``UnbinnedPixelSize`` in nm, ``AmplitudeContrast``, ``InvertTiltAngles``). ``NAME.rawtlt`` has the
stage's angles, ``NAME.tlt`` those after alignment. ``NAME_full_rec.mrc`` has its y axis along the
sections, so it is never taken for the tomogram. Rows are in the order of the stack.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.project.claims import Claims
from tomadapt.project.imod_defocus import read_defocus
from tomadapt.project.mdoc import mdoc_claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import (
    Doubles,
    by_voxel_size,
    files_below,
    names_of_folders,
    one_number,
    pixel_size_of,
    plausible,
    rows_of_numbers,
    take_volume,
    tell_name,
    text_of,
)
from tomadapt.project.tilts import TiltTable

ANGLES = (".tlt", ".rawtlt")
MDOCS = (".mrc.mdoc", ".st.mdoc", ".mdoc")
STACKS = (".st", ".mrc", "_st.mrc")
VOLUMES = ("_rec.mrc", ".rec", "_rec.rec")
COMMANDS = ("ctfcorrection.com", "ctfplotter.com")
FEWEST_DEG = 5.0
"""Images of overviews and montages have a .mdoc, too, and are not tilted."""


def read_imod(folder: Path, root: Path) -> list[TomogramEntry]:
    """Read the tilt series of IMOD in a folder and those below it.

    Parameters
    ----------
    folder, root
        Where they are, and the project's folder, from which files are named.

    Raises
    ------
    InputError
        When a file says what cannot be.
    """
    found = files_below(folder, (*ANGLES, *MDOCS, ".defocus"), deepest=2)
    series = sorted({(path.parent, bare(path)) for path in found}, key=lambda s: (s[1], s[0]))
    entries = []
    for (inner, name), called in names_of_folders(series, folder).items():
        claims = Claims(called, root)
        tell_name(claims, inner, name)
        imod_claims(claims, inner, name)
        entry = claims.entry()
        angles = entry.tilt_angles_deg
        if angles and angles[-1] - angles[0] < FEWEST_DEG and entry.volume is None:
            warnings.warn(
                f"{inner / name} is no tilt series (tilts from {angles[0]:g}° to {angles[-1]:g}°), "
                "and is left out",
                stacklevel=2,
            )
            continue
        entries.append(entry)
    return entries


def bare(path: Path) -> str:
    """The series' name from that of one of its files."""
    for suffix in (*MDOCS, *ANGLES, ".defocus"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def imod_claims(claims: Claims, folder: Path, name: str) -> None:
    """State what IMOD's files of a series say."""
    angles = None
    for suffix in ANGLES:
        path = folder / f"{name}{suffix}"
        if path.is_file() and (read := claims.read(read_angles, path)) is not None:
            views = np.arange(len(read))
            taken = claims.tilts(TiltTable(read, refined=suffix == ".tlt", views=views), path)
            angles = read if angles is None and taken else angles
    for path in _existing(folder, name, MDOCS):
        claims.read(mdoc_claims, claims, path)
    commands = {path: claims.read(_options, path, name) for path in _existing(folder, "", COMMANDS)}
    own = {path: options for path, options in commands.items() if options is not None}
    inverts = any(_inverts(options) for options in own.values())
    for path in _existing(folder, name, (".defocus",)):
        claims.read(_defocus_claims, claims, path, angles, inverts)
    for path in _existing(folder, name, STACKS):
        pixel = claims.read(pixel_size_of, path)
        claims.state("tilt_series_pixel_size_A", pixel, path, "header")
    for path, options in own.items():
        claims.read(_command_claims, claims, path, options)
    take_volume(claims, by_voxel_size(_existing(folder, name, VOLUMES)))


def read_angles(path: Path) -> Doubles:
    """(t,) tilt angles in degrees: the first number of each line.

    Raises
    ------
    InputError
        When a line is no number.
    """
    return np.array([row[0] for row in rows_of_numbers(path, kind="a list of tilts", columns=1)])


def _existing(folder: Path, name: str, suffixes: Sequence[str]) -> list[Path]:
    return [p for suffix in suffixes if (p := folder / f"{name}{suffix}").is_file()]


def _defocus_claims(claims: Claims, path: Path, angles: Doubles | None, inverts: bool) -> None:
    """Defocus of the views; ``inverts`` where IMOD's programs were told to invert the angles."""
    defocus = read_defocus(path)
    if defocus.phase_deg is not None:
        claims.phase_shifts(defocus.phase_deg, path, f"version {defocus.version}", "°")
    if defocus.angles_inverted:
        claims.state("inverted", True, path, "flag 16: angles need to be inverted")
    if angles is not None and defocus.is_turned(angles):
        if inverts or defocus.angles_inverted:
            defocus = defocus.turned()  # ctfplotter writes the angles that it has inverted
        elif not defocus.is_one_view_a_row:
            claims.disagree(
                f"tilt_angles_deg: {claims.told_source(path)} has the opposite sign for the views "
                "that it names; defocus is taken by its views"
            )
    told = f"version {defocus.version}"
    claims.tilts(defocus.table(angles), path, told, defocus=told)


def _options(path: Path, name: str) -> dict[str, str] | None:
    """Options in etomo's command file; None where it is that of another series."""
    options: dict[str, str] = {}
    for line in text_of(path, kind="command file").splitlines():
        words = line.split(None, 1)
        if words and not words[0].startswith(("#", "$")):
            options.setdefault(words[0], words[1].strip() if len(words) > 1 else "")
    stack = Path(options.get("InputStack", "")).name
    own = re.fullmatch(rf"{re.escape(name)}(_preali|_ali)?(\.\w+)*", stack)
    return options if own else None


def _inverts(options: dict[str, str]) -> bool:
    """Whether angles are inverted: etomo writes the option without a value, or with 1 or 0."""
    return options.get("InvertTiltAngles", "0") != "0"


def _command_claims(claims: Claims, path: Path, options: dict[str, str]) -> None:
    """What etomo's command file says."""
    for field, option in (
        ("voltage_kv", "Voltage"),
        ("spherical_aberration_mm", "SphericalAberration"),
        ("amplitude_contrast", "AmplitudeContrast"),
    ):
        claims.state(field, one_number(options.get(option), what=option, path=path), path, option)
    for option, degrees in (("PhasePlateShift", 180 / np.pi), ("PhaseShiftInDegrees", 1.0)):
        shift = one_number(options.get(option), what=option, path=path)
        if shift is not None:
            claims.phase_shifts([shift * degrees], path, option, "°")
    option = "UnbinnedPixelSize" if "UnbinnedPixelSize" in options else "PixelSize"
    pixel_nm = plausible(one_number(options.get(option), what=option, path=path))
    # An aligned stack may be binned, and PixelSize is that of the stack that is corrected.
    if pixel_nm is not None and (option == "UnbinnedPixelSize" or path.name == "ctfplotter.com"):
        claims.state("tilt_series_pixel_size_A", round(10 * pixel_nm, 4), path, f"{option}, nm")
    # Left out, angles are not inverted.
    claims.state("inverted", _inverts(options), path, "InvertTiltAngles")
