"""Finding structure files: in a folder, in the cache, in the PDB."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from tomadapt.errors import ConfigError, InputError, OfflineError, OutputError
from tomadapt.structures.atoms import MODEL_SUFFIXES, bare_name
from tomadapt.structures.maps import MAP_SUFFIXES

# Models before maps, because a model gives any resolution.
_LOOKED_UP = [
    suffix + packed
    for suffix in (".cif", ".mmcif", ".pdb", ".ent", *MAP_SUFFIXES)
    for packed in (".gz", "")
]
_PDB_ID = re.compile(r"(?:pdb_[0-9a-z]{4})?([0-9][0-9a-z]{3})", re.IGNORECASE)
_STATED_VOXEL = re.compile(r"(.+)@([0-9.]+) ?(?:A|Å|Angstroms?)?")
_TIMEOUT_S = 30.0
_DOWNLOAD = "https://files.rcsb.org/download/{}.cif.gz"


def with_voxel_size(spec: str | Path) -> tuple[str | Path, float | None]:
    """Part what stands for a structure from the voxel size that may be stated of its map.

    ``map.mrc@8.1A`` is the map whose voxels are 8.1 Å, whatever its header says. A file of just
    that name is itself.

    Raises
    ------
    ConfigError
        When what follows the ``@`` is no size.
    """
    match = _STATED_VOXEL.fullmatch(str(spec))
    if match is None or Path(spec).is_file():
        return spec, None
    try:
        size_A = float(match[2])
    except ValueError:
        size_A = 0.0
    if not 0.1 <= size_A <= 1000:
        raise ConfigError(
            f"the voxel size in {spec}",
            expected="0.1 to 1000 Å, as in map.mrc@8.1A",
            got=match[2],
            remedy="correct it",
        )
    return match[1], size_A


def find_structure(spec: str | Path, folder: Path | None) -> Path | None:
    """Find the file that a path, a stem or a PDB ID stands for, downloading it at last.

    Parameters
    ----------
    spec
        A path, a PDB ID, or a file name with or without its suffix.
    folder
        Where to look for names and IDs first, if anywhere.

    Returns
    -------
    The file, or None if the name means nothing.

    Raises
    ------
    ConfigError
        The folder does not exist, or the PDB has no such entry.
    InputError
        A name that can only be a file's is not there.
    OfflineError, OutputError
        The entry cannot be downloaded, or not be kept.
    """
    path = Path(spec)
    if path.is_file():
        return path
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            f"no structure folder {folder}",
            expected="a folder",
            got="a file" if folder.exists() else "nothing there",
            remedy="correct the path or make the folder",
        )
    if folder is not None and not path.is_absolute() and (folder / path).is_file():
        return folder / path
    text = str(spec)
    match = _PDB_ID.fullmatch(text)
    stems = _stems(text)
    for place in [folder] if match is None else [folder, cache_folder()]:
        found = _look_up(stems, place)
        if found is not None:
            return found
    if match is not None:
        return _download(stems[0])
    if isinstance(spec, Path) or bare_name(path)[1] in (*MODEL_SUFFIXES, *MAP_SUFFIXES):
        raise InputError(
            f"structure file {path} does not exist",
            expected="an atomic model or a map" + (f", here or in {folder}" if folder else ""),
            remedy="check the path",
        )
    return None


def find_local(name: str, folder: Path, *, without: frozenset[str] = frozenset()) -> Path | None:
    """Find a structure file by PDB ID or stem in a folder or its direct subfolders; no download.

    Parameters
    ----------
    name
        A PDB ID, or a file name with or without its suffix.
    folder
        Where to look first.
    without
        Names of subfolders that are not looked into.

    Returns
    -------
    The file, or None.
    """
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in without)
    for place in [folder, *subfolders]:
        found = _look_up(_stems(name), place)
        if found is not None:
            return found
    return None


def _stems(name: str) -> list[str]:
    """Give the stems that files of this name or PDB ID may have."""
    match = _PDB_ID.fullmatch(name)
    if match is None:
        return [name]
    short = match[1].lower()
    # The long form of a short ID, and the name of a file from the PDB's FTP archive.
    old = not name.lower().startswith("pdb_") or name.lower().startswith("pdb_0000")
    return [short, f"pdb_0000{short}", f"pdb{short}"] if old else [name.lower()]


def _look_up(stems: list[str], folder: Path | None) -> Path | None:
    """Find a file of one of these stems (or of this very name) in a folder, in any case."""
    if folder is None or not folder.is_dir():
        return None
    present = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    for stem in stems:
        for suffix in (*_LOOKED_UP, ""):
            found = present.get(f"{stem}{suffix}".lower())
            if found is not None and bare_name(found)[1] in (*MODEL_SUFFIXES, *MAP_SUFFIXES):
                return found
    return None


def cache_folder() -> Path:
    """Give the folder of what is kept between runs (``TOMADAPT_CACHE``); it need not exist."""
    named = os.environ.get("TOMADAPT_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "tomadapt"


def _download(pdb_id: str) -> Path:
    """Download the mmCIF file of a PDB entry into the cache, whole or not at all."""
    url = _DOWNLOAD.format(pdb_id)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            content = answer.read()
        gzip.decompress(content)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise ConfigError(
                f"the PDB has no entry {pdb_id}",
                expected="a PDB ID or the name of a built-in structure",
                got=f"404 from {url}",
                remedy="check the ID",
            ) from None
        raise _offline(pdb_id, url, error) from None
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise _offline(pdb_id, url, error) from None
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
            partial.write(content)
        target = folder / f"{pdb_id}.cif.gz"
        Path(partial.name).replace(target)
    except OSError as error:
        raise OutputError(
            f"cache folder {folder} cannot be written",
            got=error.strerror,
            remedy="set TOMADAPT_CACHE to a folder that can",
        ) from None
    return target


def _offline(pdb_id: str, url: str, error: Exception) -> OfflineError:
    return OfflineError(
        f"PDB entry {pdb_id} could not be downloaded",
        expected=f"an answer from {url}",
        got=str(getattr(error, "reason", error)) or type(error).__name__,
        remedy=f"put the file ({pdb_id}.cif.gz or {pdb_id}.pdb.gz) into a local folder and name "
        "that folder, or use a built-in structure",
    )
