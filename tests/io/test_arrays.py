"""NumPy's files, read without trust; further damage in ``test_corrupt_inputs``."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tomadapt.errors import InputError
from tomadapt.io.arrays import find_cubes, open_npy

CUBES = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.int16])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_cubes_among_other_arrays(save: object, dtype: object, tmp_path: Path) -> None:
    cubes = (10 * CUBES).astype(dtype)
    save(tmp_path / "a.npz", labels=np.arange(3), x=cubes)  # type: ignore[operator]
    found = find_cubes(tmp_path / "a.npz")
    assert (found.member, found.shape, found.dtype) == ("x.npy", cubes.shape, cubes.dtype)
    np.testing.assert_array_equal(found.read(), cubes)
    np.testing.assert_array_equal(found.read_rows([0, 2]), cubes[[0, 2]].astype(np.float32))


def test_columns_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(CUBES))
    found = find_cubes(tmp_path / "a.npz")
    assert found.in_columns
    np.testing.assert_array_equal(found.read(), CUBES)


def test_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CUBES)
    mapped = open_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(mapped, CUBES)
    assert not mapped.flags.writeable


@pytest.mark.parametrize("read", [open_npy, find_cubes])
def test_a_pipe_is_not_waited_for(read: object, tmp_path: Path) -> None:
    """Regression: `predict` waited without end for a pipe named .npy or .npz."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        read(tmp_path / "pipe")  # type: ignore[operator]


@pytest.mark.parametrize(
    "header", ["-" * 900 + "1", "[" * 900, "(" * 900, "{'descr': '<f4'", "x" * 2000]
)
def test_a_header_that_is_no_header(header: str, tmp_path: Path) -> None:
    """Regression: what Python's parser raised of damaged headers was a traceback."""
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(InputError, match=r"expected a whole \.npy array"):
        open_npy(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"expected a whole \.npz archive"):
        find_cubes(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(2**40, 4, 4, 4), (10**40, 4, 4, 4), (-3, 4, 4, 4)])
def test_a_shape_that_is_not_held(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Regression: an OverflowError, or 54 PiB asked for on the word of a header."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(999)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(InputError):
        open_npy(tmp_path / "a.npy")
    with pytest.raises(InputError, match="of an array of shape"):
        find_cubes(tmp_path / "a.npz")


def test_what_unpacks_a_thousandfold(tmp_path: Path) -> None:
    """Regression: an archive of a megabyte was unpacked to a gigabyte."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((300, 40, 40, 40), np.float32))
    with pytest.raises(InputError, match="implausible"):
        find_cubes(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros((30, 40, 40, 40), np.float32))
    assert find_cubes(tmp_path / "small.npz").read().shape == (30, 40, 40, 40)
