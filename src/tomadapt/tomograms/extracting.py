"""Particles of a tomogram cut out into a folder, with a row for each and for those left out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.atomic import output_folder
from tomadapt.io.extracted import CARD, CUBES, ExtractedCard, is_extracted, write_card
from tomadapt.io.volumes import Contrast
from tomadapt.simulate.dataset import versions
from tomadapt.tomograms.extraction import extract
from tomadapt.tomograms.filling import filling_note
from tomadapt.tomograms.positions import POSITIONS, Positions, write_positions
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction, reconstruct_tilt_stacks
from tomadapt.tomograms.tomogram import Tomogram


def extract_to_folder(
    tomogram: Tomogram,
    positions: Positions,
    folder: Path,
    card: ExtractedCard,
    *,
    border: Literal["pad", "drop"],
    fewest: int = 1,
) -> tuple[Positions, NDArray[np.float32]]:
    """Cut particles out of a tomogram and write them as :mod:`tomadapt.io.extracted` says.

    Parameters
    ----------
    tomogram, positions
        Where they are; the tomogram's sign is honoured.
    folder
        Where they go.
    card
        Box, voxel size and smoothing of the cubes, and where they come from; the count is filled
        in here.
    border
        See :func:`~tomadapt.tomograms.extraction.extract`.
    fewest
        So many particles are needed.

    Returns
    -------
    kept
        The positions without those that gave no cube.
    volumes
        (n, d, d, d) float32, density positive, in the order of ``kept.rows``; a memory map.

    Raises
    ------
    InputError
        When there are too few particles.
    ConfigError
        When the folder holds lists of particles that were not written here, which may be the user's
        only ones; or as for :func:`~tomadapt.tomograms.extraction.extract`.
    OutputError
        As for :func:`~tomadapt.tomograms.extraction.extract`.
    """
    output_folder(folder, needed_bytes=4 * len(positions.rows) * card.box**3)
    make_way(folder)
    try:
        extraction = extract(
            tomogram,
            positions.coordinates_A,
            box=card.box,
            voxel_size_A=card.voxel_size_A,
            border=border,
            smoothing_sigma_A=card.smoothing_sigma_A,
            out=folder / CUBES,
        )
        kept = positions.without(extraction.dropped)
        if told := filling_note(card.tomogram, extraction.filled):
            warnings.warn(told, stacklevel=2)
        if len(kept.rows) < fewest:
            reasons = sorted(set(kept.rejected.values()))
            raise InputError(
                f"too few particles in {card.tomogram}",
                expected=f"at least {fewest}",
                got=f"{len(kept.rows)} of {len(positions.particles)}"
                + (f" (the others: {'; '.join(reasons[:3])})" if reasons else ""),
                remedy="lower the picking threshold, give a longer list, or pad boxes that reach "
                "out (--border pad)",
            )
        write_folder(folder, kept, card)
    except BaseException:
        for name in (CUBES, *POSITIONS):
            (folder / name).unlink(missing_ok=True)  # of no use without each other
        raise
    return kept, extraction.volumes


def make_way(folder: Path) -> None:
    """Take an earlier extraction away, until the new one is whole; refuse what is none.

    Raises
    ------
    ConfigError
        When a list of particles is there that is of no extraction: it would be overwritten.
    """
    # One that was interrupted has its cubes, and no card yet.
    if is_extracted(folder) or (folder / CUBES).exists():
        for name in (*POSITIONS, CARD):
            (folder / name).unlink(missing_ok=True)
    for name in POSITIONS:
        if (folder / name).exists():
            raise ConfigError(
                f"{folder} holds a {name} that is of no extraction",
                expected="an empty folder, or one of an earlier extraction",
                got="a list that would be overwritten",
                remedy="choose another --out",
            )


def write_folder(folder: Path, positions: Positions, card: ExtractedCard) -> None:
    """Write the lists and, last, the card of a folder that has its cubes.

    Parameters
    ----------
    folder
        With the cubes.
    positions
        Whose rows are those of the cubes.
    card
        What they are; count and versions are filled in here.
    """
    write_positions(folder, positions)
    filled = {"count": len(positions.rows), "versions": versions()}
    write_card(folder, card.model_copy(update=filled))


def reconstruct_to_folder(
    particles: Path,
    folder: Path,
    *,
    tomograms: Path | None = None,
    contrast: Contrast,
    box: int | None = None,
    mirror: bool = False,
) -> TiltStackExtraction:
    """Make cubes of 2D tilt stacks and write them as :mod:`tomadapt.io.extracted` says.

    Parameters
    ----------
    particles, tomograms, contrast, box, mirror
        See :func:`~tomadapt.tomograms.tilt_stacks.reconstruct_tilt_stacks`, also for what is
        raised.
    folder
        Where they go.
    """
    make_way(output_folder(folder))
    made = reconstruct_tilt_stacks(
        particles,
        tomograms=tomograms,
        contrast=contrast,
        box=box,
        mirror=mirror,
        out=folder / CUBES,
    )
    card = ExtractedCard(
        box=made.volumes.shape[-1],
        voxel_size_A=made.voxel_size_A,
        tomogram=str(particles),
        contrast=f"stated {contrast}" if contrast != "measure" else "measured: positive",
    )
    write_folder(folder, Positions(made.particles, made.kept, made.dropped), card)
    return made
