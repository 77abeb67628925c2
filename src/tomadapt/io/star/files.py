"""STAR files and other texts of bounded size, read, and STAR files written."""

from __future__ import annotations

import stat
from pathlib import Path

from tomadapt.errors import InputError
from tomadapt.io.star.parsing import parse_star
from tomadapt.io.star.tables import StarDocument
from tomadapt.runs.atomic import atomic_path

MAX_BYTES = 150_000_000
"""Larger text files are refused, so that reading one stays under 1 GB of memory."""

MAX_LINES = 5_000_000


def read_text(path: Path | str, *, kind: str = "STAR file") -> str:
    """Read a text file of bounded size; line ends stay as they are.

    Raises
    ------
    InputError
        When it is missing, no regular file, a link to itself, too large, empty, binary, or no
        UTF-8; the last two name line and column.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, kind, "a folder or device")
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 1e6:.0f} MB"
            raise _unreadable(path, f"{kind} of at most {MAX_BYTES / 1e6:.0f} MB", size)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, kind, getattr(error, "strerror", None) or str(error)) from error
    if not content.strip():
        raise _unreadable(path, kind, "an empty file")
    if (lines := content.count(b"\n")) > MAX_LINES:
        raise _unreadable(path, f"{kind} of at most {MAX_LINES} lines", str(lines))
    if (zero := content.find(b"\0")) >= 0:
        raise _unreadable(path, kind, f"binary data at {_place(content, zero)}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        where = _place(content, error.start)
        raise _unreadable(path, f"{kind} in UTF-8", f"other bytes at {where}") from error


def _place(content: bytes, position: int) -> str:
    line = content.count(b"\n", 0, position) + 1
    column = position - content.rfind(b"\n", 0, position)
    return f"line {line}, column {column}"


def _unreadable(path: Path, expected: str, got: str) -> InputError:
    return InputError(
        f"cannot read {path}", expected=f"a {expected}", got=got, remedy="check or copy it again"
    )


def read_star(path: Path | str) -> StarDocument:
    """Read a STAR file.

    Raises
    ------
    InputError
        As :func:`read_text` and :func:`parse_star`.
    """
    return parse_star(read_text(path), name=str(path))


def write_star_document(path: Path | str, document: StarDocument) -> None:
    """Write a document, whole or not at all.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    content = document.text().encode("utf-8")
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(content)  # bytes, so that no platform changes the line ends
