"""Reading atomic models: what a PDB or mmCIF file says, as arrays.

gemmi parses the files. Decompression and the choice of conformer are done here, because gemmi
(0.7.5) does not notice that a gzip file is truncated and clears the marks of the conformers.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.guards import UNREADABLE, is_packed, require_file
from tomadapt.structures.assembly import (
    AssemblyPart,
    assemble,
    mmcif_assemblies,
    pdb_assemblies,
)
from tomadapt.structures.copies import side_by_side
from tomadapt.structures.force_fields import clean_simulation
from tomadapt.structures.pdb_layout import with_right_columns

PDB_SUFFIXES = (".pdb", ".ent")
MMCIF_SUFFIXES = (".cif", ".mmcif")
MODEL_SUFFIXES = PDB_SUFFIXES + MMCIF_SUFFIXES

_CARBON = 6
LIGHT, DENSE = 0.2, 0.9
"""In Da/Å³, without hydrogens: proteins and nucleic acids have 0.44 to 0.59 within 10 Å of an atom
(26 entries of the PDB, the median over their atoms)."""
_AROUND_A, _FEWEST_ATOMS, _SAMPLE = 10.0, 100, 500


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

    @property
    def mass_kda(self) -> float:
        """Mass times occupancy in kDa, without hydrogens."""
        return float(self.masses_da @ self.occupancies) / 1000

    @property
    def extent_A(self) -> tuple[float, float, float]:
        """From the first to the last atom along x, y, z in Å."""
        x, y, z = np.ptp(self.positions_A, axis=0).tolist()
        return x, y, z

    @property
    def text(self) -> str:
        """Atoms, mass and extent, for people."""
        extent = " × ".join(f"{length:.0f}" for length in self.extent_A)
        return f"{len(self.masses_da)} atoms without hydrogens, {self.mass_kda:.4g} kDa, {extent} Å"

    def density_da_per_A3(self) -> float:
        """The mass within 10 Å of an atom over that volume; the median over up to 500 atoms."""
        tree = cKDTree(self.positions_A)
        chosen = np.unique(np.linspace(0, len(self.masses_da) - 1, _SAMPLE).astype(int))
        masses = self.masses_da * self.occupancies
        near = tree.query_ball_point(self.positions_A[chosen], _AROUND_A)
        inside = [masses[rows].sum() for rows in near]
        return float(np.median(inside)) / (4 / 3 * np.pi * _AROUND_A**3)

    def doubt(self) -> str | None:
        """Why mass and volume are not those of a protein or nucleic acid; None where they are."""
        if len(self.masses_da) < _FEWEST_ATOMS:
            return None
        density = self.density_da_per_A3()
        if LIGHT <= density <= DENSE:
            return None
        if density < LIGHT:
            why = "it may be a trace of Cα atoms alone, or have coordinates in another unit than Å"
        else:
            why = "atoms may be there twice, or have coordinates in nm"
        return (
            f"{self.text}: {density:.2g} Da/Å³ within 10 Å of an atom, where proteins and nucleic "
            f"acids have about 0.5; {why}"
        )


def _read(path: Path) -> bytes:
    """The content of a file, decompressed where its name ends in ``.gz``."""
    try:
        require_file(path, "an atomic model")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"atomic model {path} cannot be read", got=error.strerror, remedy="check its mode"
        ) from None
    if not is_packed(path):
        return content
    try:
        return gzip.decompress(content)
    except UNREADABLE as error:
        raise InputError(
            f"atomic model {path} is not a complete gzip file",
            got=str(error),
            remedy="copy or download the file again, or drop '.gz' if it is not compressed",
        ) from None


def bare_name(path: Path) -> tuple[str, str]:
    """Split a file name into its stem and its lower-case suffix, without a trailing ``.gz``."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    inner = Path(name)
    return inner.stem, inner.suffix.lower()


def require_suffix(path: Path, known: Sequence[str]) -> str:
    """The suffix of a file, without a trailing ``.gz``.

    Raises
    ------
    InputError
        When it is none of those known.
    """
    suffix = bare_name(path)[1]
    if suffix not in known:
        raise InputError(
            f"{path} has an unknown file name extension",
            expected=f"{', '.join(known)}, each with or without .gz",
            got=suffix or "none",
            remedy="rename the file after its format, or convert it",
        )
    return suffix


def read_atomic_model(
    path: str | Path, *, assembly: str | None = None, chains: Sequence[str] | None = None
) -> AtomicModel:
    """Read the heavy atoms of a PDB or mmCIF file, as the biological assembly where one is defined.

    Of an ensemble of models the first is used, of copies side by side all are; a warning says so.
    Hydrogens and waters are removed. Of alternate locations the first conformer is kept, with
    occupancy 1, so that no mass is lost. Where mass and volume do not fit a protein or nucleic
    acid, a warning says that, too.

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
    model = AtomicModel(
        name=bare_name(path)[0],
        positions_A=positions,
        masses_da=weights[index],
        occupancies=occupancies[index],
        atomic_numbers=numbers[index],
        b_factors=np.asarray(flat.b_iso, dtype=np.float64)[index],
    )
    if doubt := model.doubt():
        warnings.warn(f"{path} may not be what it seems: {doubt}", stacklevel=2)
    return model


def _strings(field: object) -> NDArray[np.str_]:
    """Turn gemmi's zero-padded character codes (n, 8) into strings (n,)."""
    codes = np.ascontiguousarray(field)
    return codes.view(f"S{codes.shape[1]}")[:, 0].astype(str)


def _parse(path: Path) -> tuple[gemmi.Structure, dict[str, list[AssemblyPart]]]:
    """Parse the file and clean its first model: no hydrogens, no waters. Give its assemblies."""
    suffix = require_suffix(path, MODEL_SUFFIXES)
    content = _read(path)
    try:
        if suffix in PDB_SUFFIXES:
            text = with_right_columns(content).decode("utf-8", errors="replace")
            structure = gemmi.read_pdb_string(text)
            assemblies = pdb_assemblies(structure)
        else:
            block = gemmi.cif.read_string(content.decode("utf-8", errors="replace"))[0]
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
    copies = side_by_side(structure)
    if len(structure) > 1:
        told = (
            f"copies side by side: all {len(structure)} are used"
            if copies
            else "an ensemble, one on top of another: the first is used"
        )
        warnings.warn(f"the models in {path} are {told}", stacklevel=3)
    while len(structure) > 1 and not copies:
        del structure[len(structure) - 1]
    for model in structure:
        clean_simulation(path, model)
    structure.remove_hydrogens()
    structure.remove_waters()
    # A model for each copy is the assembly.
    return structure, {} if copies else assemblies


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
