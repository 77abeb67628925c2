"""The structures of the paper's experiments, and what stands in for each that is not at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tomadapt.errors import ConfigError, InputError
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.structures.lookup import find_local


@dataclass(frozen=True)
class Complex:
    """A structure of the paper.

    Attributes
    ----------
    pdb_id
        The paper's PDB entry.
    stand_in
        The name of the file used where that entry is not at hand.
    likeness
        How the two are related: ``same``, ``similar``, or ``none`` (only the number of classes is
        kept).
    """

    pdb_id: str
    stand_in: str
    likeness: str


TWENTY_TWO = (
    Complex("1kp8", "1mnf", "same"),  # GroEL
    Complex("3dy4", "3j9i", "similar"),  # 20S proteasomes
    Complex("1fnt", "6utj", "similar"),  # 20S proteasomes with regulators
    Complex("2awb", "4v4r_50S", "similar"),  # large ribosomal subunits
    Complex("1lb3", "4v1w", "similar"),  # apoferritins
    Complex("1a1s", "3cf3", "none"),
    Complex("1bxr", "1bxn", "none"),
    Complex("1eqr", "2cg9", "none"),
    Complex("1f1b", "4v7r", "none"),
    Complex("1gyt", "5mrc", "none"),
    Complex("1qo1", "4cr2", "none"),
    Complex("1vpx", "2uv8", "none"),
    Complex("1vrg", "1qvr", "none"),
    Complex("1w6t", "3d2f", "none"),
    Complex("1yg6", "3ipm", "none"),
    Complex("2bo9", "3h84", "none"),
    Complex("2byu", "3gl1", "none"),
    Complex("2gho", "1f4a", "none"),
    Complex("2gls", "4v94", "none"),
    Complex("2h12", "1s3x", "none"),
    Complex("2idb", "3qm1", "none"),
    Complex("2rec", "1u6g", "none"),
)
"""The 22 complexes of Lin et al. 2019 (from its supplement, see ``docs/experiments.md``)."""


def structure_files(complexes: Iterable[Complex], data: Path | None) -> dict[str, str]:
    """Find a file for each complex: the paper's entry where it is at hand, else its stand-in.

    Parameters
    ----------
    complexes
        What is needed.
    data
        A folder; it and its direct subfolders are searched, and nothing is downloaded.

    Returns
    -------
    dict
        Class label (the PDB ID or name of what is used) → path, in the complexes' order.

    Raises
    ------
    ConfigError
        When no folder is given or it does not exist.
    InputError
        When for some complexes there is neither; all of them are named.
    """
    if data is None or not data.is_dir():
        raise ConfigError(
            "this scale needs a folder of structures",
            expected="--data FOLDER",
            got="none" if data is None else f"{data}, which is no folder",
            remedy="name a folder with the PDB files, or choose --scale smoke",
        )
    found: dict[str, str] = {}
    missing = []
    for entry in complexes:
        for name in (entry.pdb_id, entry.stand_in):
            path = find_local(name, data)
            if path is not None:
                found[name] = str(path.resolve())
                break
        else:
            missing.append(f"{entry.pdb_id} (or its stand-in {entry.stand_in})")
    if missing:
        raise InputError(
            f"{data} lacks structures",
            expected="a model or map of every complex, such as 1kp8.cif.gz",
            got=f"none of {', '.join(missing)}",
            remedy="download these entries from the PDB into that folder",
        )
    return found


def with_null(classes: dict[str, str]) -> dict[str, str]:
    """The classes and NULL."""
    return {**classes, NULL_CLASS: NULL_CLASS}
