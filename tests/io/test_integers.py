"""Integers that wrapped round are told, by the header or by the voxels; right ones are not."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emfile
import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.doctor import examine
from tomadapt.inputs.particles import open_target
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.integers import looks_wrapped
from tomadapt.io.mrc import open_mrc
from tomadapt.structures import read_map

SHAPE = (40, 48, 64)


def noise(sigma: float, seed: int = 0) -> NDArray[np.float64]:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), sigma)
    return np.asarray(values / values.std())


def over(values: NDArray[np.float64], high: float) -> NDArray[np.float64]:
    """From 0 to ``high``."""
    return np.round((values - values.min()) / np.ptp(values) * high)


def write_mrc(
    path: Path, data: NDArray[Any], extremes: tuple[float, float, float] = (0.0, -1.0, -2.0)
) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = 10.0
    with path.open("r+b") as raw:
        raw.seek(76)
        raw.write(struct.pack("<3f", *extremes))
    return path


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0])
@pytest.mark.parametrize(("stored", "meant", "high"), [("i1", "u1", 255), ("i2", "u2", 60000)])
def test_regression_unsigned_values_in_a_signed_type_wrap(
    sigma: float, stored: str, meant: str, high: float
) -> None:
    """uint16 in mode 1, or bytes of 0 to 255 in mode 0, were read with a third of them wrapped."""
    right = over(noise(sigma), high).astype(meant)
    assert looks_wrapped(right.view(stored))
    assert not looks_wrapped(right)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0])
@pytest.mark.parametrize(("kind", "scale"), [("i1", 30), ("i2", 6000)])
def test_signed_values_in_an_unsigned_type_wrap(sigma: float, kind: str, scale: float) -> None:
    right = np.round(noise(sigma) * scale).clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    assert looks_wrapped(right.view(kind.replace("i", "u")))
    assert not looks_wrapped(right)


def hot(values: NDArray[Any], *, to: float) -> NDArray[Any]:
    places = np.random.default_rng(1).integers(0, SHAPE, (300, 3))
    changed = values.copy()
    changed[tuple(places.T)] = to
    return changed


def cut(scale: float, offset: float, low: int, high: int) -> Callable[[NDArray[Any]], Any]:
    return lambda v: np.round(v * scale + offset).clip(low, high)


RIGHT: dict[str, tuple[str, Callable[[NDArray[np.float64]], Any]]] = {
    "bytes cut off at 0": ("u1", cut(90, 64, 0, 255)),
    "bytes cut off at both ends": ("u1", cut(256, 64, 0, 255)),
    "signed bytes cut off at one end": ("i1", cut(60, 60, -128, 127)),
    "signed bytes cut off at both ends": ("i1", cut(150, 0, -128, 127)),
    "signed bytes cut off at ±127": ("i1", cut(150, 0, -127, 127)),
    "counts with hot pixels": ("u2", lambda v: hot(np.round(v * 50 + 500).clip(0), to=50000)),
    "hot pixels on both sides": (
        "i2",
        lambda v: np.where(noise(0, 5) > 3, -32000, hot(np.round(v * 50), to=32000)),
    ),
    "few values": ("i2", cut(3, 0, -100, 100)),
    "a mask of 0 and 255": ("u1", lambda v: np.where(v > 0, 255, 0)),
    "a mask of 0 and 1": ("i1", lambda v: np.where(v > 0, 1, 0)),
    "a mask of 0 and −1": ("i1", lambda v: np.where(v > 0, -1, 0)),
    "a mask of −128 and 127": ("i1", lambda v: np.where(v > 0, 127, -128)),
    "labels": ("u1", lambda v: np.digitize(v, np.linspace(-2, 2, 7)) * 35),
    "probabilities": ("u1", lambda v: np.round(255 / (1 + np.exp(-6 * v)))),
    "masked": ("u1", lambda v: np.where(noise(4, 3) > 0, over(v, 255), 0)),
    "a constant": ("u1", lambda v: np.full(SHAPE, 200)),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0])
def test_right_files_are_not_doubted(name: str, sigma: float) -> None:
    kind, make = RIGHT[name]
    assert not looks_wrapped(np.asarray(make(noise(sigma))).astype(kind))


def test_regression_the_headers_extremes_count_for_16_bits(tmp_path: Path) -> None:
    """Mode 1 with a dmax of 60000 was read as int16; without a word."""
    right = over(noise(0.7), 60000).astype("u2")
    path = write_mrc(tmp_path / "a.mrc", right.view("i2"), (0, 60000, 30000))
    with pytest.warns(UserWarning, match=r"mode 1 \(int16\).*those of uint16: it is read as that"):
        _, data = open_mrc(path)
    np.testing.assert_array_equal(data, right)


def test_extremes_left_from_before_do_not_count(tmp_path: Path) -> None:
    """A program scaled 0 … 60000 to signed integers and left the header as it was."""
    right = np.round(noise(0.7) * 6000).astype("i2")
    path = write_mrc(tmp_path / "a.mrc", right, (0, 60000, 30000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, data = open_mrc(path)
    np.testing.assert_array_equal(data, right)


def test_regression_every_command_tells_of_wrapped_integers(tmp_path: Path) -> None:
    """Extract measured dark particles of wrapped bytes, and nobody was told."""
    wrapped = over(noise(0.7), 255).astype("u1").view("i1")
    mrc = write_mrc(tmp_path / "a.mrc", wrapped)
    em = tmp_path / "a.em"
    emfile.write(str(em), wrapped)
    told = "was read as int8.*seem to have wrapped round"
    with pytest.warns(UserWarning, match=told):
        open_tomogram(mrc, contrast="positive")
    with pytest.warns(UserWarning, match=told):
        open_tomogram(em, contrast="positive", voxel_size_A=10.0)
    with pytest.warns(UserWarning, match=told):
        read_map(mrc)
    findings = {f.key: f for f in examine([mrc]).files[0].findings}
    assert findings["told"].level == "warning"
    assert "wrapped round" in findings["told"].text
    cubes = tmp_path / "cubes.npy"
    np.save(cubes, wrapped[:40, :40, :40].reshape(8, 20, 20, 20))
    with pytest.warns(UserWarning, match=told):
        open_target(cubes, voxel_size_A=10.0, contrast="positive")


def test_integers_of_hdf5_are_looked_at_too(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    wrapped = over(noise(0.7), 60000).astype("u2").view("i2")
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        image = file.create_group("MDF/images/0")
        image.create_dataset("image", data=wrapped)
        image.attrs.update({f"EMAN.apix_{axis}": 10.0 for axis in "xyz"})
    with pytest.warns(UserWarning, match=r"was read as int16.*wrapped round"):
        open_tomogram(tmp_path / "a.hdf", contrast="positive")
