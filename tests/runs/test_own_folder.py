"""Folders that say of which run they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomadapt.errors import InputError, MismatchError
from tomadapt.runs.own_folder import description, make_own, require_own, require_same

WANTED = {"seed": 0, "acquisition": {"defocus_um": 5.0}, "template": None}


def test_the_same_goes_on_and_another_is_refused_with_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "run"
    require_own(out, WANTED)
    assert description(out) is None
    make_own(out, WANTED)
    require_own(out, WANTED)
    with pytest.raises(MismatchError, match=r"acquisition.defocus_um \(5.0 → 4.0\)"):
        require_own(out, WANTED | {"acquisition": {"defocus_um": 4.0}})


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(InputError, match=r"config.json is damaged"):
        require_own(tmp_path, WANTED)


def test_a_value_of_none_is_as_good_as_none(tmp_path: Path) -> None:
    """Regression: options that are added later were a difference without a name."""
    require_same(tmp_path, {"seed": 0}, {"seed": 0, "template": None})


def test_what_it_is_and_the_remedy_are_told(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"holds an extraction.*Remedy: begin anew"):
        require_same(tmp_path, {}, {"a": 1}, what="extraction", remedy="begin anew")
