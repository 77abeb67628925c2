"""SerialEM's ``.mdoc``: the tilts as they were recorded, with exposure, date and target defocus.

Sources: SerialEM's help, "File Formats" (``about_formats.htm``: autodoc sections ``[ZValue = n]``
of ``key = value``; before the first section, values hold for all), teamtomo/mdocfile and RELION 5's
``_utils/mdoc.py`` (``ExposureDose`` in e/Å² of an image, ``PriorRecordDose`` what it had before,
``TargetDefocus`` in µm and negative for underfocus), WarpTools' ``ImportTiltseries.cs`` (dates with
years of two and of four digits). mdocfile itself brings pandas along, which nothing else needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.project.claims import Claims
from tomadapt.project.reading import one_number, plausible, text_of
from tomadapt.project.tilts import Rows, TiltTable

Doubles = NDArray[np.float64]

_SECTION = re.compile(r"\[\s*(ZValue|FrameSet)\s*=\s*(-?\d+)\s*\]")
_NUMBER = "[ZValue]"
_MOST_DIGITS = 9
_OF_STACK = (".mrc.mdoc", ".st.mdoc")
_DATES = ("%d-%b-%y %H:%M:%S", "%d-%b-%Y %H:%M:%S")


@dataclass(frozen=True, eq=False)
class Mdoc:
    """What an ``.mdoc`` says, a row an image, in the order of recording where dates tell it.

    Attributes
    ----------
    angles_deg
        (t,) of the stage.
    pre_exposure_e_per_A2, exposure_e_per_A2, target_defocus_um
        (t,) or None where the file does not say them; positive = underfocus.
    pixel_size_A, voltage_kv
        None where the file does not say them.
    views
        (t,) the section of the stack that an image is; None where the file is not that of a stack.
    recorded
        (t,) place in the order of recording; None where dates do not tell it.
    """

    angles_deg: Doubles
    pre_exposure_e_per_A2: Doubles | None
    exposure_e_per_A2: Doubles | None
    target_defocus_um: Doubles | None
    pixel_size_A: float | None
    voltage_kv: float | None
    views: Rows | None
    recorded: Rows | None


def read_mdoc(path: Path) -> Mdoc:
    """Read an ``.mdoc`` of a tilt series.

    Raises
    ------
    InputError
        When it is damaged, has no images, or an image has no tilt angle.
    """
    general: dict[str, str] = {}
    sections: list[dict[str, str]] = []
    into = general
    for line in text_of(path, kind=".mdoc file").splitlines():
        stripped = line.strip()
        if found := _SECTION.fullmatch(stripped):
            numbered = found[1] == "ZValue" and len(found[2]) <= _MOST_DIGITS
            into = {_NUMBER: found[2]} if numbered else {}
            sections.append(into)
        elif stripped.startswith("["):
            into = {} if sections else general  # a title, such as [T = SerialEM: …]
        elif "=" in stripped:
            key, _, value = stripped.partition("=")
            into.setdefault(key.strip(), value.strip())
    if not sections:
        raise InputError(
            f"{path} has no images",
            expected="sections [ZValue = 0], [ZValue = 1], …",
            remedy="give the .mdoc of the tilt series",
        )
    sections, dated = _by_date(sections)
    angles = _column(sections, "TiltAngle", path)
    if angles is None:
        raise InputError(
            f"{path} does not have the tilt angles of all images",
            expected="TiltAngle in each section",
            remedy="give the .mdoc of a tilt series",
        )
    exposure = _column(sections, "ExposureDose", path)
    if exposure is not None and not exposure.any():
        exposure = None  # SerialEM writes 0 where the dose was not calibrated
    before = _column(sections, "PriorRecordDose", path)
    if before is None or (len(before) > 1 and not before.any()):
        named = all("DateTime" in section for section in sections)
        known = exposure is not None and named
        before = np.cumsum(exposure) - exposure if known and exposure is not None else None
    target = _column(sections, "TargetDefocus", path)
    everywhere = {**sections[0], **general}
    pixel = one_number(everywhere.get("PixelSpacing"), what="PixelSpacing", path=path)
    voltage = one_number(everywhere.get("Voltage"), what="Voltage", path=path)
    return Mdoc(
        angles_deg=angles,
        pre_exposure_e_per_A2=before,
        exposure_e_per_A2=exposure,
        target_defocus_um=None if target is None else -target,
        pixel_size_A=plausible(pixel),
        voltage_kv=plausible(voltage),
        views=_views(sections) if _is_of_stack(path, general) else None,
        recorded=np.arange(len(sections)) if dated else None,
    )


def _is_of_stack(path: Path, general: dict[str, str]) -> bool:
    """Whether sections are numbered as in a stack of images; frames have a ``.mdoc``, too."""
    return path.name.lower().endswith(_OF_STACK) or "ImageFile" in general


def _views(sections: Sequence[dict[str, str]]) -> Rows | None:
    """(t,) the number of each section, or None where one has none or two have the same."""
    numbers = [int(section[_NUMBER]) for section in sections if _NUMBER in section]
    return np.array(numbers, dtype=np.intp) if len(set(numbers)) == len(sections) else None


def mdoc_claims(
    claims: Claims,
    path: Path,
    *,
    binned: bool = False,
    kept: Callable[[Doubles], NDArray[np.intp]] | None = None,
) -> None:
    """State what an ``.mdoc`` says of a tomogram.

    Parameters
    ----------
    claims, path
        The tomogram, and the file.
    binned
        Whether its pixels may be others than those of the tilt series: those of movies are.
    kept
        Gives, of the angles of all images, the rows of those that were used.

    Raises
    ------
    InputError
        As :func:`read_mdoc`.
    """
    mdoc = read_mdoc(path)
    rows = np.arange(len(mdoc.angles_deg)) if kept is None else kept(mdoc.angles_deg)
    before = mdoc.pre_exposure_e_per_A2
    before = None if before is None else before[rows]
    of_stack = None if binned or mdoc.views is None else mdoc.views[rows]
    table = TiltTable(
        mdoc.angles_deg[rows],
        pre_exposure_e_per_A2=before,
        views=of_stack,
        recorded=None if mdoc.recorded is None else mdoc.recorded[rows],
    )
    exposure = "PriorRecordDose, or ExposureDose in the order of DateTime"
    claims.tilts(table, path, "TiltAngle", exposure=exposure)
    claims.state("voltage_kv", mdoc.voltage_kv, path, "Voltage")
    if not binned:
        claims.state("tilt_series_pixel_size_A", mdoc.pixel_size_A, path, "PixelSpacing")
    if mdoc.exposure_e_per_A2 is not None:
        mean = round(float(np.mean(mdoc.exposure_e_per_A2)), 4)
        claims.state("exposure_per_tilt_e_per_A2", mean, path, "ExposureDose")
    if mdoc.target_defocus_um is not None:
        claims.target_defocus(mdoc.target_defocus_um, path, "TargetDefocus")


def _by_date(sections: list[dict[str, str]]) -> tuple[list[dict[str, str]], bool]:
    """In the order of recording, where each section has a date that can be read; and whether."""
    dates = [_date(section.get("DateTime", "")) for section in sections]
    known = [date for date in dates if date is not None]
    if len(known) < len(sections):
        return sections, False
    return [sections[row] for row in sorted(range(len(sections)), key=known.__getitem__)], True


def _date(text: str) -> datetime | None:
    for form in _DATES:
        try:
            return datetime.strptime(" ".join(text.split()), form)
        except ValueError:
            continue
    return None


def _column(sections: Sequence[dict[str, str]], key: str, path: Path) -> Doubles | None:
    """(t,) of a key, or None where a section lacks it."""
    values = [
        one_number(section.get(key), what=f"{key} of image {row + 1}", path=path)
        for row, section in enumerate(sections)
    ]
    known = [value for value in values if value is not None]
    return np.array(known) if len(known) == len(sections) else None
