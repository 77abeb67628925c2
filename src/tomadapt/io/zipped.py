"""Zip archives that people give as they were downloaded: what is in them, and how to unpack it."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path, PurePosixPath

from tomadapt.errors import InputError
from tomadapt.io.zarr_chunks import METADATA

_SHOWN = 3


def zipped_fault(path: Path) -> InputError | None:
    """Why a zip archive cannot be read, with the command that unpacks it; None where it is none.

    Archives of NumPy arrays (``.npz``) are none of these.
    """
    try:
        if not (path.is_file() and zipfile.is_zipfile(path)):
            return None
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError):
        return None
    stores = sorted({n.parent for n in names if n.name in METADATA}, key=lambda p: len(p.parts))
    if not stores:
        if any(name.suffix == ".npy" for name in names) or not names:
            return None
        return InputError(
            f"{path} is a zip archive",
            expected="the file or folder itself",
            got=", ".join(map(str, names[:_SHOWN])) + (" …" if len(names) > _SHOWN else ""),
            remedy=f"unpack it: unzip {shlex.quote(str(path))}",
        )
    place = path.parent
    if stores[0] == PurePosixPath("."):  # the store itself, without its folder
        bare = path.name[:-4] if path.suffix.lower() == ".zip" else path.name
        place /= bare if bare.endswith(".zarr") else f"{bare}.zarr"
    return InputError(
        f"{path} is an OME-Zarr store packed as a zip archive",
        expected="the folder of the store",
        got="a file",
        remedy=f"unpack it: unzip {shlex.quote(str(path))} -d {shlex.quote(str(place))}, and give "
        f"{place / stores[0]}",
    )
