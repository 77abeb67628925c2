"""The reader of MRC files: what is in them, and what is wrong with them."""

from __future__ import annotations

import gzip
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.mrc import open_mrc, read_header

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def write(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_A
    return path


def changed(content: bytes, offset: int, form: str, *values: float) -> bytes:
    new = struct.pack(form, *values)
    return content[:offset] + new + content[offset + len(new) :]


class TestVoxels:
    @pytest.mark.parametrize(
        ("kind", "mode"), [("i1", 0), ("i2", 1), ("f4", 2), ("u2", 6), ("f2", 12)]
    )
    def test_modes(self, tmp_path: Path, kind: str, mode: int) -> None:
        header, data = open_mrc(write(tmp_path / "a.mrc", RAMP.astype(kind)))
        assert header.mode == mode
        assert data.dtype == np.dtype(kind)
        assert isinstance(data, np.memmap)
        assert not data.flags.writeable
        np.testing.assert_array_equal(data, RAMP)

    @pytest.mark.parametrize("kind", ["i2", "f4", "f2"])
    def test_big_endian(self, tmp_path: Path, kind: str) -> None:
        header, data = open_mrc(write(tmp_path / "a.mrc", RAMP.astype(">" + kind)))
        assert header.byte_order == ">"
        np.testing.assert_array_equal(data, RAMP)

    @pytest.mark.parametrize(
        ("stamped", "low", "high", "unsigned"),
        [
            (False, 0.0, 255.0, True),
            (False, 3.0, 180.0, True),
            (False, -100.0, 90.0, False),
            (True, -100.0, 90.0, False),
            (False, 0.0, 100.0, False),
            (True, 0.0, 100.0, True),
            (False, 0.0, 0.0, False),
            (True, 0.0, -1.0, True),
            (False, np.nan, np.inf, False),
        ],
    )
    def test_regression_bytes_as_their_extremes_say(
        self, tmp_path: Path, stamped: bool, low: float, high: float, unsigned: bool
    ) -> None:
        """0 … 255 without IMOD's stamp were wrapped, and their sign inverted (cisTEM #166)."""
        path = write(tmp_path / "a.mrc", RAMP.astype(np.int8))
        content = changed(path.read_bytes(), 76, "<2f", low, high)
        stamp = 1146047817 if stamped else 0
        path.write_bytes(changed(content, 152, "<2i", stamp, 0))
        assert read_header(path).unsigned == unsigned
        assert open_mrc(path)[1].dtype == (np.uint8 if unsigned else np.int8)

    def test_unsigned_bytes_of_imod(self, tmp_path: Path) -> None:
        """IMOD's mode 0 is unsigned unless a flag says otherwise: 200 must not become −56."""
        path = write(tmp_path / "a.mrc", RAMP.astype("i1"))
        content = path.read_bytes()[:1024] + (RAMP + 100).astype("u1").tobytes()
        for flags, kind in ((0, "u1"), (4, "u1"), (1, "i1"), (5, "i1")):
            path.write_bytes(changed(content, 152, "<2i", 1146047817, flags))
            header, data = open_mrc(path)
            assert header.dtype == np.dtype(kind)
            np.testing.assert_array_equal(data, (RAMP + 100).astype("u1").view(kind))

    @pytest.mark.parametrize("axes", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (3, 1, 2), (2, 3, 1)])
    def test_order_of_axes(self, tmp_path: Path, axes: tuple[int, int, int]) -> None:
        stored = np.ascontiguousarray(RAMP.transpose([3 - axis for axis in axes[::-1]]))
        path = write(tmp_path / "a.mrc", stored)
        path.write_bytes(changed(path.read_bytes(), 64, "<3i", *axes))
        np.testing.assert_array_equal(open_mrc(path)[1], RAMP)

    def test_unset_axes_and_stamp(self, tmp_path: Path) -> None:
        for order in "<>":
            path = write(tmp_path / "a.mrc", RAMP.astype(order + "f4"))
            content = changed(path.read_bytes(), 64, "<3i", 0, 0, 0)
            path.write_bytes(changed(content, 212, "<i", 0))
            np.testing.assert_array_equal(open_mrc(path)[1], RAMP)

    def test_stack_of_volumes(self, tmp_path: Path) -> None:
        stack = np.arange(3 * 4 * 4 * 4, dtype=np.float32).reshape(3, 4, 4, 4)
        path = write(tmp_path / "a.mrc", stack)
        header, data = open_mrc(path)
        assert header.voxel_sizes_A == (10, 10, 10)
        np.testing.assert_array_equal(data, stack)

    def test_packed(self, tmp_path: Path) -> None:
        content = write(tmp_path / "a.mrc").read_bytes()
        path = tmp_path / "0007.MRC.GZ"
        path.write_bytes(gzip.compress(content))
        _, data = open_mrc(path)
        assert isinstance(data, np.memmap)
        np.testing.assert_array_equal(data, RAMP)


