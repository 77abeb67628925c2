"""Digests: short names of content, which say whether two things are the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

_SAMPLED_BYTES = 2**20


def digest(*parts: object, size: int = 8) -> str:
    """A digest of parts one after another, in hexadecimal.

    Parameters
    ----------
    parts
        Arrays count by their bytes alone, texts by theirs, and all else as JSON writes it: the
        order of a dictionary counts.
    size
        Of the digest in bytes: 8 for names of folders, 16 where there are very many.
    """
    made = hashlib.blake2b(digest_size=size)
    for part in parts:
        made.update(_bytes(part))
    return made.hexdigest()


def file_sample(path: Path) -> str | None:
    """A digest of a file's size, and of its first, middle and last MiB.

    It tells files of one name apart without reading gigabytes. None for folders, and for what is
    not there.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    if not path.is_file():
        return None
    size = path.stat().st_size
    parts: list[object] = [size]
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
            file.seek(start)
            parts.append(file.read(_SAMPLED_BYTES))
    return digest(*parts)


def _bytes(part: object) -> bytes | memoryview:
    if isinstance(part, bytes):
        return part
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part).data
    return (part if isinstance(part, str) else json.dumps(part)).encode()
