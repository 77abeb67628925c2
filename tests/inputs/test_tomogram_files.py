"""Opening tomograms of all formats: what they are, their size, sign and name."""

from __future__ import annotations

import contextlib
import gzip
import os
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

from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor import examine
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.tomogram import open_tomogram
from zarr_images import write_ome_zarr

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr")

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def write_mrc(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_A
    return path


def write_mrc_gz(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    path.write_bytes(gzip.compress(write_mrc(path.with_name("x"), data, voxel_A).read_bytes()))
    return path


def write_em(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    emfile.write(path, data, overwrite=True)
    return path


def write_em_gz(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    path.write_bytes(gzip.compress(write_em(path.with_name("x"), data).read_bytes()))
    return path


def write_hdf(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("MDF/images/0")
        group.create_dataset("image", data=data, chunks=(2, 3, 4), compression="gzip")
        group.attrs.update({f"EMAN.apix_{axis}": voxel_A for axis in "xyz"})
    return path


def write_zarr(path: Path, data: NDArray[Any] = RAMP, voxel_A: float = 10.0) -> Path:
    write_ome_zarr(path, data, voxel_A, "")
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    "a.mrc": write_mrc,
    "a.MRC": write_mrc,
    "a.rec": write_mrc,
    "a.map": write_mrc,
    "a.st": write_mrc,
    "a.ccp4": write_mrc,
    "a.mrc.gz": write_mrc_gz,
    "a.REC.GZ": write_mrc_gz,
    "a.em": write_em,
    "a.em.gz": write_em_gz,
    "a.hdf": write_hdf,
    "a.h5": write_hdf,
    "a.hdf5": write_hdf,
    "a.zarr": write_zarr,
    "a.ome.zarr": write_zarr,
    "a": write_mrc,
    "a.mrcs": write_mrc,
    "a.data": write_hdf,
    "a.store": write_zarr,
}
KNOWING = ("a.mrc", "a.mrc.gz", "a.hdf", "a.zarr")


def changed(content: bytes, offset: int, form: str, *values: float) -> bytes:
    new = struct.pack(form, *values)
    return content[:offset] + new + content[offset + len(new) :]


class TestFormats:
    @pytest.mark.parametrize("name", WRITERS)
    def test_blocks_sign_size_and_name(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name)
        positive = open_tomogram(path, contrast="positive", voxel_size_A=10.0)
        assert (positive.shape, positive.voxel_size_A, positive.name) == (RAMP.shape, 10.0, "a")
        np.testing.assert_array_equal(positive.last_A, (50, 40, 30))
        block = positive.block((1, 0, 2), (3, 2, 6))
        assert block.dtype == np.float32
        np.testing.assert_array_equal(block, RAMP[1:3, :2, 2:6])
        negative = open_tomogram(path, contrast="negative", voxel_size_A=10.0)
        np.testing.assert_array_equal(negative.block((1, 0, 2), (3, 2, 6)), -block)
        block[:] = 7
        np.testing.assert_array_equal(positive.block((0, 0, 0), RAMP.shape), RAMP)

    @pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz", "a.em", "a.em.gz"])
    def test_plain_files_are_mapped(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name)
        tomogram = open_tomogram(path, contrast="positive", voxel_size_A=10.0)
        assert isinstance(tomogram.density, np.memmap)

    @pytest.mark.parametrize("name", KNOWING)
    def test_the_files_voxel_size(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name)
        assert open_tomogram(path, contrast="positive").voxel_size_A == 10.0
        with pytest.warns(UserWarning, match="10 Å in its header, and 8 Å are stated"):
            tomogram = open_tomogram(path, contrast="positive", voxel_size_A=8.0)
        assert tomogram.voxel_size_A == 8.0

    @pytest.mark.parametrize("name", ["a.em", "a.em.gz"])
    def test_em_files_know_none(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name)
        with pytest.raises(ConfigError, match=r"is unknown.*--voxel-size"):
            open_tomogram(path, contrast="positive")

    @pytest.mark.parametrize("name", ["a.mrc", "a.hdf"])
    @pytest.mark.parametrize("size", [0.0, 1.0, -3.0, np.nan, np.inf])
    def test_a_voxel_size_nobody_set(self, tmp_path: Path, name: str, size: float) -> None:
        path = WRITERS[name](tmp_path / name)
        if name == "a.mrc":
            lengths = [size * n for n in RAMP.shape[::-1]]
            path.write_bytes(changed(path.read_bytes(), 40, "<3f", *lengths))
        else:
            write_hdf(path, RAMP, size)
        with pytest.raises(ConfigError, match=r"is unknown.*--voxel-size"):
            open_tomogram(path, contrast="positive")
        assert open_tomogram(path, contrast="positive", voxel_size_A=8.0).voxel_size_A == 8.0

    def test_a_stated_size_out_of_range(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="out of range"):
            open_tomogram(
                write_mrc(tmp_path / "a.mrc"), contrast="positive", voxel_size_A=float("nan")
            )

    @pytest.mark.parametrize("lengths", [(60.0, 50.0, 44.0), (60.0, 50.0, 400.0)])
    def test_spacings_that_differ_are_overridden(
        self, tmp_path: Path, lengths: tuple[float, float, float]
    ) -> None:
        """Case c04: refused whatever was stated, and the remedy would have spoilt a right map."""
        path = write_mrc(tmp_path / "a.mrc")
        path.write_bytes(changed(path.read_bytes(), 40, "<3f", *lengths))
        with pytest.raises(InputError, match="--voxel-size"):
            open_tomogram(path, contrast="positive")
        with pytest.warns(UserWarning, match=r"10 × 10 × .* Å in its header, and 10 Å are stated"):
            tomogram = open_tomogram(path, contrast="positive", voxel_size_A=10.0)
        assert tomogram.voxel_size_A == 10.0

    def test_a_grid_that_nobody_set_along_z(self, tmp_path: Path) -> None:
        """Case c04: mz of 1 made one voxel of the whole depth."""
        path = write_mrc(tmp_path / "a.mrc")
        path.write_bytes(changed(path.read_bytes(), 36, "<i", 1))
        with pytest.warns(UserWarning, match="nobody set z"):
            assert open_tomogram(path, contrast="positive").voxel_size_A == 10.0

    def test_regression_no_zero_is_said_of_a_grid_that_nobody_set(self, tmp_path: Path) -> None:
        """Case c04, mz_is_1: the warning said 10 × 10 × 0 Å, and no such number is in the header.

        The cell along z is its whole depth, which is told by doctor as it is.
        """
        path = write_mrc(tmp_path / "a.mrc")
        path.write_bytes(changed(path.read_bytes(), 36, "<i", 1))
        with pytest.warns(UserWarning, match=r"of 10 × 10 Å \(x, y; z is not set\) in its header"):
            open_tomogram(path, contrast="positive")
        with pytest.warns(UserWarning, match=r"10 × 10 Å \(x, y; z is not set\).* 8 Å are stated"):
            open_tomogram(path, contrast="positive", voxel_size_A=8.0)

    def test_an_implausible_size_is_overridden(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "a.mrc", voxel_A=13480.0)
        with pytest.raises(InputError, match=r"cannot be.*give --voxel-size"):
            open_tomogram(path, contrast="positive")
        with pytest.warns(UserWarning, match="13480 Å in its header, and 13.48 Å are stated"):
            assert (
                open_tomogram(path, contrast="positive", voxel_size_A=13.48).voxel_size_A == 13.48
            )

    def test_one_angstrom_of_a_zarr_is_unknown(self, tmp_path: Path) -> None:
        """Case c05: scale 1 and unit Å, as converters leave it, was a dead end (DeePiCt #22)."""
        path = write_zarr(tmp_path / "a.zarr", voxel_A=1.0)
        with pytest.raises(ConfigError, match=r"is unknown.*give --voxel-size"):
            open_tomogram(path, contrast="positive")
        assert open_tomogram(path, contrast="positive", voxel_size_A=10.0).voxel_size_A == 10.0

    def test_regression_a_name_with_another_size_is_told(self, tmp_path: Path) -> None:
        """TS_01_10.00Apx.mrc of WarpTools with a header of 20 Å was opened without a word."""
        path = write_mrc(tmp_path / "TS_01_10.00Apx.mrc", voxel_A=20.0)
        with pytest.warns(UserWarning, match=r"10 Å by its name, and of 20 Å by its header"):
            assert open_tomogram(path, contrast="positive").voxel_size_A == 20
        with pytest.warns(UserWarning, match=r"10 Å by its name, and 20 Å are stated"):
            open_tomogram(path, contrast="positive", voxel_size_A=20.0)
        (told,) = [f for f in examine([path]).files[0].findings if f.key == "told"]
        assert told.level == "warning"
        unset = write_mrc(tmp_path / "TS_02_10.00Apx.mrc", voxel_A=0.0)
        assert "told" not in [f.key for f in examine([unset]).files[0].findings]
        for name in ("TS_01_10.00Apx.mrc", "TS_01_10.00Apx_half1.mrc", "TS_01_10.05Apx.mrc"):
            right = write_mrc(tmp_path / name, voxel_A=10.0)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert open_tomogram(right, contrast="positive").voxel_size_A == 10

    def test_anisotropic(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "a.mrc")
        path.write_bytes(changed(path.read_bytes(), 40, "<3f", 60.0, 50.0, 44.0))
        with pytest.raises(InputError, match=r"10 × 10 × 11 Å.*--voxel-size"):
            open_tomogram(path, contrast="positive")

    @pytest.mark.parametrize("kind", ["i2", "f4", "f2"])
    def test_big_endian(self, tmp_path: Path, kind: str) -> None:
        path = write_mrc(tmp_path / "a.mrc", RAMP.astype(">" + kind))
        block = open_tomogram(path, contrast="positive").block((0, 0, 0), RAMP.shape)
        np.testing.assert_array_equal(block, RAMP)

    @pytest.mark.parametrize("name", ["a.mrc", "a.em", "a.hdf"])
    def test_lowest_integers_have_a_negative(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name, np.full((4, 5, 6), -32768, "i2"))
        tomogram = open_tomogram(path, contrast="negative", voxel_size_A=10.0)
        assert tomogram.block((0, 0, 0), (2, 2, 2)).min() == 32768


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("00012_10.00Apx.rec", "00012_10.00Apx"),
        ("0007.MRC.GZ", "0007"),
        ("0007.mrc", "0007"),
        ("a.ome.mrc", "a.ome"),
    ],
)
def test_names_stay_text(tmp_path: Path, file: str, name: str) -> None:
    writer = write_mrc_gz if file.lower().endswith(".gz") else write_mrc
    assert open_tomogram(writer(tmp_path / file), contrast="positive").name == name


def test_contrast_must_be_stated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="positive or negative"):
        open_tomogram(write_mrc(tmp_path / "a.mrc"), contrast="measure")  # type: ignore[arg-type]


class TestWhatIsNoTomogram:
    @pytest.mark.parametrize("name", ["a.mrc", "a.em"])
    def test_a_single_section(self, tmp_path: Path, name: str) -> None:
        path = WRITERS[name](tmp_path / name, RAMP[:1])
        with pytest.raises(InputError, match=r"no tomogram.*shape \(1, 5, 6\)"):
            open_tomogram(path, contrast="positive", voxel_size_A=10.0)

    def test_stacks_of_volumes(self, tmp_path: Path) -> None:
        stack = np.arange(3 * 4 * 4 * 4, dtype=np.float32).reshape(3, 4, 4, 4)
        with pytest.raises(InputError, match=r"no tomogram.*\(3, 4, 4, 4\)"):
            open_tomogram(write_mrc(tmp_path / "a.mrc", stack), contrast="positive")
        with h5py.File(tmp_path / "a.hdf", "w") as file:
            for number in range(3):
                file[f"MDF/images/{number}/image"] = stack[number]
        with pytest.raises(InputError, match=r"no tomogram.*3 volumes"):
            open_tomogram(tmp_path / "a.hdf", contrast="positive")

    @pytest.mark.parametrize("name", ["a.tif", "a", "a.gz", "a.zarr", "a.mrc.zip"])
    def test_unknown_files_are_told_what_is_read(self, tmp_path: Path, name: str) -> None:
        for content in (b"", b"II*\0" * 100):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=r"\.mrc, \.rec, .*\.em, \.hdf, .*\.zarr"):
                open_tomogram(tmp_path / name, contrast="positive")

    @pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".em", ".hdf", ".zarr", ".tif", ""])
    def test_what_is_no_file(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"folder{suffix}").mkdir()
        (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
        (tmp_path / f"dangling{suffix}").symlink_to(tmp_path / "nothing")
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        (tmp_path / f"text{suffix}").write_bytes(b"hello" * 300)
        os.mkfifo(tmp_path / f"pipe{suffix}")
        for stem in ("folder", "loop", "dangling", "empty", "text", "pipe", "missing", "a\0b"):
            with pytest.raises(InputError) as caught:
                open_tomogram(tmp_path / f"{stem}{suffix}", contrast="positive")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", WRITERS)
    @pytest.mark.parametrize("other", [".mrc", ".em", ".hdf", ".zarr"])
    def test_a_name_that_lies(self, tmp_path: Path, name: str, other: str) -> None:
        """Under another format's name, it is refused or still read as what it is."""
        path = WRITERS[name](tmp_path / name).rename(tmp_path / f"b{other}")
        with contextlib.suppress(InputError):
            tomogram = open_tomogram(path, contrast="positive", voxel_size_A=10.0)
            np.testing.assert_array_equal(tomogram.block((0, 0, 0), RAMP.shape), RAMP)


def test_a_tomogram_reads_whatever_can_be_sliced() -> None:
    class Counting:
        shape, dtype = RAMP.shape, RAMP.dtype
        asked: Any = None

        def __getitem__(self, key: Any) -> NDArray[Any]:
            self.asked = key
            return RAMP[key]

    density = Counting()
    tomogram = Tomogram(density, 10.0, -1)
    np.testing.assert_array_equal(tomogram.block((1, 2, 3), (2, 4, 6)), -RAMP[1:2, 2:4, 3:6])
    assert density.asked == (slice(1, 2), slice(2, 4), slice(3, 6))
