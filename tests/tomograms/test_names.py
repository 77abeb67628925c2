"""Names of tomograms in lists: what means this one, what another, and what may be either."""

from __future__ import annotations

import pytest

from tomadapt.errors import InputError
from tomadapt.tomograms.names import rows_of_tomogram


def taken(names: list[str], tomogram: str = "TS_01", **options: object) -> list[int] | None:
    found = rows_of_tomogram(names, tomogram, **options)  # type: ignore[arg-type]
    return None if found is None else [row for row, other in enumerate(found.of) if other is None]


@pytest.mark.parametrize("name", ["TS_01", "TS_01.mrc", "a/b/TS_01.rec", "TS_01.tomostar"])
def test_folders_and_endings_do_not_count(name: str) -> None:
    assert taken([name, "TS_02", name]) == [0, 2]


@pytest.mark.parametrize(
    "file", ["rec_TS_01", "TS_01_10.00Apx", "TS_01_7.84Apx_half1", "TS_01_rec", "TS_01_full_rec"]
)
def test_regression_names_of_volumes_by_relion_and_warptools(file: str) -> None:
    """rec_TS_01.mrc (RELION 5) and TS_01_10.00Apx.mrc (WarpTools) are TS_01, and not TS_011."""
    assert taken(["TS_01", "TS_02", "TS_011"], file) == [0]


def test_what_fits_two_names_is_refused() -> None:
    with pytest.raises(InputError, match="several tomograms that may be 'TS_01'"):
        taken(["rec_TS_01", "TS_01_10.00Apx", "TS_02"])


def test_regression_full_names_that_become_one_when_shortened() -> None:
    """Particles of day1/TS_01.mrc and of day2/TS_01.mrc were all cut out of one tomogram."""
    names = ["day1/TS_01.mrc", "day2/TS_01.mrc", "day1/TS_01.mrc"]
    with pytest.raises(InputError, match=r"day1/TS_01\.mrc, day2/TS_01\.mrc"):
        taken(names, path="/data/TS_01.mrc")
    assert taken(names, path="/data/day1/TS_01.mrc") == [0, 2]
    assert taken(["day1/TS_01", "TS_01.mrc", "x"], path="/data/TS_01.mrc") == [0, 1]


def test_regression_the_name_stands_in_another_column() -> None:
    """A table whose column of names is called run was taken for one tomogram's whole."""
    columns = {"score": ["1", "2", "3"], "run": ["TS_02", "TS_01.mrc", "TS_01.mrc"]}
    found = rows_of_tomogram([""] * 3, "TS_01", columns=columns)
    assert found is not None
    assert found.of == ("TS_02", None, None)
    assert found.doubt
    assert "column run" in found.text


def test_regression_another_column_never_overrules_the_lists_own_name() -> None:
    """All rows were of the tomogram ribosome, and those of the species tric were left out."""
    columns = {"species": ["ribosome", "tric", "tric"]}
    assert taken(["ribosome"] * 3, "ribosome", columns=columns) == [0, 1, 2]
    assert taken(["ribosome.mrc"] * 3, "ribosome", columns=columns) == [0, 1, 2]


@pytest.mark.parametrize("file", ["TS_01_10.00Apx", "rec_TS_01"])
def test_regression_folders_tell_names_apart_where_programs_put_something_around(file: str) -> None:
    """day1/TS_01 and day2/TS_01 were refused for day1/TS_01_10.00Apx.mrc."""
    names = ["day1/TS_01", "day2/TS_01", "day1/TS_01"]
    assert taken(names, file, path=f"/d/day1/{file}.mrc") == [0, 2]
    with pytest.raises(InputError, match="day1/TS_01, day2/TS_01"):
        taken(names, file, path=f"/d/{file}.mrc")


def test_numbers_are_names_only_where_a_column_says_so() -> None:
    names = ["tomogram"] * 3
    assert taken(names, "12", columns={"class": ["12", "13", "12"]}) == [0, 1, 2]
    assert taken(names, "12", columns={"tomo_id": ["12", "13", "12"]}) == [0, 2]


def test_a_list_of_one_tomogram_is_taken_and_told() -> None:
    found = rows_of_tomogram(["X"] * 2, "TS_01")
    assert found is not None
    assert found.doubt
    assert "'X'" in found.text
    assert not rows_of_tomogram(["TS_01"] * 2, "TS_01_rec").doubt  # type: ignore[union-attr]
    assert not rows_of_tomogram(["TS_01"] * 2, "rec_TS_01").doubt  # type: ignore[union-attr]
    assert rows_of_tomogram(["X", "Y"], "TS_01") is None
