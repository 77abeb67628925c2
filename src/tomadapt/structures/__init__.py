"""Structures and their densities: the templates that simulated particles are made of.

What may live here: reading atomic models and maps, turning them into densities of a known
resolution on a centred cubic grid, and finding them by name. Nothing here knows of tilt series,
noise, files of particles or networks.
"""

from tomadapt.structures.atoms import AtomicModel, read_atomic_model
from tomadapt.structures.density import required_box, voxelise
from tomadapt.structures.library import (
    BUILTIN,
    BuiltinInfo,
    BuiltinMap,
    Template,
    load_builtin,
    template,
)
from tomadapt.structures.maps import map_template, read_map
from tomadapt.structures.resampling import (
    centre_of_mass,
    radius_A,
    resample,
)

__all__ = [
    "BUILTIN",
    "AtomicModel",
    "BuiltinInfo",
    "BuiltinMap",
    "Template",
    "centre_of_mass",
    "load_builtin",
    "map_template",
    "radius_A",
    "read_atomic_model",
    "read_map",
    "required_box",
    "resample",
    "template",
    "voxelise",
]
