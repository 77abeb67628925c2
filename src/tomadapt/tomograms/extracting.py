"""Particles of a tomogram cut out into a folder, with a row for each and for those left out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.inputs.filling import filling_note
from tomadapt.inputs.particles import Contrast
from tomadapt.io.extracted import (
    CARD,
    CUBES,
    ExtractedCard,
    cubes_digest,
    is_extracted,
    read_card,
    write_card,
)
from tomadapt.io.guards import require_file
from tomadapt.runs.atomic import output_folder
from tomadapt.runs.own_folder import CONTENT, require_same
from tomadapt.runs.versions import versions
from tomadapt.tomograms.extraction import extract
from tomadapt.tomograms.positions import POSITIONS, Positions, write_positions
from tomadapt.tomograms.relion_stacks import particle_files
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction, reconstruct_tilt_stacks


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
    MismatchError
        When it holds an extraction with other options.
    OutputError
        As for :func:`~tomadapt.tomograms.extraction.extract`.
    """
    output_folder(folder, needed_bytes=4 * len(positions.rows) * card.box**3)
    require_extraction(folder, card.made_with)
    staged = folder / f"new_{CUBES}"
    try:
        extraction = extract(
            tomogram,
            positions.coordinates_A,
            box=card.box,
            voxel_size_A=card.voxel_size_A,
            border=border,
            smoothing_sigma_A=card.smoothing_sigma_A,
            out=staged,
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
        kept = replace(kept, cubes=cubes_digest(extraction.volumes))
        exchange(folder, staged, kept, card)
    finally:
        staged.unlink(missing_ok=True)
    return kept, extraction.volumes


def made_with(
    files: Mapping[str, Path | None], *, positions: Positions | None = None, **options: object
) -> dict[str, str]:
    """What an extraction is told from others by: options, and what its lists hold.

    Parameters
    ----------
    files
        Name → a list that decides which particles are cut out. Its content counts, not its path.
    positions
        The particles as read: a list may lead to further files.
    options
        Those that are not None count. Paths count with their folders.

    Raises
    ------
    InputError
        When a list cannot be read.
    """
    found = {f"{name}{CONTENT}": _digest(path) for name, path in files.items() if path is not None}
    if positions is not None:
        read = hashlib.sha256(positions.coordinates_A.tobytes())
        read.update(json.dumps(positions.particles.tomograms).encode())
        found[f"positions{CONTENT}"] = read.hexdigest()[:16]
    for name, value in options.items():
        if value is not None:
            found[name] = str(value.resolve() if isinstance(value, Path) else value)
    return found


def _digest(path: Path) -> str:
    require_file(path, "a list of particles or tomograms")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(f"cannot read {path}", got=str(error), remedy="check the path") from error


def require_extraction(folder: Path, wanted: Mapping[str, str]) -> None:
    """Refuse a folder with lists that are of no extraction, or with another extraction.

    Parameters
    ----------
    folder
        Where an extraction would go.
    wanted
        As :func:`made_with` gives it; empty for the folder that ``classify`` keeps its cubes in.

    Raises
    ------
    ConfigError
        When such a list is there: it would be overwritten.
    MismatchError
        When an extraction with other options is there.
    InputError
        When its card is damaged.
    """
    if is_extracted(folder):
        found = read_card(folder).made_with
        if bool(found) != bool(wanted):
            raise MismatchError(
                f"{folder} holds an extraction that another command or an earlier version made",
                expected="an empty folder, or an extraction by the same command",
                got="one that does not say with which options it was made"
                if wanted
                else "one that was made with extract or reconstruct",
                remedy="choose another --out or delete that folder",
            )
        require_same(folder, found, wanted, what="extraction")
        return
    # One that was interrupted has its cubes, and no card yet.
    if (folder / CUBES).exists():
        return
    for name in POSITIONS:
        if (folder / name).exists():
            raise ConfigError(
                f"{folder} holds a {name} that is of no extraction",
                expected="an empty folder, or one of an earlier extraction",
                got="a list that would be overwritten",
                remedy="choose another --out",
            )


def exchange(folder: Path, staged: Path, positions: Positions, card: ExtractedCard) -> None:
    """Put new cubes in the place of an earlier extraction, which stays until this succeeds.

    Parameters
    ----------
    folder
        Where they go.
    staged
        The file of the new cubes, in the folder.
    positions
        Whose rows are those of the cubes.
    card
        What they are; count and versions are filled in here.
    """
    filled = {"count": len(positions.rows), "versions": versions()}
    # Whatever can fail is done before the earlier extraction is touched; then files only move.
    with TemporaryDirectory(prefix="new_", dir=folder) as beside:
        written = Path(beside)
        write_positions(written, positions)
        write_card(written, card.model_copy(update=filled))
        # Without its card a folder is no extraction: nothing of two is ever taken for one.
        (folder / CARD).unlink(missing_ok=True)
        staged.replace(folder / CUBES)
        for name in (*POSITIONS, CARD):
            (written / name).replace(folder / name)


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
    rows, series = particle_files(particles, tomograms)
    made = made_with(
        {"particles": rows, "tomograms": series}, contrast=contrast, box=box, mirror=mirror
    )
    require_extraction(output_folder(folder), made)
    staged = folder / f"new_{CUBES}"
    try:
        cubes = reconstruct_tilt_stacks(
            particles,
            tomograms=tomograms,
            contrast=contrast,
            box=box,
            mirror=mirror,
            out=staged,
        )
        card = ExtractedCard(
            box=cubes.volumes.shape[-1],
            voxel_size_A=cubes.voxel_size_A,
            made_with=made,
            tomogram=str(particles),
            contrast=f"stated {contrast}" if contrast != "measure" else "measured: positive",
        )
        digest = cubes_digest(cubes.volumes)
        positions = Positions(cubes.particles, cubes.kept, cubes.dropped, cubes=digest)
        exchange(folder, staged, positions, card)
    finally:
        staged.unlink(missing_ok=True)
    return cubes
