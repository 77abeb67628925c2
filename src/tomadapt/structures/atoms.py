"""Reading atomic models: what a PDB or mmCIF file says, as arrays.

gemmi parses the files. Decompression and the choice of conformer are done here, because gemmi
(0.7.5) does not notice that a gzip file is truncated and clears the marks of the conformers.
"""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError
from tomadapt.structures.assembly import (
    AssemblyPart,
    assemble,
    mmcif_assemblies,
    pdb_assemblies,
)

PDB_SUFFIXES = (".pdb", ".ent")
MMCIF_SUFFIXES = (".cif", ".mmcif")
MODEL_SUFFIXES = PDB_SUFFIXES + MMCIF_SUFFIXES

# An atom record whose coordinate columns (31-54) hold anything but numbers: gemmi reads 0 there.
_BAD_PDB_COORDINATES = re.compile(rb"^(?:ATOM  |HETATM).{24}(?![ +\-0-9.]{24})[^\n]*", re.MULTILINE)
_CARBON = 6
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


@dataclass(frozen=True)
class AtomicModel:
    """Heavy atoms of one structure, after hydrogens and waters were removed.

    Parameters
    ----------
    name
        File name without its suffixes.
    positions_A
        Positions (n, 3), x, y, z, in Å.
    masses_da
        Atomic masses (n,) in dalton, not multiplied by the occupancy.
    occupancies
        Occupancies (n,), usually 1.
    atomic_numbers
        Atomic numbers (n,); an unknown element counts as carbon, in the mass too.
    b_factors
        Isotropic B factors (n,) in Å². No density made here uses them.
    """

    name: str
    positions_A: NDArray[np.float64]
    masses_da: NDArray[np.float64]
    occupancies: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    b_factors: NDArray[np.float64]

    @property
    def centre_of_mass_A(self) -> NDArray[np.float64]:
        """Centre of mass (3,), x, y, z, in Å, weighted by mass times occupancy."""
        weights = self.masses_da * self.occupancies
        return np.asarray(weights @ self.positions_A / weights.sum())


def read_bytes(path: Path, *, what: str) -> bytes:
    """Read a file, decompressing it when its name ends in ``.gz``.

    Parameters
    ----------
    path
        The file.
    what
        What the file should be, for messages.

    Returns
    -------
    The content.

    Raises
    ------
    InputError
        The file is missing, unreadable, not gzip although so named, or truncated.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{what} {path} does not exist", expected="a file", remedy="check the path"
        ) from None
    except OSError as error:
        raise InputError(
            f"{what} {path} cannot be read",
            got=error.strerror,
            remedy="check its mode",
        ) from None
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{what} {path} is not a complete gzip file",
            got=str(error),
            remedy="copy or download the file again, or drop '.gz' if it is not compressed",
        ) from None


def bare_name(path: Path) -> tuple[str, str]:
    """Split a file name into its stem and its lower-case suffix, without a trailing ``.gz``."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    inner = Path(name)
    return inner.stem, inner.suffix.lower()


def read_atomic_model(
    path: str | Path, *, assembly: str | None = None, chains: Sequence[str] | None = None
) -> AtomicModel:
    """Read the heavy atoms of a PDB or mmCIF file, as the biological assembly where one is defined.

    The first model of the file is used. Hydrogens and waters are removed. Of alternate locations
    the first conformer is kept, with occupancy 1, so that no mass is lost.

    Parameters
    ----------
    path
        A ``.pdb``, ``.ent``, ``.cif`` or ``.mmcif`` file, or one of these with ``.gz``.
    assembly
        None: the first assembly if the file defines one, else the deposited coordinates.
        ``"deposited"``: the deposited coordinates. Any other value names an assembly.
    chains
        Author names of the chains to keep; all when None.

    Returns
    -------
    AtomicModel
        With at least one atom and a positive mass.

    Raises
    ------
    InputError
        The file is missing, damaged, of another kind, without atoms, or with bad coordinates.
    ConfigError
        The assembly or a chain does not exist in the file.
    """
    path = Path(path)
    structure, assemblies = _parse(path)
    flat = gemmi.FlatStructure(structure)
    author = _strings(flat.chain_ids)
    keep = np.ones(len(author), dtype=bool)
    if chains is not None:
        missing = sorted(set(chains) - set(author.tolist()))
        if missing:
            raise ConfigError(
                f"{path} has no chain {', '.join(missing)}",
                expected=f"chains out of {', '.join(sorted(set(author.tolist())))}",
                remedy="correct the list of chains",
            )
        keep = np.isin(author, list(chains))
    keep &= _first_conformer(flat)
    occupancies = np.array(flat.occ, dtype=np.float64)
    # The conformer that stays stands for all of them.
    occupancies[np.asarray(flat.altlocs) != 0] = 1.0
    numbers = np.array(flat.elements, dtype=np.int64)
    weights = np.array(flat.element_weights, dtype=np.float64)
    weights[numbers == 0] = gemmi.Element("C").weight
    numbers[numbers == 0] = _CARBON

    deposited = np.asarray(flat.pos, dtype=np.float64)
    if not np.isfinite(deposited[keep]).all():
        raise InputError(
            f"{path} holds atoms with non-finite coordinates",
            expected="finite x, y, z in Å",
            got=f"{int((~np.isfinite(deposited[keep])).any(axis=1).sum())} such atoms",
            remedy="remove these atoms from the file or repair it",
        )
    index, positions = assemble(
        path, assemblies, assembly, (deposited, author, _strings(flat.subchains), keep)
    )
    if not (weights[index] * occupancies[index]).sum() > 0:
        raise InputError(
            f"{path} holds no atoms that count" if not len(index) else f"{path} has no mass",
            expected="atoms other than hydrogens and waters, of positive occupancy",
            got=f"{len(index)} atoms, total occupancy {occupancies[index].sum():g}",
            remedy="give a file with ATOM records (a map belongs in an MRC file)",
        )
    return AtomicModel(
        name=bare_name(path)[0],
        positions_A=positions,
        masses_da=weights[index],
        occupancies=occupancies[index],
        atomic_numbers=numbers[index],
        b_factors=np.asarray(flat.b_iso, dtype=np.float64)[index],
    )


