"""Lists of particles: what is in them, and whether they fit the tomograms given with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.doctor.findings import Finding, note, ok, problem, warning, words_of
from tomadapt.doctor.placed import KnownTomogram, placed_findings
from tomadapt.errors import ConfigError
from tomadapt.io.particle_lists import ParticleList, read_particles
from tomadapt.io.star import read_star
from tomadapt.tomograms.list_reading import read_list, rows_in_tomogram
from tomadapt.tomograms.scale import arrangement_notes, collapsed, scale_of

_SHOWN = 5
_NAMES = {
    "portal": "annotations of the CryoET Data Portal",
    "eman2": "EMAN2's boxes",
    "cryolo": "crYOLO's boxes",
    "imod": "points of IMOD's model2point",
    "points": "rows of x, y, z",
}
"""What a user would call a dialect, where its own name does not say it."""
Placed = Sequence[tuple[KnownTomogram, NDArray[np.int64]]]
"""Tomograms, and which rows of a list are of each."""


@dataclass(frozen=True)
class Companions:
    """What was given with a list: tomograms, and RELION's STAR file of tomograms."""

    tomograms: tuple[KnownTomogram, ...] = ()
    tomogram_list: Path | None = None


def tomogram_list_findings(path: Path) -> Iterator[Finding]:
    """What RELION's STAR file of tomograms holds.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    table = next(t for t in read_star(path).tables if "rlnTomoSizeX" in t)
    names = list(table.column("rlnTomoName")) if "rlnTomoName" in table else []
    text = f"{len(table)} tomogram{'' if len(table) == 1 else 's'}: {_some(names)}"
    yield ok("tomograms", text, names)


def list_findings(path: Path, given: Companions) -> Iterator[Finding]:
    """What a list of particles holds, and where it contradicts the tomograms given with it.

    Raises
    ------
    TomadaptError
        What :func:`~tomadapt.io.particle_lists.read_particles` refuses, its rows apart.
    """
    try:
        particles, taken = _read(path, given)
    except ConfigError as error:
        if given.tomograms:
            raise
        # Many formats leave to the tomogram what their numbers count in.
        text = words_of(error)[0]
        yield problem("readable", text, remedy="give the list's tomogram to doctor too")
        return
    shown = _NAMES.get(particles.dialect, particles.dialect)
    yield ok("format", f"read as {shown}", particles.dialect)
    if not len(particles):
        yield problem("particles", "no particles", 0, remedy="check the program that wrote it")
        return
    yield ok("particles", f"{len(particles)} particles", len(particles))
    said = []
    if taken:
        # Of one tomogram it is what the commands warn of.
        level = warning if len(given.tomograms) == 1 else note
        said.append(level("taken_from_tomogram", taken))
    if particles.basis:
        said.append(warning("basis", particles.basis))
    yield from said
    yield _rows(particles)
    yield _names(particles)
    has = particles.rotations is not None
    yield ok("poses", "each particle has a pose" if has else "particles have no poses", has)
    if particles.classes is not None:
        counts = Counter(particles.classes)
        text = ", ".join(f"{name or 'unnamed'} {n}" for name, n in counts.most_common(_SHOWN))
        yield ok("classes", f"{text}{' …' if len(counts) > _SHOWN else ''}", dict(counts))
    if particles.pixel_size_A is not None:
        known = particles.pixel_size_A[np.isfinite(particles.pixel_size_A)]
        sizes = np.unique(known).tolist()
        text = f"pixels of {_some([f'{size:g}' for size in sizes])} Å"
        text += ", taken from the tomogram" if taken else " named"
        yield ok("pixel_size", text, sizes)
    if given.tomograms:
        yield from _against_tomograms(path, particles, given, said)


def _read(path: Path, given: Companions) -> tuple[ParticleList, str]:
    """The list, and what was taken from the tomograms because the list does not say it."""
    if len(given.tomograms) == 1 and math.isfinite(given.tomograms[0].voxel_size_A):
        particles, notes, _ = read_list(
            path, given.tomograms[0], pixel_size_A=None, tomograms=given.tomogram_list
        )
        return particles, "; ".join(notes)
    try:
        return read_particles(path, strict=False), ""
    except ConfigError:
        for options, taken in _ways(given):
            try:
                return read_particles(path, strict=False, **options), taken
            except ConfigError:  # whatever else is wrong is the list's fault, and told
                continue
        raise


def _ways(given: Companions) -> Iterator[tuple[dict[str, Any], str]]:
    """What may be stated of a list of several tomograms that needs it, and in words."""
    if given.tomogram_list is not None:
        yield (
            {"tomograms": given.tomogram_list},
            f"tomograms' sizes are those of {given.tomogram_list}",
        )
    sizes = {t.voxel_size_A for t in given.tomograms if math.isfinite(t.voxel_size_A)}
    if len(sizes) == 1:
        size_A = sizes.pop()
        text = f"coordinates were taken to count in voxels of the tomograms given, {size_A:g} Å"
        yield {"voxel_size_A": size_A}, text


def _some(texts: Sequence[str]) -> str:
    more = f" … ({len(texts)} in all)" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _rows(particles: ParticleList) -> Finding:
    rows = [{"row": p.row, "reason": p.reason} for p in particles.problems]
    if not rows:
        return ok("rows", "every row can be used", rows)
    reasons = "; ".join(p.reason for p in particles.problems[:_SHOWN])
    more = " …" if len(rows) > _SHOWN else ""
    text = f"{len(rows)} of {len(particles)} rows cannot be used: {reasons}{more}"
    if all(p.lacks_size for p in particles.problems):
        remedy = "give the tomograms that these rows are of, unless they are not wanted"
        return warning("rows", text, rows, remedy=remedy)
    return problem("rows", text, rows, remedy="mend or delete these rows")


def _names(particles: ParticleList) -> Finding:
    counts = dict(Counter(particles.own_tomograms))
    if set(counts) == {""}:
        text = "the particles' tomogram is not named"
        return note("tomograms", text, {}, remedy="state the tomogram where it is asked for")
    shown = [f"{name or 'unnamed'} ({n})" for name, n in counts.items()]
    text = f"in {_some(shown)}"
    if "" in counts:
        return problem("tomograms", text, counts, remedy="name the tomogram of every particle")
    return ok("tomograms", text, counts)


def _against_tomograms(
    path: Path, particles: ParticleList, given: Companions, said: Sequence[Finding]
) -> Iterator[Finding]:
    """Whether the list fits its tomograms; ``said`` has been found of it already."""
    tomograms = given.tomograms
    rows_of = _rows_of(particles, tomograms)
    others = [t.name for t in tomograms if t.name not in rows_of]
    matched = {name: len(rows) for name, rows in rows_of.items()}
    if others:
        listed = _some([name or "unnamed" for name in dict.fromkeys(particles.own_tomograms)])
        text = f"no particle is in {_some(others)}; the list has {listed}"
        remedy = "if they belong together, give the file the name that the list has"
        # With several lists each has its own tomograms: only one that fits none is suspicious.
        level = note if rows_of else warning
        yield level("tomograms_given", text, matched, remedy=remedy)
    else:
        text = ", ".join(f"{n} particles in {name}" for name, n in matched.items())
        yield ok("tomograms_given", text, matched)
    known = [t for t in tomograms if t.name in rows_of and math.isfinite(t.voxel_size_A)]
    if not known:
        return
    here = [(tomogram, rows_of[tomogram.name]) for tomogram in known]
    held = [_inside(particles, here), _placement(particles, here)]
    if particles.pixel_size_A is not None:
        held.append(_sizes(particles, here))
    yield from held
    yield from placed_findings(path, known, given.tomogram_list, [*said, *held])


def _rows_of(
    particles: ParticleList, tomograms: Sequence[KnownTomogram]
) -> dict[str, NDArray[np.int64]]:
    """The rows of each tomogram that has any; a list of one name or none is of the only one."""
    found = {}
    names = particles.own_tomograms
    # The commands have one tomogram, and take a list of one other name for its own. Of several
    # only those that the list names.
    only = len(tomograms) == 1
    for tomogram in tomograms:
        named = rows_in_tomogram(particles, tomogram, where="the list")
        nameless = named is not None and (named.doubt or not any(names))
        if named is None or (nameless and not only and not any(named.of)):
            continue
        found[tomogram.name] = np.array(named.rows, dtype=np.int64)
    return {name: rows for name, rows in found.items() if rows.size}


def _inside(particles: ParticleList, placed: Placed) -> Finding:
    """Whether coordinates lie in a tomogram's voxels, the outermost halves included."""
    value: dict[str, list[int]] = {}
    shown = []
    for tomogram, rows in placed:
        place = particles.coordinates_A[rows] / tomogram.voxel_size_A
        last = np.array(tomogram.shape[::-1]) - 1
        beyond = ((place < -0.5) | (place > last + 0.5)).any(axis=1)  # False of NaN
        if beyond.any():
            value[tomogram.name] = rows[beyond].tolist()
            x, y, z = place[beyond][0]
            shown.append(
                f"{beyond.sum()} of {len(rows)} lie outside of {tomogram.name} "
                f"({' × '.join(map(str, tomogram.shape[::-1]))} voxels, x, y, z), the first at "
                f"{x:.0f}, {y:.0f}, {z:.0f}"
            )
    if not value:
        return ok("inside", "all coordinates lie in the tomograms given", value)
    return problem(
        "inside",
        "; ".join(shown),
        value,
        remedy="check the voxel sizes, the order of axes, and where coordinates count from",
    )


