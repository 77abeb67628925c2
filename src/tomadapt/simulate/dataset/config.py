"""What a simulated set is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, field_validator

from tomadapt.acquisition import NAMED_ACQUISITIONS, Acquisition, WithLaterFields
from tomadapt.simulate.bounds import (
    SNR,
    Box,
    MaxShiftFraction,
    Neighbours,
    ResolutionA,
    Seed,
    VoxelSizeA,
)
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.structures.lookup import with_voxel_size


class SimulationConfig(WithLaterFields):
    """What to simulate.

    Parameters
    ----------
    classes
        Label → structure (a built-in name, a PDB ID, or the path of a model or map); a list when
        labels and structures have the same names. ``null`` has no structure.
    folder
        A local folder where PDB IDs are looked up first.
    acquisition
        A named acquisition or a table of its parameters.
    per_class
        Particles of each class.
    snr
        The SNR at which the set is read unless another is asked for.
    seed
        See :mod:`tomadapt.simulate.randomness`.
    box, voxel_size_A, resolution_A
        Side in voxels; Å; Å (Gaussian with 2σ = resolution).
    max_shift_fraction
        Largest shift along each axis, as a fraction of the box.
    weighting
        ``mass`` or ``electron``: what an atom counts as; see :func:`tomadapt.structures.voxelise`.
    neighbours
        How many other macromolecules, drawn from the classes, reach into each box.
    even_noise
        Noise as strong near the box's faces as in its middle, as in a cube cut out of a tomogram.
        Without it sets are what direct Fourier inversion of a box gives, and so is Table 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str]
    folder: Path | None = None
    acquisition: Acquisition
    per_class: Annotated[int, Field(gt=0, le=1_000_000)]
    snr: SNR
    seed: Seed = 0
    box: Box = 40
    voxel_size_A: VoxelSizeA = 9.2
    resolution_A: ResolutionA = 9.2
    max_shift_fraction: MaxShiftFraction = 0.1
    weighting: Literal["mass", "electron"] = "mass"
    neighbours: Neighbours = 0
    even_noise: bool = False

    later_fields: ClassVar[frozenset[str]] = frozenset({"neighbours", "even_noise"})

    @field_validator("classes", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            labels = [label_of(str(v)) for v in value]
            repeated = sorted(label for label, n in Counter(labels).items() if n > 1)
            if repeated:
                raise ValueError(f"each class once; repeated: {', '.join(repeated)}")
            return dict(zip(labels, map(str, value), strict=True))
        return value

    @field_validator("classes")
    @classmethod
    def _some_structure(cls, value: dict[str, str]) -> dict[str, str]:
        if not [label for label in value if label != NULL_CLASS]:
            raise ValueError("at least one class with a structure is needed besides null")
        return value

    @field_validator("acquisition", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in NAMED_ACQUISITIONS:
                raise ValueError(
                    f"unknown acquisition {value!r}; named ones: {', '.join(NAMED_ACQUISITIONS)} "
                    "(or give a table with defocus_um, …)"
                )
            return NAMED_ACQUISITIONS[value]
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """What a set's voxels depend on: all but the SNR they are read at.

        Fields that older sets did not have are left out at their defaults: such a set is the same.
        """
        return self.model_dump(mode="json", exclude={"snr"})

    @property
    def n_particles(self) -> int:
        """Particles of all classes."""
        return self.per_class * len(self.classes)

    @property
    def stored_bytes(self) -> int:
        """Size of the set's voxels on disk: signal and noise, in half precision."""
        return self.n_particles * 2 * np.dtype(np.float16).itemsize * self.box**3


def label_of(structure: str) -> str:
    """`models/1bxn.pdb.gz` → `1bxn`; names and PDB IDs stay what they are."""
    name = Path(with_voxel_size(structure)[0]).name
    for suffix in (".gz", ".pdb", ".ent", ".cif", ".mmcif", ".mrc", ".map", ".ccp4", ".em"):
        name = name.removesuffix(suffix)
    return name
