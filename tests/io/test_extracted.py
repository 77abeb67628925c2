"""Folders of extracted particles: opened as a target, and refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import open_target
from tomadapt.io.extracted import CARD, CUBES, ExtractedCard, read_extracted, write_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cubes = np.random.default_rng(0).normal(size=(3, 9, 9, 9)).astype(np.float32)
    cubes[:, 3:6, 3:6, 3:6] += 4
    np.save(tmp_path / CUBES, cubes)
    write_card(
        tmp_path,
        ExtractedCard(count=3, box=9, voxel_size_A=12.0, tomogram="t.mrc", contrast="measured"),
    )
    return tmp_path


def test_open_as_a_target(folder: Path) -> None:
    data = open_target(folder)
    assert (len(data), data.box, data.voxel_size_A) == (3, 9, 12.0)
    np.testing.assert_allclose(data.source.read([1])[0], np.load(folder / CUBES)[1])
    with pytest.warns(UserWarning, match="12 Å in its header, and 10 Å are stated"):
        assert open_target(folder, voxel_size_A=10.0).voxel_size_A == 10.0
    with pytest.raises(ConfigError, match="an SNR was given"):
        open_target(folder, snr=0.1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        (json.dumps({"count": 3}), "damaged"),
        (
            json.dumps({"count": 2, "box": 9, "voxel_size_A": 1, "tomogram": "", "contrast": ""}),
            "2 ",
        ),
        (
            json.dumps({"count": 3, "box": 9, "voxel_size_A": -1, "tomogram": "", "contrast": ""}),
            "dam",
        ),
    ],
)
def test_damaged_cards(folder: Path, content: str, message: str) -> None:
    (folder / CARD).write_text(content)
    with pytest.raises(InputError, match=message):
        read_extracted(folder)


def test_damaged_cubes(folder: Path) -> None:
    whole = (folder / CUBES).read_bytes()
    for content in (b"", whole[:60], whole[:-8]):
        (folder / CUBES).write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            open_target(folder)
