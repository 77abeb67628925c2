"""Files of simulations: elements by guess, solvent and lipids under force fields' names."""

from __future__ import annotations

import warnings
from pathlib import Path

import gemmi

POLYMER_ELEMENTS = frozenset(("H", "D", "C", "N", "O", "S", "P", "Se"))
FORCE_FIELD_RESIDUES = frozenset(
    [
        "HID",
        "HIE",
        "HIP",
        "HSD",
        "HSE",
        "HSP",
        "CYX",
        "CYM",
        "ASH",
        "GLH",
        "LYN",
        "LYP",
        "ACE",
        "NME",
        "NMA",
        "CT3",
        "ADE",
        "CYT",
        "GUA",
        "THY",
        "URA",
    ]
)
"""What AMBER and CHARMM call residues of polymers."""
SOLVENT = frozenset(
    [
        "SOL",
        "TIP",
        "TIP3",
        "TIP4",
        "TIP5",
        "TP3",
        "TP4",
        "SPC",
        "SPCE",
        "T3P",
        "T4P",
        "WAT",
        "H2O",
        "NA+",
        "CL-",
        "K+",
        "Na+",
        "Cl-",
        "SOD",
        "CLA",
        "POT",
        "CES",
        "CAL",
        "NIO",
        "CIO",
    ]
)
"""What GROMACS, AMBER, CHARMM and NAMD call water and free ions."""
_MOST_ATOMS_OF_WATER = 5  # the PDB's CLA is chlorophyll
LIPIDS = frozenset(
    ["POP", "POPC", "POPE", "POPG", "POPS", "DPP", "DPPC", "DOP", "DOPC", "DMPC", "CHL1"]
)


def clean_simulation(path: Path, model: gemmi.Model) -> None:
    """Mend what files of simulations have: elements by guess, solvent under force fields' names.

    Without a column of elements ``CA`` of alanine reads as calcium and ``HG`` as mercury; a residue
    of a polymer has neither.
    """
    removed = lipids = 0
    for chain in model:
        for index in reversed(range(len(chain))):
            residue = chain[index]
            if residue.name in SOLVENT and len(residue) <= _MOST_ATOMS_OF_WATER:
                del chain[index]
                removed += 1
                continue
            lipids += residue.name in LIPIDS
            known = gemmi.find_tabulated_residue(residue.name)
            polymer = known.is_amino_acid() or known.is_nucleic_acid()
            if not (polymer or residue.name in FORCE_FIELD_RESIDUES):
                continue
            for atom in residue:
                if atom.element.name not in POLYMER_ELEMENTS:
                    atom.element = gemmi.Element(atom.name.lstrip("0123456789'\"*")[:1] or "C")
    if removed:
        warnings.warn(
            f"{path} is of a simulation: {removed} residues of solvent (water, ions) are left out",
            stacklevel=2,
        )
    if lipids:
        warnings.warn(
            f"{path} holds {lipids} lipids: they are part of the density; take them out where the "
            "protein alone is meant",
            stacklevel=2,
        )
