"""The structures of the paper's experiments, and what stands in for each that is not at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tomadapt.errors import ConfigError, InputError
from tomadapt.structures.lookup import find_local


@dataclass(frozen=True)
class Complex:
    """A structure of the paper.

    Attributes
    ----------
    pdb_id
        The paper's PDB entry.
    stand_in
        The name of the file used where that entry is not at hand; for most only the number of
        classes is kept.
    """

    pdb_id: str
    stand_in: str


TWENTY_TWO = (
    Complex("1kp8", "1mnf"),  # GroEL
    Complex("3dy4", "3j9i"),  # 20S proteasomes
    Complex("1fnt", "6utj"),  # 20S proteasomes with regulators
    Complex("2awb", "4v4r_50S"),  # large ribosomal subunits
    Complex("1lb3", "4v1w"),  # apoferritins
    Complex("1a1s", "3cf3"),
    Complex("1bxr", "1bxn"),
    Complex("1eqr", "2cg9"),
    Complex("1f1b", "4v7r"),
    Complex("1gyt", "5mrc"),
    Complex("1qo1", "4cr2"),
    Complex("1vpx", "2uv8"),
    Complex("1vrg", "1qvr"),
    Complex("1w6t", "3d2f"),
    Complex("1yg6", "3ipm"),
    Complex("2bo9", "3h84"),
    Complex("2byu", "3gl1"),
    Complex("2gho", "1f4a"),
    Complex("2gls", "4v94"),
    Complex("2h12", "1s3x"),
    Complex("2idb", "3qm1"),
    Complex("2rec", "1u6g"),
)
"""The 22 complexes of Lin et al. 2019; see ``docs/experiments.md``."""

EXPERIMENTAL_FOLDERS = frozenset({"S_e1", "S_e2", "S_e3"})
"""Where a user's real volumes lie, which are targets and must not become templates."""


def structure_file(entry: Complex, data: Path) -> tuple[str, str] | None:
    """Name and path of what is used for a complex: the paper's entry, else its stand-in."""
    for name in (entry.pdb_id, entry.stand_in):
        path = find_local(name, data, without=EXPERIMENTAL_FOLDERS)
        if path is not None:
            return name, str(path.resolve())
    return None


def structure_files(complexes: Iterable[Complex], data: Path | None) -> list[tuple[str, str]]:
    """Find a file for each complex; nothing is downloaded.

    Parameters
    ----------
    complexes
        What is needed.
    data
        A folder; it and its direct subfolders are searched.

    Returns
    -------
    list of tuple
        Name (the PDB ID or stand-in) and path, in the complexes' order.

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
    wanted = list(complexes)
    found = [structure_file(entry, data) for entry in wanted]
    missing = [
        f"{entry.pdb_id} (or its stand-in {entry.stand_in})"
        for entry, file in zip(wanted, found, strict=True)
        if file is None
    ]
    if missing:
        raise InputError(
            f"{data} lacks structures",
            expected="a model or map of every complex, such as 1kp8.cif.gz",
            got=f"none of {', '.join(missing)}",
            remedy="download these entries from the PDB into that folder",
        )
    return [file for file in found if file is not None]
