"""Digests: short names of content, which say whether two things are the same."""

from __future__ import annotations

import hashlib
import json

import numpy as np


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


def _bytes(part: object) -> bytes | memoryview:
    if isinstance(part, bytes):
        return part
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part).data
    return (part if isinstance(part, str) else json.dumps(part)).encode()
