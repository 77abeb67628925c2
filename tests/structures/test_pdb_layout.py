"""The columns of PDB records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomadapt.errors import InputError
from tomadapt.structures import read_atomic_model
from tomadapt.structures.pdb_layout import with_right_columns

PLACES = [(12.345, -103.21, 0.123), (1.0, 2.0, -3.0), (-8.5, 1112.345, 99.999)]


def record(
    place: tuple[float, ...], *, serial: str = "    1", before: str = "", residue: str = "ALA"
) -> str:
    """One record; ``before`` shifts what follows the residue's number."""
    x, y, z = place
    return (
        f"ATOM  {serial:>5}  CA  {residue:<3} A   1{before}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C\n"
    )


def read(folder: Path, text: str) -> np.ndarray:
    path = folder / "a.pdb"
    path.write_text(text + "END\n")
    return read_atomic_model(path).positions_A


def test_serials_of_six_digits_are_read_right(tmp_path: Path) -> None:
    """Case c13: they shift a record by one; −103.21 was read as 5."""
    text = "".join(record(p, serial=f"{99998 + i}") for i, p in enumerate(PLACES))
    assert "ATOM  100000  CA" in text
    np.testing.assert_allclose(read(tmp_path, text), PLACES)
    text = "".join(record(p, serial=f"{1234567 + i}") for i, p in enumerate(PLACES))
    np.testing.assert_allclose(read(tmp_path, text), PLACES)


@pytest.mark.parametrize("serial", ["*****", "186a0", "A0000", "    7"])
def test_other_serials_of_five_characters_are_as_they_were(tmp_path: Path, serial: str) -> None:
    text = "".join(record(p, serial=serial) for p in PLACES)
    assert with_right_columns(text.encode()) == text.encode()
    np.testing.assert_allclose(read(tmp_path, text), PLACES)


@pytest.mark.parametrize(("by", "side"), [(1, "1 column too far right"), (2, "2 columns too far")])
def test_columns_that_are_shifted_are_refused_by_line(tmp_path: Path, by: int, side: str) -> None:
    """Case c13: whatever shifts them, numbers were cut and given to their neighbours."""
    text = record(PLACES[1]) + record(PLACES[0], before=" " * by)
    with pytest.raises(InputError, match=rf"{side}.* in line 2: 'ATOM"):
        read(tmp_path, text)


def test_columns_too_far_left_are_refused(tmp_path: Path) -> None:
    text = record(PLACES[0]).replace("A   1    ", "A   1   ")
    with pytest.raises(InputError, match="1 column too far left in line 1"):
        read(tmp_path, text)


def test_regression_an_occupancy_of_100_fills_its_columns(tmp_path: Path) -> None:
    """Its first digit follows z's last, and the record was refused as "not numbers"."""
    text = "".join(record(p).replace("  1.00 20.00", "100.00 20.00") for p in PLACES)
    assert with_right_columns(text.encode()) == text.encode()
    np.testing.assert_allclose(read(tmp_path, text), PLACES)
    shifted = record(PLACES[0], before=" ").replace("  1.00 20.00", "100.00 20.00")
    with pytest.raises(InputError, match="in line 1: 'ATOM"):
        read(tmp_path, shifted)


def test_line_ends_of_windows_and_short_records(tmp_path: Path) -> None:
    text = "".join(record(p)[:54] + "\r\n" for p in PLACES)
    assert with_right_columns(text.encode()) == text.encode()


def test_numbers_in_other_forms_stay() -> None:
    line = record(PLACES[1])
    for field in ("10000.12", " 12.3456", "      12", "   +1.25"):
        text = (line[:30] + field + line[38:]).encode()
        assert with_right_columns(text) == text
