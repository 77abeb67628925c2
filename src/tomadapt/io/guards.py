"""What every reader asks of a file first: that it is one, and that its sizes are plausible."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.unpacking import DEFLATE_RATIO
from tomadapt.runs.atomic import output_error

SMALL_BYTES = 2**26
"""So few bytes fit into any memory, whatever they were unpacked from."""
LARGEST_RATIO = 1000
"""Density is mostly noise: no compression makes it a thousandth."""
_MOST_VOXELS = 2**36
_LARGEST_CHUNK_BYTES = 2**29
_PIECE_BYTES = 2**22

UNREADABLE = (OSError, EOFError, zlib.error, ValueError)
"""What reading a damaged file raises, packed or not."""


def require_file(path: Path, expected: str) -> None:
    """Refuse what is no regular file: a pipe or a device may never end.

    Raises
    ------
    InputError
        Saying whether anything is there.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is no file" if path.exists() else f"{path} does not exist",
            expected=expected,
            remedy="check the path",
        )


def require_extra(package: str, path: Path) -> Any:
    """Import a package that only some formats need.

    Raises
    ------
    ConfigError
        When it is not installed; ``path`` is what needs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(
            f"{path} needs the package {package}",
            expected="the extra 'formats'",
            got="not installed",
            remedy="pip install 'tomadapt[formats]'",
        ) from None


def size_fault(voxels: int, chunk_bytes: int) -> str:
    """Why an array is larger than any that is recorded, or nothing."""
    if voxels <= _MOST_VOXELS and chunk_bytes <= _LARGEST_CHUNK_BYTES:
        return ""
    return f"{voxels} voxels in chunks of {chunk_bytes} bytes, which is implausible"


def ratio_fault(announced_bytes: int, stored_bytes: int) -> str:
    """Why so many bytes cannot come of those that are stored, or nothing."""
    if announced_bytes <= max(LARGEST_RATIO * stored_bytes, SMALL_BYTES):
        return ""
    return f"{announced_bytes} bytes unpacked from {stored_bytes}, which is implausible"


def is_packed(path: Path) -> bool:
    """Whether a file is packed with gzip, by its name."""
    return path.suffix.lower() == ".gz"


def header_bytes(
    path: Path, count: int, expected: str, damaged: Callable[[Path, str], InputError]
) -> bytes:
    """The first bytes of a file, unpacked.

    Raises
    ------
    InputError
        It is no regular file, cannot be read, or is shorter.
    """
    try:
        require_file(path, expected)
        with gzip.open(path) if is_packed(path) else path.open("rb") as file:
            start = bytes(file.read(count))
    except UNREADABLE as error:
        raise damaged(path, str(error)) from None
    if len(start) < count:
        raise damaged(path, f"{len(start)} bytes, less than a header of {count}")
    return start


@contextlib.contextmanager
def plain_file(
    path: Path, announced_bytes: int, damaged: Callable[[Path, str], InputError], *, spare: int = 0
) -> Iterator[tuple[IO[bytes], int]]:
    """A file open for reading, unpacked into a nameless temporary one, and how long it is.

    Parameters
    ----------
    path
        The file.
    announced_bytes
        The length that its header announces, unpacked. Where a packed file cannot hold so much it
        is not unpacked, and the length given is 0.
    damaged
        The error for a file whose packing is damaged.
    spare
        How much longer it may be. It is unpacked one byte further: that tells that it is too long.

    Raises
    ------
    InputError
        Its packing is damaged.
    OutputError
        There is no room in the folder for temporary files.
    """
    if not is_packed(path):
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with tempfile.TemporaryFile() as unpacked:
        held = 0
        if announced_bytes <= DEFLATE_RATIO * path.stat().st_size:
            try:
                held = _unpack(path, unpacked, announced_bytes + spare + 1)
            except UNREADABLE as error:
                raise damaged(path, str(error)) from None
        yield unpacked, held


def _unpack(path: Path, into: IO[bytes], at_most: int) -> int:
    """Unpack a file, no further than so many bytes; how many there were."""
    held = 0
    with gzip.open(path) as packed:
        while piece := packed.read(min(_PIECE_BYTES, at_most - held)):
            held += len(piece)
            try:
                into.write(piece)
                into.flush()
            except OSError as error:
                raise output_error(tempfile.gettempdir(), error) from error
    return held
