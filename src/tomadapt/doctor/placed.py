"""What extract and classify say of a list's places in tomograms, and of the density there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor.findings import Finding, ok, problem, warning, words_of
from tomadapt.errors import TomadaptError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.tomograms.contrast import ContrastMeasure, unlike_particles
from tomadapt.tomograms.listed import FEW, clearest, measured_at, placed, radii_of_any_A, too_few
from tomadapt.tomograms.places import CHECK
from tomadapt.tomograms.positions import Positions


@dataclass(frozen=True)
class KnownTomogram:
    """A tomogram that was given with a list.

    Attributes
    ----------
    name
        As lists should call it.
    shape
        Voxels along z, y, x.
    voxel_size_A
        In Å, NaN where its file does not know it.
    path
        The whole path of its file.
    """

    name: str
    shape: tuple[int, int, int]
    voxel_size_A: float
    path: str = ""


def placed_findings(
    path: Path,
    tomograms: Sequence[KnownTomogram],
    tomogram_list: Path | None,
    said: Sequence[Finding],
) -> Iterator[Finding]:
    """Read a list for each tomogram as the commands do; the particles' size is not known here.

    Parameters
    ----------
    path
        The list.
    tomograms
        Those that have particles in it, of known voxel size.
    tomogram_list
        RELION's STAR file of tomograms.
    said
        What has been found of the list already, and is not repeated.
    """
    used: dict[str, int] = {}
    told: list[str] = []
    refused: dict[str, tuple[str, str]] = {}
    densities: dict[str, tuple[Positions, ContrastMeasure]] = {}
    tried: set[float] = set()
    for tomogram in tomograms:
        name, radii_A = tomogram.name, radii_of_any_A(tomogram.voxel_size_A)
        tried |= set(radii_A)
        try:
            opened = _opened(tomogram)
            positions = placed(
                path,
                opened,
                radii_A=radii_A,
                tomograms=tomogram_list,
            )
            measured = clearest(measured_at(opened, positions, radii_A))
        except TomadaptError as error:
            refused[name] = words_of(error)
            continue
        used[name] = len(positions.rows)
        new = [n for n in positions.notes if not any(n in finding.text for finding in said)]
        told += [f"in {name}, {note}" for note in new]
        densities[name] = positions, measured
    known = "; ".join(finding.text for finding in said if finding.level == "problem")
    new_refusals = {n: words for n, words in refused.items() if words[0] not in known}
    if new_refusals and not (known and len(refused) == len(tomograms)):
        text = "; ".join(f"in {name}, {words[0]}" for name, words in new_refusals.items())
        remedy = next((words[1] for words in new_refusals.values() if words[1]), "check the list")
        yield problem("refused_positions", text, sorted(new_refusals), remedy=remedy)
    if told:
        yield warning("positions", "; ".join(told), used)
    elif used:
        text = ", ".join(f"{n} in {name}" for name, n in used.items())
        yield ok("positions", f"the commands take {text}", used)
    if densities:
        yield _density(densities, sorted(tried))


def _opened(known: KnownTomogram) -> Tomogram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tomogram's own findings name what opening warns of
        return open_tomogram(known.path, contrast="positive", voxel_size_A=known.voxel_size_A)


def _density(
    found: dict[str, tuple[Positions, ContrastMeasure]], radii_A: Sequence[float]
) -> Finding:
    """Whether particles are at the places listed."""
    texts, doubts = [], []
    for name, (positions, measured) in found.items():
        texts.append(f"in {name}, {measured.text}")
        if not measured.sign and len(positions.rows) < FEW:
            doubts.append(f"in {name}, {too_few(len(positions.rows))}")
        elif not measured.sign:
            doubts.append(f"in {name}, {unlike_particles(measured)}")
        doubts += [f"in {name}, {text}" for text in measured.doubts]
    value = {name: measured.strength for name, (_, measured) in found.items()}
    if not doubts:
        return ok("density", "; ".join(texts), value)
    tried = ", ".join(f"{radius_A:g}" for radius_A in radii_A)
    text = f"{'; '.join(doubts)} (for particles with radii of about {tried} Å)"
    remedy = f"{CHECK}; where they are right and faint, state --contrast"
    return warning("density", text, value, remedy=remedy)
