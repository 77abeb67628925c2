"""Files of simulations: elements by guess, solvent and lipids under force fields' names."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import gemmi

from tomadapt.errors import InputError

POLYMER_ELEMENTS = frozenset(("H", "D", "C", "N", "O", "S", "P", "Se"))
_RESIDUE_NAMES = (
    "HID HIE HIP HSD HSE HSP CYX CYM ASH GLH LYN LYP ACE NME NMA CT3 ADE CYT GUA THY URA"
)
FORCE_FIELD_RESIDUES = frozenset(_RESIDUE_NAMES.split())
"""What AMBER and CHARMM call residues of polymers."""
_SOLVENT_NAMES = (
    "SOL TIP TIP3 TIP4 TIP5 TP3 TP4 SPC SPCE T3P T4P WAT H2O NA+ CL- K+ Na+ Cl- SOD CLA POT CES "
    "CAL NIO CIO"
)
SOLVENT = frozenset(_SOLVENT_NAMES.split())
"""What GROMACS, AMBER, CHARMM and NAMD call water and free ions."""
_MOST_ATOMS_OF_WATER = 5  # the PDB's CLA is chlorophyll
BACKBONE_BEADS = (
    frozenset(["BB"]),
    frozenset(["BB1", "BB2", "BB3"]),
    frozenset(["GN", "GC", "GO"]),
)
"""Beads that stand for the backbone of a residue in Martini (proteins, nucleic acids) and SIRAH."""
SOLVENT_BEADS = frozenset(["W", "WF", "WN", "SW", "TW", "PW", "WT4", "ION"])
"""What Martini and SIRAH call beads of water and ions; the PDB's W is a tungsten ion."""
_FEW_IONS = 20
_LEAST_OF_ION = 11  # sodium
_MUCH_OF_MASS = 0.1
LIPIDS = frozenset(
    ["POP", "POPC", "POPE", "POPG", "POPS", "DPP", "DPPC", "DOP", "DOPC", "DMPC", "CHL1"]
)


def clean_simulation(path: Path, model: gemmi.Model) -> None:
    """Mend what files of simulations have: elements by guess, solvent under force fields' names.

    Without a column of elements ``CA`` of alanine reads as calcium and ``HG`` as mercury; a residue
    of a polymer has neither. Nor is a bead of water named ``W`` tungsten.

    Raises
    ------
    InputError
        When residues are made of the beads of a coarse-grained force field.
    """
    _refuse_beads(path, model)
    removed = _without_solvent_beads(model)
    lipids = 0
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
    _question_ions(path, model)
    if lipids:
        warnings.warn(
            f"{path} holds {lipids} lipids: they are part of the density; take them out where the "
            "protein alone is meant",
            stacklevel=2,
        )


def _refuse_beads(path: Path, model: gemmi.Model) -> None:
    count, shown = 0, ""
    for chain in model:
        for residue in chain:
            if len(residue) > 12:  # an atomic residue; sets of names take time
                continue
            names = {atom.name for atom in residue}
            if any(beads <= names for beads in BACKBONE_BEADS):
                count += 1
                shown = shown or f"{residue.name} {residue.seqid} of {', '.join(sorted(names))}"
    if count:
        raise InputError(
            f"{path} is of a coarse-grained simulation",
            expected="atoms, whose masses are known",
            got=f"{count} residues of beads that stand for several atoms each, such as {shown}",
            remedy="turn it back into atoms (as CG2AT or backward do), or give the atomic model "
            "that it was made of",
        )


def _without_solvent_beads(model: gemmi.Model) -> int:
    """Take out water and ions that are single beads; how many there were.

    A few single atoms named W may be what they say: tungsten of a crystal.
    """

    def is_bead(residue: gemmi.Residue) -> bool:
        return residue.name in SOLVENT_BEADS and len(residue) <= _MOST_ATOMS_OF_WATER

    tungsten = sum(residue.name == "W" and is_bead(residue) for chain in model for residue in chain)
    removed = 0
    for chain in model:
        for index in reversed(range(len(chain))):
            if is_bead(chain[index]) and (chain[index].name != "W" or tungsten > _FEW_IONS):
                del chain[index]
                removed += 1
    return removed


def _question_ions(path: Path, model: gemmi.Model) -> None:
    """Tell of single atoms of heavy elements that make much of the mass: solvent, or a guess."""
    found: Counter[str] = Counter()
    mass = 0.0
    for chain in model:
        for residue in chain:
            if len(residue) == 1 and residue[0].element.atomic_number >= _LEAST_OF_ION:
                found[f"{residue.name} ({residue[0].element.name})"] += 1
                mass += residue[0].element.weight * residue[0].occ
    many = found.total() > _FEW_IONS and mass > _MUCH_OF_MASS * model.calculate_mass()
    if many or any(name.split()[0] in SOLVENT_BEADS for name in found):
        named = ", ".join(f"{count} of {name}" for name, count in found.most_common(3))
        warnings.warn(
            f"{path} holds single atoms of heavy elements that are "
            f"{mass / model.calculate_mass():.0%} of its mass: {named}; take them out if they are "
            "ions in solution, or beads whose element was guessed from their name",
            stacklevel=2,
        )
