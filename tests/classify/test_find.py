"""Where noise is measured in a tomogram, and when the sign of its density is clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.classify.find import Finder, sign_by_evidence
from tomadapt.classify.matched_source import Geometry
from tomadapt.classify.options import ClassifyOptions, SourceOptions
from tomadapt.errors import ConfigError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.tomograms.matched_filter import Level

VOXEL_A, BOX = 10.0, 24
ACQUISITION = Acquisition(defocus_um=4.0)
SHAPE_ZYX = (64, 200, 200)


def white(shape: tuple[int, ...] = SHAPE_ZYX) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(5.0, 1.0, size=shape).astype(np.float32)


def power(volume: NDArray[np.float32], occupied_A: NDArray[np.float64], folder: Path) -> float:
    """The mean power of noise as measured, over that of white noise of variance 1."""
    path = folder / "tomogram.mrc"
    write_mrc(path, volume, voxel_size_A=VOXEL_A)
    tomogram = open_tomogram(path, contrast="positive", voxel_size_A=None)
    source = SourceOptions(classes={"tric": "tric"}, acquisition=ACQUISITION)
    options = ClassifyOptions(tomogram=path, source=source)
    geometry = Geometry(BOX, VOXEL_A, {"tric": 60.0})
    points = MeasuredPoints.of(ACQUISITION, n=BOX, voxel_size_A=VOXEL_A)
    finder = Finder(options, tomogram, geometry, [], points, Level.of(tomogram))
    return float(finder._noise(occupied_A).power.mean()) / BOX**3


def some_places(z: tuple[float, float] = (0, 630)) -> NDArray[np.float64]:
    low, high = (0, 0, z[0]), (1990, 1990, z[1])
    return np.random.default_rng(1).uniform(low, high, size=(60, 3))


def test_white_noise_has_the_power_that_it_was_given(tmp_path: Path) -> None:
    assert power(white(), some_places(), tmp_path) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("count", [0, 1])
def test_a_tomogram_with_hardly_a_maximum(count: int, tmp_path: Path) -> None:
    assert power(white(), some_places()[:count], tmp_path) == pytest.approx(1.0, rel=0.05)


def test_regression_filling_is_no_noise(tmp_path: Path) -> None:
    """Around a tomogram that was turned: far from all particles, and almost constant."""
    volume = white()
    y, x = np.mgrid[:200, :200]
    volume[:, x + 0.3 * y < 60] = volume.mean()
    assert power(volume, some_places(), tmp_path) == pytest.approx(1.0, rel=0.05)


def test_regression_vacuum_beside_the_specimen_is_not_where_its_noise_is(tmp_path: Path) -> None:
    """It is the farthest of all places from particles."""
    volume = white((144, 200, 200))
    quiet = np.ones(144, dtype=bool)
    quiet[48:96] = False
    volume[quiet] = (volume[quiet] - 5) * 0.2 + 5
    found = power(volume, some_places((480.0, 950.0)), tmp_path)
    assert 0.6 < found < 1.1  # of the vacuum alone it is 0.04


@pytest.mark.parametrize("sums", [{1: 2.0, -1: 0.5}, {1: 0.0, -1: 3.0}, {1: 100.0, -1: 90.0}])
def test_regression_a_few_nats_of_noise_tell_no_sign(sums: dict[int, float]) -> None:
    with pytest.raises(ConfigError, match="cannot be measured"):
        sign_by_evidence(sums, "measure", Path("some.mrc"), of="five cubes")
    stated: Any = sign_by_evidence(sums, "positive", Path("some.mrc"), of="five cubes")
    assert stated.warning is None
    assert stated.sign == 1


def test_a_clear_sign() -> None:
    sign = sign_by_evidence({1: 10.0, -1: 60.0}, "measure", Path("some.mrc"), of="five cubes")
    assert sign.sign == -1