class TestHeader:
    def test_extended_header_origin_and_labels(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mrc"
        with mrcfile.new(path) as mrc:
            mrc.set_data(RAMP)
            mrc.set_extended_header(np.arange(50, dtype="u1"))
            mrc.header.origin = (1.0, -2.0, 3.5)
            mrc.add_label("sample 7")
        path.write_bytes(changed(path.read_bytes(), 224, "<4s", b"gr\xf6\xdf"))
        header, data = open_mrc(path)
        np.testing.assert_array_equal(data, RAMP)
        assert header.extended_bytes == 50
        assert header.origin_A == (1.0, -2.0, 3.5)
        assert len(header.labels) == 2
        assert header.labels[1].startswith("sample 7")

    @pytest.mark.parametrize("size", [0.0, 1.0, -3.0, np.nan, np.inf])
    def test_a_voxel_size_nobody_set(self, tmp_path: Path, size: float) -> None:
        path = write(tmp_path / "a.mrc")
        lengths = [size * n for n in RAMP.shape[::-1]]
        path.write_bytes(changed(path.read_bytes(), 40, "<3f", *lengths))
        assert read_header(path).cubic_voxel_size_A() is None

    def test_cell_of_another_size_than_the_volume(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mrc")
        content = changed(path.read_bytes(), 28, "<3i", 100, 100, 100)
        path.write_bytes(changed(content, 40, "<3f", 1300.0, 1300.0, 1300.0))
        assert read_header(path).cubic_voxel_size_A() == 13.0

    @pytest.mark.parametrize("missing", [(40, "<3f", 60.0, 50.0, 0.0), (28, "<3i", 6, 5, 0)])
    def test_regression_a_z_that_nobody_set(
        self, tmp_path: Path, missing: tuple[int, str, float, float, float]
    ) -> None:
        """Once refused, whatever was stated (rosettasciio #131)."""
        path = write(tmp_path / "a.mrc")
        content = changed(path.read_bytes(), 28, "<3i", 6, 5, 4)
        content = changed(content, 40, "<3f", 60.0, 50.0, 40.0)
        path.write_bytes(changed(content, *missing))
        with pytest.warns(UserWarning, match="nobody set z"):
            assert read_header(path).cubic_voxel_size_A() == 10.0

    def test_regression_spacings_a_little_apart(self, tmp_path: Path) -> None:
        """0.2 % apart (pytom-match-pick #26)."""
        path = write(tmp_path / "a.mrc")
        content = changed(path.read_bytes(), 28, "<3i", 6, 5, 4)
        path.write_bytes(changed(content, 40, "<3f", 60.0, 50.0, 40.08))
        with pytest.warns(UserWarning, match="their mean, 10.0067 Å, is taken"):
            assert read_header(path).cubic_voxel_size_A() == pytest.approx(10.0067, abs=1e-3)

    def test_anisotropic(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mrc")
        path.write_bytes(changed(path.read_bytes(), 40, "<3f", 60.0, 50.0, 44.0))
        with pytest.raises(InputError, match="10 × 10 × 11 Å"):
            read_header(path).cubic_voxel_size_A()


BIG = 2**31 - 1
MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda c: b"",
    "one byte": lambda c: c[:1],
    "half a header": lambda c: c[:512],
    "a header short of a byte": lambda c: c[:1023],
    "a header alone": lambda c: c[:1024],
    "short of a byte": lambda c: c[:-1],
    "half the data": lambda c: c[: 1024 + (len(c) - 1024) // 2],
    "text": lambda c: b"not a map" * 300,
    "zeros": lambda c: bytes(len(c)),
    "ones": lambda c: b"\xff" * len(c),
    "noise": lambda c: np.random.default_rng(0).bytes(len(c)),
    "no mark": lambda c: c[:208] + b"MOP " + c[212:],
    "stamp of the other order": lambda c: c[:212] + b"\x11\x11\0\0" + c[216:],
    "unknown stamp": lambda c: c[:212] + b"\x99\x99\0\0" + c[216:],
    "swapped header, little stamp": lambda c: (
        np.frombuffer(c[:208], "<i4").astype(">i4").tobytes() + c[208:]
    ),
    "negative columns": lambda c: changed(c, 0, "<i", -6),
    "no rows": lambda c: changed(c, 4, "<i", 0),
    "no sections": lambda c: changed(c, 8, "<i", 0),
    "a section more": lambda c: changed(c, 8, "<i", 5),
    "a section less": lambda c: changed(c, 8, "<i", 3),
    "a column less": lambda c: changed(c, 0, "<i", 5),
    "as large as can be said": lambda c: changed(c, 0, "<3i", BIG, BIG, BIG),
    "a terabyte": lambda c: changed(c, 0, "<3i", 6400, 6400, 6400),
    "unknown mode": lambda c: changed(c, 12, "<i", 7),
    "negative mode": lambda c: changed(c, 12, "<i", -1),
    "half bytes": lambda c: changed(c, 12, "<i", 101),
    "complex": lambda c: changed(c, 12, "<i", 4),
    "complex of shorts": lambda c: changed(c, 12, "<i", 3),
    "mode of fewer bytes": lambda c: changed(c, 12, "<i", 1),
    "mode of a byte": lambda c: changed(c, 12, "<i", 0),
    "negative extended header": lambda c: changed(c, 92, "<i", -1024),
    "endless extended header": lambda c: changed(c, 92, "<i", BIG),
    "an extended header that is none": lambda c: changed(c, 92, "<i", 1024),
    "an extended header not told of": lambda c: c[:1024] + b"tilt" * 256 + c[1024:],
    "an axis twice": lambda c: changed(c, 64, "<3i", 1, 1, 3),
    "an unknown axis": lambda c: changed(c, 64, "<3i", 1, -2, 3),
    "volumes that do not divide": lambda c: changed(changed(c, 88, "<i", 401), 36, "<i", 3),
    "volumes of no sections": lambda c: changed(changed(c, 88, "<i", 401), 36, "<i", 0),
    "volumes of turned axes": lambda c: changed(changed(c, 88, "<i", 401), 64, "<3i", 3, 2, 1),
    "more data": lambda c: c + b"\x01" * 100,
    "a megabyte of padding and more": lambda c: c + bytes(2**20 + 1),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_damaged_files(tmp_path: Path, mutation: str, packed: bool) -> None:
    content = MUTATIONS[mutation](write(tmp_path / "good.mrc").read_bytes())
    path = tmp_path / ("bad.mrc.gz" if packed else "bad.mrc")
    path.write_bytes(gzip.compress(content) if packed else content)
    begin = time.process_time()
    with pytest.raises(InputError, match=r"bad\.mrc") as caught:
        open_mrc(path)
    assert time.process_time() - begin < 1
    assert "\n" not in str(caught.value)


def test_padding_with_zeros_harms_nobody(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc")
    path.write_bytes(path.read_bytes() + bytes(512))
    np.testing.assert_array_equal(open_mrc(path)[1], RAMP)


@pytest.mark.parametrize("count", [5, 15, 100, -20, -1])
def test_damaged_packing(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.mrc.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "a.mrc").read_bytes())[:count])
    with pytest.raises(InputError, match="not a complete"):
        open_mrc(path)


def test_a_packed_file_with_a_wrong_checksum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(write(tmp_path / "a.mrc").read_bytes()))
    content[-8] ^= 1
    (tmp_path / "a.mrc.gz").write_bytes(bytes(content))
    with pytest.raises(InputError, match="CRC"):
        open_mrc(tmp_path / "a.mrc.gz")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    content = write(tmp_path / "a.mrc").read_bytes() + bytes(200 * 2**20)
    path = tmp_path / "a.mrc.gz"
    path.write_bytes(gzip.compress(content, compresslevel=1))
    begin = time.process_time()
    with pytest.raises(InputError, match="more data"):
        open_mrc(path)
    assert time.process_time() - begin < 1


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.mrc").mkdir()
    (tmp_path / "loop.mrc").symlink_to(tmp_path / "loop.mrc")
    (tmp_path / "dangling.mrc").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.mrc")
    for name in ("folder.mrc", "loop.mrc", "dangling.mrc", "pipe.mrc", "missing.mrc", "a\0b.mrc"):
        with pytest.raises(InputError):
            open_mrc(tmp_path / name)
