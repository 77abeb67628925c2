"""Which file is used for each complex of the paper."""

from __future__ import annotations

import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.experiments.complexes import TWENTY_TWO, Complex, structure_files, with_null

PAIR = (Complex("1kp8", "1mnf", "same"), Complex("2awb", "4v4r_50S", "similar"))


def test_twenty_two_different_ones():
    assert len({c.pdb_id for c in TWENTY_TWO}) == len({c.stand_in for c in TWENTY_TWO}) == 22
    assert {c.likeness for c in TWENTY_TWO} == {"same", "similar", "none"}


def test_the_papers_entry_comes_before_its_stand_in(tmp_path):
    (tmp_path / "maps").mkdir()
    for name in ("maps/1mnf.mrc", "pdb1kp8.ent.gz", "maps/4v4r_50S.mrc"):
        (tmp_path / name).touch()
    found = structure_files(PAIR, tmp_path)
    assert list(found) == ["1kp8", "4v4r_50S"]
    assert found["1kp8"].endswith("pdb1kp8.ent.gz")


def test_all_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"1kp8 \(or .*1mnf\), 2awb \(or .*4v4r_50S\).*Remedy"):
        structure_files(PAIR, tmp_path)


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_no_folder(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--data FOLDER.*Remedy"):
        structure_files(PAIR, None if folder is None else tmp_path / folder)


def test_null_is_last():
    assert list(with_null({"a": "b"})) == ["a", "null"]


@pytest.mark.data
def test_reference_data_hold_all_stand_ins(data_folder):
    assert len(structure_files(TWENTY_TWO, data_folder)) == 22