def _strings(field: object) -> NDArray[np.str_]:
    """Turn gemmi's zero-padded character codes (n, 8) into strings (n,)."""
    codes = np.ascontiguousarray(field)
    return codes.view(f"S{codes.shape[1]}")[:, 0].astype(str)


def _parse(path: Path) -> tuple[gemmi.Structure, dict[str, list[AssemblyPart]]]:
    """Parse the file and clean its first model: no hydrogens, no waters. Give its assemblies."""
    suffix = bare_name(path)[1]
    if suffix not in MODEL_SUFFIXES:
        raise InputError(
            f"{path} has an unknown file name extension",
            expected=f"{', '.join(MODEL_SUFFIXES)}, each with or without .gz",
            got=suffix or "none",
            remedy="rename the file after its format, or convert it",
        )
    content = read_bytes(path, what="atomic model")
    text = content.decode("utf-8", errors="replace")
    try:
        if suffix in PDB_SUFFIXES:
            bad = _BAD_PDB_COORDINATES.search(content)
            if bad is not None:
                raise ValueError(f"coordinates are not numbers: {bad[0][:60].decode('latin-1')!r}")
            structure = gemmi.read_pdb_string(text)
            assemblies = pdb_assemblies(structure)
        else:
            block = gemmi.cif.read_string(text)[0]
            structure = gemmi.make_structure_from_block(block)
            assemblies = mmcif_assemblies(block)
    except (ValueError, RuntimeError, IndexError) as error:
        raise InputError(
            f"{path} cannot be read as {'PDB' if suffix in PDB_SUFFIXES else 'mmCIF'}",
            got=str(error) or "no data block",
            remedy="check that the content matches the extension and is complete",
        ) from None
    structure.setup_entities()
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(
            f"{path} holds no atoms",
            expected="an atomic model with ATOM records or an _atom_site loop",
            remedy="check that this is the file that was meant",
        )
    while len(structure) > 1:
        del structure[len(structure) - 1]
    _clean_simulation(path, structure[0])
    structure.remove_hydrogens()
    structure.remove_waters()
    return structure, assemblies


def _clean_simulation(path: Path, model: gemmi.Model) -> None:
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


def _first_conformer(flat: gemmi.FlatStructure) -> NDArray[np.bool_]:
    """Mark (n,) the atoms without alternate location, and those of each residue's first one.

    Residues of different type at one place in the chain (microheterogeneity) are alternates too.
    gemmi's own function is not used: it clears the marks, after which a half-occupied conformer
    cannot be told from a half-occupied atom.
    """
    marks = np.asarray(flat.altlocs).astype(np.int64)
    if not marks.any():
        return np.ones(len(marks), dtype=bool)
    place = np.column_stack(
        [np.asarray(flat.chain_ids), np.asarray(flat.resnums), np.asarray(flat.icodes)]
    )
    residue = np.unique(place, axis=0, return_inverse=True)[1].ravel()
    first = np.full(int(residue.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, residue[marks != 0], marks[marks != 0])
    return np.asarray((marks == 0) | (marks == first[residue]))
