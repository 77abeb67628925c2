"""The parameters that every description of a simulation has, with what they may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Box = Annotated[int, Field(ge=24, le=64)]
"""Side of a cube in voxels."""
VoxelSizeA = Annotated[float, Field(gt=0.5, lt=100)]
"""In Å."""
ResolutionA = Annotated[float, Field(gt=1, lt=200)]
"""In Å: templates are convolved with a Gaussian whose 2σ it is."""
SNR = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""After the CTF, see ``docs/conventions.md``."""
Neighbours = Annotated[int, Field(ge=0, le=12)]
"""Number of other macromolecules that reach into each box."""
MaxShiftFraction = Annotated[float, Field(ge=0, le=0.3)]
"""Largest shift along each axis, as a fraction of the box."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""See :mod:`tomadapt.simulate.randomness`."""
