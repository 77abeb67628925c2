"""How many bytes a compressed chunk unpacks to, found out before a library makes room for them.

Libraries unpack a chunk whole, whatever its file announces: a few megabytes can become many
gigabytes. What the headers of Blosc, LZ4 and Zstandard say is believed, since their libraries
allocate just that; Deflate has no header, so that its bytes are counted by unpacking in pieces.
"""

from __future__ import annotations

import struct
import zlib

_PIECE_BYTES = 2**20
DEFLATE_RATIO = 1032
"""Deflate packs no better than this."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZLIB, _GZIP = zlib.MAX_WBITS, 16 + zlib.MAX_WBITS


def unpacks_beyond(content: bytes, codec: str, limit_bytes: int) -> bool:
    """Whether compressed bytes announce or hold more than a limit.

    Parameters
    ----------
    content
        As stored. Damaged ones are left to the library that unpacks them.
    codec
        ``zlib``, ``gzip``, ``blosc``, ``lz4`` (with numcodecs' length before it) or ``zstd``; of
        any other, nothing is known, and False is given.
    limit_bytes
        What may come of it.
    """
    if codec in ("zlib", "gzip"):
        return _deflated_beyond(content, _ZLIB if codec == "zlib" else _GZIP, limit_bytes)
    if codec == "blosc" and len(content) >= 16:
        return bool(struct.unpack_from("<I", content, 4)[0] > limit_bytes)
    if codec == "lz4" and len(content) >= 4:
        return bool(struct.unpack_from("<I", content)[0] > limit_bytes)
    if codec == "zstd" and content.startswith(_ZSTD_MAGIC) and len(content) > 18:
        return _zstd_bytes(content) > limit_bytes
    return False


def _deflated_beyond(content: bytes, wbits: int, limit_bytes: int) -> bool:
    if len(content) * DEFLATE_RATIO <= limit_bytes:
        return False
    unpacker = zlib.decompressobj(wbits)
    held, rest = 0, content
    while rest:
        try:
            held += len(unpacker.decompress(rest, _PIECE_BYTES))
        except zlib.error:
            return False
        if held > limit_bytes:
            return True
        rest = unpacker.unconsumed_tail
        if unpacker.eof:  # gzip may have several members
            rest = unpacker.unused_data if wbits == _GZIP else b""
            unpacker = zlib.decompressobj(wbits)
    return False


def _zstd_bytes(content: bytes) -> int:
    """What a frame announces, or the most that its blocks can hold (RFC 8878, sections 3.1.1)."""
    descriptor = content[4]
    single = bool(descriptor & 0x20)
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    if size:
        announced = int.from_bytes(content[at : at + size], "little")
        return announced + (256 if size == 2 else 0)
    most, last = 0, False
    while not last and at + 3 <= len(content):
        header = int.from_bytes(content[at : at + 3], "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        # Raw bytes, one byte repeated, or compressed: a block holds 128 kB at most.
        most += length if kind in (0, 1) else 2**17
        at += 3 + (1 if kind == 1 else length)
    return most
