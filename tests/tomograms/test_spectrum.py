"""The mean power spectrum: what is said where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError
from tomadapt.tomograms.spectrum import tomogram_power

NOISE = np.random.default_rng(0).normal(size=(40, 72, 80)).astype(np.float32)


@pytest.mark.parametrize(
    ("value", "part", "reason"),
    [
        (0.0, (..., slice(40, None)), "with one value in a corner"),
        (0.0, (...,), "with one value throughout"),
        (np.nan, (..., slice(40, None)), "with NaN or infinite voxels"),
    ],
)
def test_regression_no_spectrum_for_the_reason_that_is_so(
    value: float, part: tuple[object, ...], reason: str
) -> None:
    """A half-empty volume was said to have NaN, infinite or constant voxels wherever read."""
    volume = NOISE.copy()
    volume[part] = value
    with pytest.raises(InputError) as error:
        tomogram_power(Tomogram(volume, 10.0))
    assert f"of 4 blocks 4 {reason}" in str(error.value)
    others = {"NaN", "throughout", "corner"} - set(reason.split())
    assert not any(word in str(error.value) for word in others)
