"""What a Zarr array's stored chunks hold, found out before the library unpacks them."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomadapt.io.guards import SMALL_BYTES
from tomadapt.io.unpacking import unpacks_beyond

METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")
COMPRESSORS = ("blosc", "gzip", "zlib", "zstd", "lz4")
CODECS = ("bytes", "transpose", "crc32c", "shuffle", *COMPRESSORS)
"""Those that may be run."""

_EMPTY = 2**64 - 1
_INDEX = ("bytes", "crc32c")


def stored_chunk(array: Any) -> tuple[int, ...]:
    """The voxels in a file; those of a shard are chunks of their own."""
    return tuple(array.shards or array.chunks)


def codec_fault(array: Any) -> str:
    """What is wrong with an array's codecs, or nothing."""
    names = [*_codec_names(array)]
    unknown = {*names} - {*CODECS, "sharding_indexed"}
    if unknown:
        return f"the codecs {', '.join(sorted(unknown))}"
    if sum(name in COMPRESSORS for name in names) > 1 or names.count("sharding_indexed") > 1:
        return f"several compressors in one another: {', '.join(names)}"
    shards = _sharding(array)
    if shards and (tuple(c["name"] for c in shards["index_codecs"])) != _INDEX:
        return "shards with an index of unusual codecs"
    return ""


def unpacks_too_far(array: Any, path: Path) -> bool:
    """Whether a chunk's file, which must be a regular one, would unpack to more than a chunk."""
    codec = next((name for name in _codec_names(array) if name in COMPRESSORS), None)
    if codec is None:
        return False
    # More than a chunk holds is unpacked at times, by several codecs.
    limit = SMALL_BYTES + 2 * math.prod(array.chunks) * array.dtype.itemsize
    with path.open("rb") as file:
        # Their first bytes tell it.
        content = file.read(16 if codec in ("blosc", "lz4") and not array.shards else -1)
    parts = _inner_chunks(array, content) if array.shards else [content]
    return any(unpacks_beyond(part, codec, limit) for part in parts)


def stored_bytes(folder: Path, needed: float) -> int:
    """The bytes of regular files in an array's folder, metadata apart; counted up to ``needed``.

    Links are not followed: what they lead to is judged when it is read.
    """
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            if name not in METADATA and not name.startswith("._"):
                total += (Path(place) / name).lstat().st_size
        if total >= needed:
            break
    return total


def stored_names(folder: Path) -> set[str]:
    """The names of all files in an array's folder, below it, with ``/`` between their parts.

    Links are names, and are not followed.
    """
    names: set[str] = set()
    for place, _, files in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        names.update(files if inside == "." else (f"{inside}/{file}" for file in files))
    return names


def other_separator(array: Any, root: Path) -> bool:
    """Whether the first chunk is there under a name with the other separator (Zarr 2)."""
    name = str(array.metadata.encode_chunk_key((0,) * array.ndim))
    other = name.replace(".", "/") if "." in name else name.replace("/", ".")
    return other != name and (root / array.path / other).is_file()


def _codec_names(array: Any) -> Iterator[str]:
    about = array.metadata
    if about.zarr_format == 3:
        yield from _names_in(about.to_dict()["codecs"])
    else:
        codecs = (*(about.filters or ()), about.compressor)
        yield from (str(codec.codec_id) for codec in codecs if codec)


def _names_in(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        yield str(codec["name"])
        for inner in ("codecs", "index_codecs"):
            yield from _names_in(codec.get("configuration", {}).get(inner, ()))


def _sharding(array: Any) -> dict[str, Any]:
    if array.metadata.zarr_format != 3:
        return {}
    codecs = array.metadata.to_dict()["codecs"]
    found = (c["configuration"] for c in codecs if c["name"] == "sharding_indexed")
    return dict(next(found, {}))


def _inner_chunks(array: Any, shard: bytes) -> Iterator[bytes]:
    """The chunks in a shard by its index: where each begins and its length, and a checksum."""
    edges = zip(array.shards, array.chunks, strict=True)
    count = math.prod(outer // inner for outer, inner in edges)
    length = 16 * count + 4
    at_start = "start" in str(_sharding(array).get("index_location", "end"))
    index = shard[:length] if at_start else shard[-length:]
    if len(index) < length:
        return
    for offset, size in struct.iter_unpack("<QQ", index[:-4]):
        if offset != _EMPTY:
            yield shard[offset : offset + size]
