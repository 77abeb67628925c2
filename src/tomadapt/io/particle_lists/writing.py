"""Particles with results as STAR files: the input's own with columns added, or a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.errors import ConfigError
from tomadapt.io.extracted import BLOCK, CUBES_DIGEST
from tomadapt.io.particle_lists.columns import (
    Columns,
    checked_rows,
    column_texts,
    not_encodable,
    value_text,
)
from tomadapt.io.particle_lists.model import Doubles, ParticleList, relion_angles_deg
from tomadapt.io.particle_lists.relion import ANGLES, PIXELS
from tomadapt.io.particle_lists.tomogram_sizes import TILT_SERIES
from tomadapt.io.star import StarDocument, loop_of, write_star_document


def write_star(
    path: Path | str,
    particles: ParticleList,
    *,
    columns: Columns | None = None,
    rows: Sequence[int] | None = None,
    cubes: str = "",
) -> None:
    """Write particles as a STAR file.

    Where they came from a STAR file it is written again, every byte of it as it was but for the
    columns given and, with ``rows``, the rows left out. Otherwise a new one is made, as RELION 4
    has it: with coordinates in pixels of the tilt series, from the corner.

    Parameters
    ----------
    columns
        Label (without underscore) to one value for *each* particle of the list. A column that the
        file has is exchanged in its place, others are added at the end.
    rows
        Which particles, in which order; all of them when None.
    cubes
        Digest of the cubes that ``tomadaptSubtomogram`` numbers; it goes into a block of its own.

    Raises
    ------
    ConfigError
        When a column does not fit, or a new file lacks a tomogram's name or the pixel size.
    OutputError
        When the file cannot be written.
    """
    texts = column_texts(columns)
    if particles.document is not None and particles.table is not None:
        document, table = particles.document, particles.table
    else:
        document = _new_document(particles)
        table = document.tables[-1]
    edited = table.with_columns(texts) if texts else table
    if rows is not None:
        edited = edited.take(checked_rows(rows, len(particles)))
    written = document.replaced(table, edited)
    if cubes:
        written = written.with_pairs(BLOCK, {CUBES_DIGEST: cubes})
    try:
        write_star_document(path, written)
    except UnicodeEncodeError as error:
        raise not_encodable(path, error) from error


def _new_document(particles: ParticleList) -> StarDocument:
    """Optics and particles; the optics say no more than is known, the pixel size."""
    sizes_A = particles.pixel_size_A
    if sizes_A is None or not (np.isfinite(sizes_A) & (sizes_A > 0)).all():
        raise _lacks("the pixel size of the tilt series", "it in Å")
    if not all(particles.tomograms):
        raise _lacks("the name of a tomogram", "a name for each particle")
    groups, group_of = np.unique(sizes_A, return_inverse=True)
    columns: dict[str, Sequence[str]] = {"rlnTomoName": particles.tomograms}
    columns |= _triple(PIXELS, particles.coordinates_A / sizes_A[:, None])
    if particles.rotations is not None:
        columns |= _triple(ANGLES, relion_angles_deg(particles.rotations))
    columns["rlnOpticsGroup"] = [str(group + 1) for group in group_of]
    if particles.classes is not None:
        columns["tomadaptInputClass"] = particles.classes
    if particles.scores is not None:
        columns["tomadaptInputScore"] = [value_text(score) for score in particles.scores]
    columns |= particles.extra_columns
    numbers = range(1, len(groups) + 1)
    optics: dict[str, Sequence[str]] = {
        "rlnOpticsGroup": [str(n) for n in numbers],
        "rlnOpticsGroupName": [f"opticsGroup{n}" for n in numbers],
        TILT_SERIES: [value_text(float(size)) for size in groups],
    }
    start = ("# written by tomadapt", "", "data_optics", "", loop_of("optics", optics), "")
    return StarDocument((*start, "data_particles", "", loop_of("particles", columns)))


def _lacks(what: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{what} is needed for a new STAR file",
        expected=expected,
        got="none",
        remedy="state it when the particles are read",
    )


def _triple(labels: Sequence[str], values: Doubles) -> dict[str, Sequence[str]]:
    return {
        label: [f"{value:.6f}" for value in column]
        for label, column in zip(labels, values.T, strict=True)
    }
