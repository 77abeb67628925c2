"""Which file is used for each complex of the paper."""

from __future__ import annotations

import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.experiments.complexes import TWENTY_TWO, Complex, structure_files

PAIR = (Complex("1kp8", "1mnf"), Complex("2awb", "4v4r_50S"))


def test_twenty_two_different_ones():
    assert len({c.pdb_id for c in TWENTY_TWO}) == len({c.stand_in for c in TWENTY_TWO}) == 22


def test_the_papers_entry_comes_before_its_stand_in(tmp_path):
    (tmp_path / "maps").mkdir()
    for name in ("maps/1mnf.mrc", "pdb1kp8.ent.gz", "maps/4v4r_50S.mrc"):
        (tmp_path / name).touch()
    found = structure_files(PAIR, tmp_path)
    assert [name for name, _ in found] == ["1kp8", "4v4r_50S"]
    assert found[0][1].endswith("pdb1kp8.ent.gz")


def test_a_target_s_own_volumes_are_no_templates(tmp_path):
    """Regression: a stack of real particles was taken for the structure of its name."""
    for name in ("S_e1/1mnf.mrc", "S_e1/4v4r_50S.mrc", "templates/1mnf.mrc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert structure_files(PAIR[:1], tmp_path)[0][1].endswith("templates/1mnf.mrc")
    with pytest.raises(InputError, match="2awb"):
        structure_files(PAIR, tmp_path)


def test_all_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"1kp8 \(or .*1mnf\), 2awb \(or .*4v4r_50S\).*Remedy"):
        structure_files(PAIR, tmp_path)


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_no_folder(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--data FOLDER.*Remedy"):
        structure_files(PAIR, None if folder is None else tmp_path / folder)


@pytest.mark.data
def test_reference_data_hold_all_stand_ins(data_folder):
    assert len(structure_files(TWENTY_TWO, data_folder)) == 22
