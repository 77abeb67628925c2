"""What compressed bytes unpack to, found without unpacking them."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tomadapt.errors import InputError
from tomadapt.io.unpacking import unpacks_beyond

numcodecs = pytest.importorskip("numcodecs")
zarr = pytest.importorskip("zarr")

NOISE = np.random.default_rng(0).integers(0, 50, size=300_000, dtype=np.uint8).tobytes()
CODECS = {
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "blosc": numcodecs.Blosc(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("content", [NOISE, bytes(300_000), b"ab"])
def test_the_length_is_known_to_a_byte(codec: str, content: bytes) -> None:
    packed = bytes(CODECS[codec].encode(content))
    assert not unpacks_beyond(packed, codec, len(content))
    if len(packed) > 18 and len(content) > 2:
        assert unpacks_beyond(packed, codec, len(content) - 1)


def test_members_are_counted_together() -> None:
    packed = gzip.compress(NOISE) * 3
    assert unpacks_beyond(packed, "gzip", 3 * len(NOISE) - 1)
    assert not unpacks_beyond(packed, "gzip", 3 * len(NOISE))


def test_zstandard_without_a_length() -> None:
    """Blocks of one repeated byte: 4 bytes for 128 kB."""
    block = struct.pack("<I", 2**17 << 3 | 1 << 1)[:3] + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 10
    assert unpacks_beyond(frame, "zstd", 10 * 2**17 - 1)
    assert not unpacks_beyond(frame, "zstd", 10 * 2**17)


@pytest.mark.parametrize("codec", [*CODECS, "other"])
@pytest.mark.parametrize("content", [b"", b"\x28\xb5\x2f", bytes(12)])
def test_damage_is_left_to_the_library(codec: str, content: bytes) -> None:
    assert not unpacks_beyond(content, codec, 100)
    assert not unpacks_beyond(zlib.compress(NOISE)[:-9000], "other", 100)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_bomb_in_a_store_is_not_unpacked(zarr_format: int, sharded: bool, tmp_path: Path) -> None:
    """Regression: a chunk of some megabytes became gigabytes in memory."""
    from tomadapt.io.ome_zarr import open_ome_zarr

    if sharded and zarr_format == 2:
        pytest.skip("there are none in Zarr 2")
    axes = [{"name": n, "type": "space", "unit": "angstrom"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [10.0] * 3}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    attributes = {"multiscales": [image | {"version": "0.4"}]}
    store = zarr.storage.LocalStore(tmp_path / "a.zarr")
    zarr.create_group(
        store,
        zarr_format=zarr_format,
        attributes=attributes if zarr_format == 2 else {"ome": attributes},
    )
    gz = numcodecs.GZip(level=1) if zarr_format == 2 else zarr.codecs.GzipCodec(level=1)
    chunks = {"chunks": (16, 16, 16)} | ({"shards": (32, 32, 32)} if sharded else {})
    array = zarr.create_array(
        store,
        name="0",
        shape=(32, 32, 32),
        dtype="float32",
        zarr_format=zarr_format,
        compressors=gz,
        **chunks,
    )
    array[:] = np.random.default_rng(0).normal(size=(32, 32, 32))
    volume = open_ome_zarr(tmp_path / "a.zarr")
    assert volume[(slice(0, 32),) * 3].std() == pytest.approx(1, abs=0.1)
    bomb = gzip.compress(bytes(80_000_000), 9)
    key = array.metadata.encode_chunk_key((0, 0, 0))
    file = tmp_path / "a.zarr" / "0" / key
    if sharded:
        index = file.read_bytes()[-(16 * 8 + 4) :]
        first = struct.pack("<QQ", 0, len(bomb))
        file.write_bytes(bomb + first + index[16:])
    else:
        file.write_bytes(bomb)
    with pytest.raises(InputError, match="far more than a chunk holds"):
        open_ome_zarr(tmp_path / "a.zarr")[(slice(0, 8),) * 3]
