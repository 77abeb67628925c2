"""Extracted particles on disk: cubes, their rows of a STAR file, and where they were cut out.

A folder with ``subtomograms.npy`` (n, d, d, d) float32, density positive; ``particles.star``, a row
for each cube in the same order, with its number; ``rejected.star`` with the rows that gave none;
and, written last, ``extracted.json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomadapt.acquisition import Acquisition
from tomadapt.errors import InputError
from tomadapt.io.arrays import open_npy
from tomadapt.io.star import read_star, read_text
from tomadapt.runs.atomic import write_json
from tomadapt.runs.json_files import json_object

FORMAT = "tomadapt-extracted-1"
CARD, CUBES = "extracted.json", "subtomograms.npy"
SUBTOMOGRAM, CLASS_NAME = "tomadaptSubtomogram", "tomadaptClassName"
"""Columns of classified particles in a STAR file: which cube of the folder, from 1; the class."""
KIND = "tomadaptKind"
"""What a particle without a class is: noise, a protein that was not named, or a kind of junk."""
IMAGES = "rlnImageName"
BLOCK, CUBES_DIGEST = "tomadapt", "tomadaptCubes"
"""Pairs of a STAR file whose rows have a cube: the digest of the cubes that the numbers mean."""
_REMEDY = "delete the folder and extract again"


def cubes_digest(cubes: Iterable[NDArray[Any]]) -> str:
    """A digest of cubes' voxels in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for cube in cubes:
        digest.update(np.ascontiguousarray(cube).data)
    return digest.hexdigest()


class ExtractedCard(BaseModel):
    """What a folder of extracted particles holds.

    Parameters
    ----------
    count, box, voxel_size_A
        Cubes, their side in voxels, Å.
    tomogram
        Where they were cut out.
    contrast
        How the tomogram's sign was found; the cubes are density positive whatever it was.
    acquisition
        Where it was stated.
    smoothing_sigma_A
        Of the Gaussian they were smoothed with.
    made_with
        The options of the command that made it; empty where another command did, in its own folder.
    versions
        Of the programs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    count: int = Field(default=0, ge=0)
    box: int = Field(ge=1)
    voxel_size_A: float = Field(gt=0, allow_inf_nan=False)
    tomogram: str
    contrast: str
    acquisition: Acquisition | None = None
    smoothing_sigma_A: float = 0.0
    made_with: dict[str, str] = {}
    versions: dict[str, str] = {}


def is_extracted(path: Path) -> bool:
    """Whether a folder holds extracted particles."""
    return (path / CARD).is_file()


def write_card(folder: Path, card: ExtractedCard) -> None:
    """Write the card, which marks the folder as whole.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    write_json(folder / CARD, card.model_dump(mode="json"))


def read_card(folder: Path) -> ExtractedCard:
    """What a folder of extracted particles says of itself.

    Raises
    ------
    InputError
        When it is damaged, or of another version.
    """
    text = read_text(folder / CARD, kind=f"file {CARD} as `tomadapt extract` writes it")
    content: dict[str, Any] = json_object(text, what=str(folder / CARD), remedy=_REMEDY)
    if content.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"{folder} has another format",
            expected=FORMAT,
            got=content.get("format"),
            remedy="extract it again with this version of tomadapt",
        )
    try:
        return ExtractedCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{folder / CARD} is damaged",
            expected=f"{CARD} as `tomadapt extract` writes it",
            got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy=_REMEDY,
        ) from error


def read_extracted(folder: Path) -> tuple[NDArray[np.float32], ExtractedCard]:
    """Open a folder of extracted particles.

    Returns
    -------
    cubes
        (n, d, d, d) float32, a memory map.
    card
        What they are.

    Raises
    ------
    InputError
        When it is damaged, or empty.
    """
    card = read_card(folder)
    cubes = open_npy(folder / CUBES)
    expected = (card.count, card.box, card.box, card.box)
    if cubes.shape != expected or not card.count:
        raise InputError(
            f"the extracted particles in {folder} cannot be used",
            expected=f"{expected[0] or 'some'} cubes of {card.box}³ voxels",
            got=f"shape {cubes.shape}",
            remedy=_REMEDY,
        )
    return cubes, card


def image_names(folder: Path, count: int) -> tuple[str, ...]:
    """The stacks of tilt images that cubes were made of, by which labels know them; else none.

    Raises
    ------
    InputError
        When the folder's list has another number of rows than it has cubes.
    """
    path = folder / "particles.star"
    if not path.is_file():
        return ()
    table = next((t for t in read_star(path).tables if SUBTOMOGRAM in t), None)
    if table is None or IMAGES not in table:
        return ()
    named = dict(zip(table.column(SUBTOMOGRAM), table.column(IMAGES), strict=True))
    wanted = [str(number + 1) for number in range(count)]
    if sorted(named) != sorted(wanted):
        raise InputError(
            f"{path} does not belong to the cubes beside it",
            expected=f"{SUBTOMOGRAM} from 1 to {count}",
            got=f"{len(named)} numbers",
            remedy=_REMEDY,
        )
    return tuple(named[number] for number in wanted)
