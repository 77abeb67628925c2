"""Extracted particles on disk: cubes, their rows of a STAR file, and where they were cut out.

A folder with ``subtomograms.npy`` (n, d, d, d) float32, density positive; ``particles.star``, a row
for each cube in the same order; ``rejected.star`` with the rows that gave none; and, written last,
``extracted.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomadapt.acquisition import Acquisition
from tomadapt.errors import InputError
from tomadapt.io.atomic import write_json
from tomadapt.io.json_files import json_object

CARD, CUBES = "extracted.json", "subtomograms.npy"
_REMEDY = "delete the folder and extract again"


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
    versions
        Of the programs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = "tomadapt-extracted-1"
    count: int = Field(default=0, ge=0)
    box: int = Field(ge=1)
    voxel_size_A: float = Field(gt=0)
    tomogram: str
    contrast: str
    acquisition: Acquisition | None = None
    smoothing_sigma_A: float = 0.0
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
    content: dict[str, Any] = json_object(
        (folder / CARD).read_text(encoding="utf-8"), what=str(folder / CARD), remedy=_REMEDY
    )
    try:
        card = ExtractedCard.model_validate(content)
        cubes = np.load(folder / CUBES, mmap_mode="r", allow_pickle=False)
    except (ValidationError, OSError, ValueError, EOFError) as error:
        raise InputError(
            f"the extracted particles in {folder} are damaged",
            expected=f"{CARD} and {CUBES} as `tomadapt extract` writes them",
            got=str(error).splitlines()[0],
            remedy=_REMEDY,
        ) from error
    expected = (card.count, card.box, card.box, card.box)
    if cubes.shape != expected or not card.count:
        raise InputError(
            f"the extracted particles in {folder} cannot be used",
            expected=f"{expected[0] or 'some'} cubes of {card.box}³ voxels",
            got=f"shape {cubes.shape}",
            remedy=_REMEDY,
        )
    return cubes, card
