"""Biological assemblies: which atoms are copied, and by which operators.

gemmi's ``make_assembly`` (0.7.5) is not used: it refuses an assembly that names a chain without
atoms (all water, say), and on arrays the copies of a virus capsid take milliseconds. Nor is its
reading of the records alone: it drops the continuation lines of chain lists in old-style
``REMARK 350`` records, mmCIF assemblies whose ``details`` it does not know, and operators without
a ``type``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError

# Rotation (3, 3) and translation (3,) in Å, acting on column vectors x, y, z.
_Operator = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class AssemblyPart:
    """Chains of an assembly, and the operators that copy them."""

    chains: frozenset[str]  # author names (PDB files)
    subchains: frozenset[str]  # label_asym_id (mmCIF files)
    operators: tuple[_Operator, ...]


def assemble(
    path: Path,
    defined: dict[str, list[AssemblyPart]],
    assembly: str | None,
    atoms: tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_], NDArray[np.bool_]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Copy atoms by the operators of an assembly.

    Parameters
    ----------
    path
        The file, for messages.
    defined
        The assemblies it defines, first one first.
    assembly
        The assembly asked for; None for the first, or the deposited atoms if there is none.
    atoms
        Positions (n, 3) in Å, author chains (n,), label chains (n,) and which atoms to use (n,).

    Returns
    -------
    The indices (m,) of the atoms copied and the positions (m, 3) of the copies in Å.

    Raises
    ------
    ConfigError
        The assembly is not defined.
    InputError
        The assembly holds no atoms.
    """
    positions, author, label, keep = atoms
    known = list(defined)
    if assembly is not None and assembly not in ("deposited", *known):
        raise ConfigError(
            f"{path} defines no biological assembly {assembly!r}",
            expected=f"one of {', '.join([*known, 'deposited'])}",
            got=assembly,
            remedy="name one of these, or leave the assembly out for the first",
        )
    if assembly == "deposited" or not known:
        chosen = np.flatnonzero(keep)
        return chosen, positions[chosen]
    indices, copies = [], []
    for part in defined[assembly or known[0]]:
        # Chains without atoms (waters, say) are simply not there.
        member = np.isin(author, list(part.chains)) | np.isin(label, list(part.subchains))
        chosen = np.flatnonzero(keep & member)
        for rotation, translation in part.operators:
            indices.append(chosen)
            copies.append(positions[chosen] @ rotation.T + translation)
    if not sum(map(len, indices)):
        raise InputError(
            f"{path}: its biological assembly {assembly or known[0]!r} selects no atoms",
            expected="chains and operators of which at least one has atoms",
            remedy="set assembly to 'deposited' or another of " + ", ".join(known),
        )
    return np.concatenate(indices), np.concatenate(copies)


def pdb_assemblies(structure: gemmi.Structure) -> dict[str, list[AssemblyPart]]:
    """Collect the assemblies of a PDB file, by name."""
    lists = _remark_350_chains(structure.raw_remarks)
    flat = [generator for a in structure.assemblies for generator in a.generators]
    # Without a one-to-one correspondence gemmi's reading stands.
    extra = lists if len(lists) == len(flat) else [frozenset[str]()] * len(flat)
    defined: dict[str, list[AssemblyPart]] = {}
    number = 0
    for assembly in structure.assemblies:
        defined[assembly.name] = []
        for generator in assembly.generators:
            operators = tuple(
                (np.array(op.transform.mat.tolist()), np.array(op.transform.vec.tolist()))
                for op in generator.operators
            )
            chains = frozenset(generator.chains) | extra[number]
            defined[assembly.name].append(AssemblyPart(chains, frozenset(), operators))
            number += 1
    return defined


def mmcif_assemblies(block: gemmi.cif.Block) -> dict[str, list[AssemblyPart]]:
    """Collect the assemblies of an mmCIF file, by name.

    Raises
    ------
    ValueError
        An operator is missing or is not made of numbers.
    """
    elements = [f"matrix[{row}][{column}]" for row in (1, 2, 3) for column in (1, 2, 3)]
    elements += [f"vector[{row}]" for row in (1, 2, 3)]
    operators = {}
    for row in block.find("_pdbx_struct_oper_list.", ["id", *elements]):
        values = np.array([gemmi.cif.as_number(row[i + 1]) for i in range(12)])
        if not np.isfinite(values).all():
            raise ValueError(f"assembly operator {row.str(0)} is not made of numbers")
        operators[row.str(0)] = (values[:9].reshape(3, 3), values[9:])
    defined: dict[str, list[AssemblyPart]] = {}
    tags = ["assembly_id", "oper_expression", "asym_id_list"]
    for row in block.find("_pdbx_struct_assembly_gen.", tags):
        subchains = frozenset(name.strip() for name in row.str(2).split(","))
        copies = _expand(row.str(1), operators)
        defined.setdefault(row.str(0), []).append(AssemblyPart(frozenset(), subchains, copies))
    return defined


def _expand(expression: str, operators: dict[str, _Operator]) -> tuple[_Operator, ...]:
    """Expand an operator expression such as ``1,2``, ``(1-60)`` or ``(X0)(1-5,8)``.

    Of several brackets each takes its turn, the last acting on the atoms first.
    """
    copies = [(np.eye(3), np.zeros(3))]
    for bracket in re.findall(r"[^()]+", expression):
        names: list[str] = []
        for item in bracket.replace(" ", "").split(","):
            bounds = re.fullmatch(r"(\d+)-(\d+)", item)
            names += (
                [str(n) for n in range(int(bounds[1]), int(bounds[2]) + 1)] if bounds else [item]
            )
        missing = [name for name in names if name not in operators]
        if missing:
            raise ValueError(f"assembly operator {missing[0]!r} is not defined")
        copies = [
            (rotation @ operators[n][0], rotation @ operators[n][1] + translation)
            for rotation, translation in copies
            for n in names
        ]
    return tuple(copies)


def _remark_350_chains(remarks: Sequence[str]) -> list[frozenset[str]]:
    """Read the chain lists of REMARK 350, old style included.

    Before remediation a list was continued on lines without ``AND CHAINS:``, which gemmi skips
    (1mnf would lose 5 of its 14 subunits).
    """
    lists: list[set[str]] = []
    within = False
    for line in remarks:
        if not line.startswith("REMARK 350"):
            continue
        text = line[10:].strip()
        if text.startswith("APPLY THE FOLLOWING TO CHAINS:"):
            lists.append(set())
            within = True
        elif "BIOMT" in text or not text:
            within = False
        if within:
            names = text.split(":", 1)[-1].split(",")
            lists[-1] |= {"" if n.strip() == "NULL" else n.strip() for n in names if n.strip()}
    return [frozenset(names) for names in lists]
