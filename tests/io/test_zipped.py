"""Zip archives that are given as they were downloaded."""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tomadapt.doctor import examine
from tomadapt.errors import InputError
from tomadapt.inputs.particles import open_target
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.zipped import zipped_fault
from zarr_images import write_ome_zarr

pytest.importorskip("zarr")
VOLUME = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)


@pytest.mark.parametrize("with_folder", [False, True])
def test_a_zipped_store_is_named_and_the_remedy_works(tmp_path: Path, with_folder: bool) -> None:
    """Case c05: doctor called it a NumPy archive (ome-zarr-py #298)."""
    (tmp_path / "made").mkdir()
    write_ome_zarr(tmp_path / "made" / "t.zarr", VOLUME, 10.0, "")
    root = tmp_path / "made" / ("" if with_folder else "t.zarr")
    path = Path(shutil.make_archive(str(tmp_path / "with a blank.zarr"), "zip", root))
    fault = zipped_fault(path)
    assert fault is not None
    for refused in (
        lambda: open_tomogram(path, contrast="positive"),
        lambda: open_target(path, voxel_size_A=10.0),
    ):
        with pytest.raises(InputError, match="OME-Zarr store packed as a zip archive"):
            refused()
    (found,) = [f for f in examine([path]).files[0].findings if f.key == "readable"]
    assert found.level == "problem"
    assert "OME-Zarr store packed" in found.text
    # As the remedy says: unzip FILE -d FOLDER, and give STORE.
    command, _, store = str(found.remedy).removeprefix("unpack it: ").partition(", and give ")
    unzip, file, option, folder = shlex.split(command)
    assert (unzip, option) == ("unzip", "-d")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    tomogram = open_tomogram(Path(store), contrast="positive")
    assert (tomogram.shape, tomogram.voxel_size_A) == (VOLUME.shape, 10.0)


def test_arrays_are_no_fault_and_others_are_to_be_unpacked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", VOLUME)
    assert zipped_fault(tmp_path / "a.npz") is None
    assert zipped_fault(tmp_path) is None
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("t.mrc", b"density")
    assert "t.mrc" in str(zipped_fault(tmp_path / "b.zip"))
