"""The reader of EM files: what is in them, and what is wrong with them."""

from __future__ import annotations

import gzip
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.em import open_em, read_em_header

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
CODES = {"i1": 1, "i2": 2, "i4": 4, "f4": 5, "f8": 9}
ORDERS = {0: ">", 1: "<", 2: ">", 3: ">", 4: ">", 5: ">", 6: "<"}


def packed(volume: NDArray[Any], machine: int = 6) -> bytes:
    """An EM file, made of the format's description."""
    order = ORDERS[machine]
    start = struct.pack("4B", machine, 0, 0, CODES[volume.dtype.str[1:]])
    header = start + struct.pack(order + "3i", *volume.shape[::-1])
    return header.ljust(512, b"\7") + volume.astype(order + volume.dtype.str[1:]).tobytes()


def write(path: Path, volume: NDArray[Any] = RAMP, machine: int = 6) -> Path:
    path.write_bytes(packed(volume, machine))
    return path


@pytest.mark.parametrize("kind", CODES)
def test_files_of_another_library(tmp_path: Path, kind: str) -> None:
    volume = (RAMP - 50).astype(kind)
    emfile.write(tmp_path / "a.em", volume)
    data = open_em(tmp_path / "a.em")
    assert data.dtype == np.dtype(kind)
    np.testing.assert_array_equal(data, volume)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("machine", ORDERS)
def test_byte_order_is_the_machines(tmp_path: Path, machine: int, kind: str) -> None:
    path = write(tmp_path / "a.em", (RAMP - 50).astype(kind), machine)
    header = read_em_header(path)
    assert (header.machine, header.data_type, header.shape) == (machine, CODES[kind], (4, 5, 6))
    assert header.dtype == np.dtype(ORDERS[machine] + kind)
    np.testing.assert_array_equal(open_em(path), RAMP - 50)


def test_x_is_fastest(tmp_path: Path) -> None:
    """Three columns, two rows, five sections; each voxel says where it is: 100 z + 10 y + x."""
    where = [100 * z + 10 * y + x for z in range(5) for y in range(2) for x in range(3)]
    start = bytes([6, 0, 0, 2]) + struct.pack("<3i", 3, 2, 5)
    (tmp_path / "a.em").write_bytes(start.ljust(512, b"\0") + struct.pack("<30h", *where))
    data = open_em(tmp_path / "a.em")
    assert data.shape == (5, 2, 3)
    assert (data[4, 1, 0], data[0, 0, 2], data[3, 1, 2]) == (410, 2, 312)


def test_voxels_are_mapped_and_not_to_be_changed(tmp_path: Path) -> None:
    data = open_em(write(tmp_path / "a.em"))
    assert isinstance(data, np.memmap)
    assert not data.flags.writeable


@pytest.mark.parametrize("name", ["a.em.gz", "A.EM.GZ"])
def test_packed_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(packed(RAMP.astype("i2"), 5)))
    data = open_em(tmp_path / name)
    assert isinstance(data, np.memmap)
    np.testing.assert_array_equal(data, RAMP)


BIG = 2**31 - 1
MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda c: b"",
    "half a header": lambda c: c[:256],
    "a header short of a byte": lambda c: c[:511],
    "a header alone": lambda c: c[:512],
    "short of a byte": lambda c: c[:-1],
    "a byte more": lambda c: c + b"\0",
    "twice as long": lambda c: c + c[512:],
    "text": lambda c: b"not a map" * 300,
    "zeros": lambda c: bytes(len(c)),
    "ones": lambda c: b"\xff" * len(c),
    "unknown machine": lambda c: b"\7" + c[1:],
    "the other order": lambda c: b"\5" + c[1:],
    "complex": lambda c: c[:3] + b"\x08" + c[4:],
    "complex of doubles": lambda c: c[:3] + b"\x0a" + c[4:],
    "unknown type": lambda c: c[:3] + b"\3" + c[4:],
    "type of fewer bytes": lambda c: c[:3] + b"\2" + c[4:],
    "type of more bytes": lambda c: c[:3] + b"\x09" + c[4:],
    "negative columns": lambda c: c[:4] + struct.pack("<3i", -6, 5, 4) + c[16:],
    "two negative lengths": lambda c: c[:4] + struct.pack("<3i", -6, -5, 4) + c[16:],
    "no rows": lambda c: c[:4] + struct.pack("<3i", 6, 0, 4) + c[16:],
    "a section less": lambda c: c[:4] + struct.pack("<3i", 6, 5, 3) + c[16:],
    "a terabyte": lambda c: c[:4] + struct.pack("<3i", 6400, 6400, 6400) + c[16:],
    "as large as can be said": lambda c: c[:4] + struct.pack("<3i", BIG, BIG, BIG) + c[16:],
}


@pytest.mark.parametrize("packing", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_files(tmp_path: Path, mutation: str, packing: bool) -> None:
    content = MUTATIONS[mutation](packed(RAMP))
    path = tmp_path / ("bad.em.gz" if packing else "bad.em")
    path.write_bytes(gzip.compress(content) if packing else content)
    begin = time.process_time()
    with pytest.raises(InputError, match=r"bad\.em.*not a complete EM") as caught:
        open_em(path)
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value)


def test_complex_numbers_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.em").write_bytes(MUTATIONS["complex"](packed(RAMP)))
    with pytest.raises(InputError, match=r"type 8 \(complex numbers\)"):
        open_em(tmp_path / "a.em")


@pytest.mark.parametrize("count", [5, 15, 100, -20, -1])
def test_damaged_packing(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.em.gz").write_bytes(gzip.compress(packed(RAMP))[:count])
    with pytest.raises(InputError, match="not a complete EM"):
        open_em(tmp_path / "a.em.gz")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.em.gz"
    path.write_bytes(gzip.compress(packed(RAMP) + bytes(2**24), compresslevel=1))
    with pytest.raises(InputError, match="993 bytes, more than the 992"):
        open_em(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.em").mkdir()
    (tmp_path / "loop.em").symlink_to(tmp_path / "loop.em")
    (tmp_path / "dangling.em").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.em")
    for name in ("folder.em", "loop.em", "dangling.em", "pipe.em", "missing.em", "a\0b.em"):
        with pytest.raises(InputError):
            open_em(tmp_path / name)