def _placement(particles: ParticleList, placed: Placed) -> Finding:
    """How coordinates are spread in the tomograms, as every command looks at them."""
    told: dict[str, list[str]] = {}
    for tomogram, rows in placed:
        places = particles.coordinates_A[rows] / tomogram.voxel_size_A
        places = places[np.isfinite(places).all(axis=1)]
        if (why := collapsed(places)) is not None:
            text = f"in {tomogram.name}, {why}"
            remedy = "state in which pixels they count (--pixel-size)"
            return problem("placement", text, {tomogram.name: [why]}, remedy=remedy)
        if notes := arrangement_notes(places, tomogram.shape):
            told[tomogram.name] = notes
    if told:
        text = "; ".join(f"in {name}, {text}" for name, texts in told.items() for text in texts)
        return warning("placement", text, told)
    return ok("placement", "coordinates are spread over the tomograms given", told)


def _sizes(particles: ParticleList, placed: Placed) -> Finding:
    """The list's pixels against the tomograms' voxels, as every command compares them.

    Coordinates in Å do not count in these pixels: there a size that does not fit is a note.
    """
    sizes_A = particles.pixel_size_A if particles.pixel_size_A is not None else np.empty(0)
    scales = {}
    for tomogram, rows in placed:
        here = sizes_A[rows]
        for size_A in np.unique(here[np.isfinite(here)]).tolist():
            scale = scale_of(size_A, tomogram.voxel_size_A, tomogram.shape)
            scales[f"{tomogram.name}: {scale.text}"] = scale
    value = {text: scale.ratio for text, scale in scales.items()}
    remedy = "one of both sizes may be wrong: state the right one (--pixel-size or --voxel-size)"
    wrong = [f"{text}; {s.wrong}" for text, s in scales.items() if s.wrong]
    if wrong and not particles.in_angstrom:
        return problem("tomogram_voxel_size", _some(wrong), value, remedy=remedy)
    if wrong:
        text = f"{_some(wrong)}; but coordinates are in Å and do not count in them"
        return warning("tomogram_voxel_size", text, value)
    doubts = [f"{text}; {s.doubt}" for text, s in scales.items() if s.doubt]
    if doubts:
        return warning("tomogram_voxel_size", _some(doubts), value, remedy=remedy)
    text = _some([*scales]) or "of the tomograms given no pixel size is known"
    return ok("tomogram_voxel_size", text, value)
