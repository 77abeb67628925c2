"""Atomic models: how large and how heavy the structure is, and what was put right in its file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from tomadapt.doctor.findings import Finding, note, ok
from tomadapt.structures.atoms import read_atomic_model


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
        yield note("told", "; ".join(messages))
