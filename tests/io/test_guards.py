"""What every reader asks of a file first."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.guards import (
    header_bytes,
    plain_file,
    ratio_fault,
    require_extra,
    require_file,
    size_fault,
)


def damaged(path: Path, reason: str) -> InputError:
    return InputError(f"cannot read {path}", got=reason)


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    require_file(tmp_path / "file", "a file")
    for name, said in (("pipe", "is no file"), (".", "is no file"), ("none", "does not exist")):
        with pytest.raises(InputError, match=f"{said}; expected an EM file"):
            require_file(tmp_path / name, "an EM file")


def test_an_extra_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.x needs the package no_such.*tomadapt\[formats\]"):
        require_extra("no_such", tmp_path / "a.x")


def test_sizes() -> None:
    assert size_fault(2**36, 2**29) == ratio_fault(2**26, 0) == ratio_fault(10**12, 10**9) == ""
    for fault in (size_fault(2**36 + 1, 1), size_fault(1, 2**29 + 1), ratio_fault(10**9, 10**5)):
        assert fault.endswith("which is implausible")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_one_byte_further_than_announced(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(bytes(range(100))) if packed else bytes(range(100)))
    assert header_bytes(path, 4, "a file", damaged) == bytes(range(4))
    with pytest.raises(InputError, match="100 bytes, less than a header of 101"):
        header_bytes(path, 101, "a file", damaged)
    for announced, held in ((100, 100), (120, 100), (90, 91 if packed else 100)):
        with plain_file(path, announced, damaged) as (file, length):
            assert length == held
            file.seek(10)
            assert file.read(5) == bytes(range(10, 15))


def test_what_a_packed_file_cannot_hold_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x"))
    with plain_file(tmp_path / "a.gz", 2**40, damaged) as (file, length):
        assert (length, file.read()) == (0, b"")


def test_damaged_packing(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000))[:-9])
    with (
        pytest.raises(InputError, match="cannot read"),
        plain_file(tmp_path / "a.gz", 10**4, damaged),
    ):
        pass
