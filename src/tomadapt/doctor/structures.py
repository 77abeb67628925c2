"""Structures: mass and size of atomic models, what was mended in them, and maps as templates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tomadapt.doctor.findings import Finding, note, ok, warning, words_of
from tomadapt.errors import TomadaptError
from tomadapt.structures.atoms import bare_name, read_atomic_model
from tomadapt.structures.maps import MAP_SUFFIXES, border_of, map_doubt, read_map, remove_background

_MOST_VOXELS, _LONGEST_SIDE = 2**25, 1.5
# A structure alone in its box stands out from the border so much; of a tomogram both are noise.
_STANDS_OUT = 12.0
_STAND_IN_A = 1.0


def structure_findings(path: Path) -> Iterator[Finding]:
    """What a PDB or mmCIF file holds, as the commands read it.

    Raises
    ------
    InputError
        As :func:`~tomadapt.structures.atoms.read_atomic_model`.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = read_atomic_model(path)
    yield ok("mass", f"{model.mass_kda:.4g} kDa without hydrogens", model.mass_kda)
    extent = " × ".join(f"{length:.0f}" for length in model.extent_A)
    yield ok("extent", f"{extent} Å (x, y, z)", list(model.extent_A))
    count = len(model.masses_da)
    yield ok("atoms", f"{count} atoms without hydrogens and waters", count)
    density = model.density_da_per_A3()
    text = f"{density:.2g} Da/Å³ within 10 Å of an atom"
    if doubt := model.doubt():
        yield note("density", doubt, density, remedy="check that this is the file that was meant")
    else:
        yield ok("density", text, density)
    messages = [str(w.message) for w in told if "may not be what it seems" not in str(w.message)]
    if messages:
        yield warning("told", "; ".join(messages))


def map_findings(path: Path, shape: Sequence[int], voxel_size_A: float | None) -> Iterator[Finding]:
    """Whether a volume could be the map of a structure, where it looks like one.

    Parameters
    ----------
    path
        A file of one volume.
    shape
        Its voxels; what is much longer along one axis, or large, is taken for a tomogram.
    voxel_size_A
        In Å; None where the file does not say it, which is told elsewhere.
    """
    if bare_name(path)[1] not in MAP_SUFFIXES or max(shape) > _LONGEST_SIDE * min(shape):
        return
    if math.prod(shape) > _MOST_VOXELS:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its header says has been told
        try:
            volume, _ = read_map(path, voxel_size_A=_STAND_IN_A if voxel_size_A is None else None)
        except TomadaptError:
            return  # for which values and sizes have their own findings
    outermost = volume[border_of(volume)]
    if np.abs(volume - np.median(outermost)).max() <= _STANDS_OUT * outermost.std():
        return
    try:
        told = map_doubt(volume, remove_background(volume, what=path.name))
    except TomadaptError as error:
        text, remedy = words_of(error)
        text = f"as the map of a structure it would be refused: {text}"
        remedy = f"{remedy or 'give another map'}; of no matter where it is a tomogram"
        yield warning("as_structure", text, "refused", remedy=remedy)
        return
    if told:
        text = f"as the map of a structure it would be doubted: it {told}"
        yield warning("as_structure", text, "doubted", remedy="of no matter where it is a tomogram")
        return
    yield ok("as_structure", "it could be the map of a structure", "usable")
