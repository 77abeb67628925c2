"""Writing so that a file is either whole or not there, and errors of the disk name a remedy."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tomadapt.errors import OutputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def output_error(path: Path | str, error: OSError) -> OutputError:
    """Translate an operating-system error on writing ``path``."""
    # numpy tells a short write without an error number.
    if error.errno in NO_SPACE or (error.errno is None and "requested and" in str(error)):
        return OutputError(
            f"no space left while writing {path}",
            expected="room on the disk",
            got=error.strerror or str(error),
            remedy="free some space and run it again",
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return OutputError(
            f"cannot write {path}",
            expected="a writable place",
            got="a file of that name, or of one of its parent folders",
            remedy="choose another output, or move that file",
        )
    return OutputError(
        f"cannot write {path}",
        expected="a writable place",
        got=error.strerror or str(error) or type(error).__name__,
        remedy="choose another output or mend its permissions",
    )


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well.

    Raises
    ------
    OutputError
        When the operating system refuses to write; nothing is left behind.
    """
    # The suffix stays last: numpy and matplotlib choose the format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # or a power cut could leave a name without content
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock file: two processes at work in one folder would write the same checkpoint.

    The system lets go of it when the process that holds it dies, however it dies.
    """
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write text atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table of comma-separated values atomically, UTF-8; a row is made as it is written."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, indented, keys in their given order; NaN is refused."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def output_folder(path: Path, *, needed_bytes: int = 0) -> Path:
    """Make an output folder, and check before work starts that it can hold what will come.

    Raises
    ------
    OutputError
        When it cannot be made or written to, or the disk has too little room.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        raise OutputError(
            f"not enough room for {path}",
            expected=f"{needed_bytes / 1e6:.0f} MB free",
            got=f"{free / 1e6:.0f} MB",
            remedy="free some space, choose another disk, or ask for fewer particles",
        )
    return path
