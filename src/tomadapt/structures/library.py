"""Templates by name: built-in structures, files, and entries of the PDB."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError
from tomadapt.structures.atoms import MODEL_SUFFIXES, bare_name, read_atomic_model
from tomadapt.structures.density import Weighting, resolution_sigma_A, voxelise
from tomadapt.structures.lookup import find_structure, with_voxel_size
from tomadapt.structures.maps import map_template
from tomadapt.structures.resampling import Array, radius_A, require_box, resample


@dataclass(frozen=True)
class BuiltinInfo:
    """What a built-in structure is and where it came from."""

    pdb_id: str
    description: str
    licence: str = "CC0-1.0"


BUILTIN: dict[str, BuiltinInfo] = {
    "ribosome_70s": BuiltinInfo("4V5D", "T. thermophilus 70S ribosome with mRNA and three tRNAs"),
    "ribosome_50s": BuiltinInfo("4V5D", "large subunit of the T. thermophilus 70S ribosome"),
    "ribosome_30s": BuiltinInfo("4V5D", "small subunit of the T. thermophilus 70S ribosome"),
    "ribosome_80s": BuiltinInfo("6ZU5", "80S ribosome of Paranosema locustae"),
    "tric": BuiltinInfo("4V8R", "S. cerevisiae chaperonin TRiC/CCT, 16-mer"),
    "apoferritin": BuiltinInfo("4V1W", "horse spleen apoferritin, 24-mer"),
    "spliceosome": BuiltinInfo("3JB9", "S. pombe spliceosome"),
}


@dataclass(frozen=True)
class BuiltinMap:
    """A stored low-resolution mass density.

    Parameters
    ----------
    density
        Density (n, n, n), z, y, x, n odd, non-negative, maximum 1, centred on its mass.
    voxel_size_A, resolution_A
        Voxel size and resolution (2σ) in Å of what is stored.
    extent_A
        Half-width in Å of the centred cube that a box must hold.
    """

    density: NDArray[np.float32]
    voxel_size_A: float
    resolution_A: float
    extent_A: float


@dataclass(frozen=True)
class Template:
    """The density of one structure, ready to be rotated and imaged.

    Parameters
    ----------
    name
        Name of the structure.
    density
        Density (box, box, box), z, y, x, centred on its mass at ``box // 2``, scaled to maximum 1.
        Where the resolution is under about two voxels it has ripples of a few percent below zero.
    voxel_size_A, resolution_A
        Voxel size and resolution (2σ of the Gaussian) in Å.
    source
        Where it came from, for people.
    radius_A
        Radius in Å about the centre that holds 99 % of the positive mass.
    """

    name: str
    density: NDArray[np.float32]
    voxel_size_A: float
    resolution_A: float
    source: str
    radius_A: float


def load_builtin(name: str) -> BuiltinMap:
    """Load a built-in structure as it is stored.

    Parameters
    ----------
    name
        A key of ``BUILTIN``.

    Returns
    -------
    BuiltinMap

    Raises
    ------
    ConfigError
        There is no such structure.
    InputError
        The installation lacks the file.
    """
    if name not in BUILTIN:
        raise _unknown(name)
    stored = resources.files("tomadapt.structures") / "data" / f"{name}.npz"
    try:
        with np.load(io.BytesIO(stored.read_bytes())) as content:
            density = content["density"].astype(np.float32) / np.float32(255)
            voxel, resolution, extent = (float(v) for v in content["voxel_resolution_extent_A"])
    except OSError as error:
        raise InputError(
            f"the built-in structure {name} cannot be read",
            got=str(error),
            remedy="install tomadapt again",
        ) from None
    return BuiltinMap(density, voxel, resolution, extent)


def template(
    spec: str | Path,
    *,
    voxel_size_A: float,
    box: int,
    resolution_A: float,
    folder: Path | None = None,
    weighting: Weighting = "mass",
    assembly: str | None = None,
) -> Template:
    """Make the template that a name, a file or a PDB ID stands for.

    Parameters
    ----------
    spec
        One of, tried in this order: a built-in name; a path to a model or a map, of which
        ``map.mrc@8.1A`` states the voxel size; a PDB ID
        (``1bxn`` or ``pdb_00001bxn``) or any other file name without its suffix, looked up in
        ``folder``. A PDB ID is then looked up in the cache (``TOMADAPT_CACHE``, default
        ``~/.cache/tomadapt``) and at last downloaded into it from files.rcsb.org.
    voxel_size_A, box
        Voxel size in Å and box edge in voxels.
    resolution_A
        Resolution in Å (2σ). A built-in cannot be finer than what is stored; a map is blurred by
        this on top of the resolution it has.
    folder
        A folder of models and maps such as ``1bxn.pdb.gz``; upper and lower case are one.
    weighting
        For atomic models, see ``voxelise``. Built-ins are weighted by mass.
    assembly
        For atomic models, see ``read_atomic_model``.

    Returns
    -------
    Template

    Raises
    ------
    ConfigError
        The name is unknown, the box too small, or the resolution too fine for a built-in.
    InputError
        A file cannot be used.
    OfflineError
        A PDB entry is needed that is not here and could not be downloaded.
    """
    grid = {"voxel_size_A": voxel_size_A, "resolution_A": resolution_A}
    if str(spec) in BUILTIN:
        name = str(spec)
        if weighting != "mass":
            raise ConfigError(
                f"built-in structure {name} with weighting {weighting}",
                expected="weighting 'mass': built-ins are stored so",
                remedy=f"give PDB ID {BUILTIN[name].pdb_id} or a model file instead of the name",
            )
        density: Array = _from_builtin(name, box=box, **grid)
        source = f"built-in, PDB {BUILTIN[name].pdb_id} ({BUILTIN[name].licence})"
    else:
        spec, stated_A = with_voxel_size(spec)
        path = find_structure(spec, folder)
        if path is None:
            raise _unknown(str(spec), folder)
        name = bare_name(path)[0]
        if stated_A is not None and bare_name(path)[1] in MODEL_SUFFIXES:
            raise ConfigError(
                f"{path} has atoms, and no voxels of {stated_A:g} Å",
                expected="a voxel size after a map's name",
                remedy=f"leave out @{stated_A:g}A",
            )
        if bare_name(path)[1] in MODEL_SUFFIXES:
            model = read_atomic_model(path, assembly=assembly)
            density = voxelise(model, box=box, weighting=weighting, **grid)
            source = f"atomic model {path}, {weighting}-weighted, {model.text}"
        else:
            density = map_template(path, box=box, map_voxel_size_A=stated_A, **grid)
            source = f"map {path}" + (f", stated voxels of {stated_A:g} Å" if stated_A else "")
    density = (density / density.max()).astype(np.float32)
    return Template(
        name, density, voxel_size_A, resolution_A, source, radius_A(density, voxel_size_A)
    )


def _from_builtin(name: str, *, voxel_size_A: float, box: int, resolution_A: float) -> Array:
    """Blur and resample a built-in: what its own blur lacks is added in quadrature."""
    stored = load_builtin(name)
    require_box(name, stored.extent_A, voxel_size_A, box)
    if not resolution_A >= stored.resolution_A:
        raise ConfigError(
            f"resolution of the built-in structure {name}",
            expected=f"at least {stored.resolution_A:g} Å, as stored",
            got=f"{resolution_A:g} Å",
            remedy=f"give PDB ID {BUILTIN[name].pdb_id} or a model file instead of the name",
        )
    have, want = resolution_sigma_A(stored.resolution_A), resolution_sigma_A(resolution_A)
    return resample(
        stored.density,
        stored.voxel_size_A,
        to_voxel_size_A=voxel_size_A,
        box=box,
        blur_sigma_A=(want**2 - have**2) ** 0.5,
    )


def _unknown(name: str, folder: Path | None = None) -> ConfigError:
    return ConfigError(
        f"unknown structure {name!r}",
        expected=f"a built-in name ({', '.join(BUILTIN)}), a PDB ID, a file"
        + (f", or the stem of a file in {folder}" if folder else ""),
        remedy="correct the name",
    )
