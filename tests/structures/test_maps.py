"""Reading maps, and templates of them."""

from __future__ import annotations

import gzip
import math
import struct
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError
from tomadapt.structures import centre_of_mass, map_template, read_map

RAMP = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


def write_mrc(
    path: Path,
    volume: NDArray[np.float32],
    voxel: object = 5.0,
    axes: tuple[int, int, int] | None = None,
) -> Path:
    """Write an MRC file; ``axes`` is (mapc, mapr, maps)."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume)
        mrc.voxel_size = voxel
        if axes is not None:
            mrc.header.mapc, mrc.header.mapr, mrc.header.maps = axes
            # mx, my, mz are along x, y, z whatever the axis order.
            lengths = dict(zip(axes, volume.shape[::-1], strict=True))
            mrc.header.mx, mrc.header.my, mrc.header.mz = lengths[1], lengths[2], lengths[3]
            mrc.header.cella = tuple(5.0 * lengths[a] for a in (1, 2, 3))
    return path


def write_em(path: Path, volume: NDArray[np.float32]) -> Path:
    header = bytes([6, 0, 0, 5]) + struct.pack("<3i", *volume.shape[::-1])
    data = header.ljust(512, b"\0") + volume.astype("<f4").tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def blob(
    shape: tuple[int, int, int], centre: tuple[float, float, float], sigma: float
) -> NDArray[np.float32]:
    axes = [
        np.exp(-((np.arange(n) - c) ** 2) / (2 * sigma**2))
        for n, c in zip(shape, centre, strict=True)
    ]
    return np.asarray(np.einsum("i,j,k->ijk", *axes), dtype=np.float32)


@pytest.mark.parametrize("name", ["a.mrc", "a.map", "a.ccp4", "A.MRC"])
def test_mrc_round_trip(tmp_path: Path, name: str) -> None:
    volume, voxel = read_map(write_mrc(tmp_path / name, RAMP))
    np.testing.assert_array_equal(volume, RAMP)
    assert volume.dtype == np.float32
    assert voxel == 5.0


def test_gzip_and_truncated_gzip(tmp_path: Path) -> None:
    content = write_mrc(tmp_path / "a.mrc", RAMP).read_bytes()
    path = tmp_path / "b.mrc.gz"
    path.write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_map(path)[0], RAMP)
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(InputError, match="not a complete"):
        read_map(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match="Not a gzipped file"):
        read_map(path)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16])
def test_integer_modes(tmp_path: Path, dtype: type[np.generic]) -> None:
    volume, _ = read_map(write_mrc(tmp_path / "a.mrc", RAMP.astype(dtype)))
    np.testing.assert_array_equal(volume, RAMP)


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (3, 1, 2), (2, 3, 1)])
def test_axis_order_is_honoured(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    # The file's data dimensions are (maps, mapr, mapc); RAMP's are z, y, x = 3, 2, 1.
    stored = RAMP.transpose([3 - axis for axis in axes[::-1]])
    volume, voxel = read_map(write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(stored), axes=axes))
    np.testing.assert_array_equal(volume, RAMP)
    assert voxel == 5.0


@pytest.mark.parametrize("voxel", [0.0, 1.0])
def test_unknown_voxel_size_must_be_stated(tmp_path: Path, voxel: float) -> None:
    path = write_mrc(tmp_path / "a.mrc", RAMP, voxel)
    with pytest.raises(InputError, match=r"does not say its voxel size.*state"):
        read_map(path)
    assert read_map(path, voxel_size_A=7.5)[1] == 7.5
    with pytest.raises(InputError, match="positive"):
        read_map(path, voxel_size_A=0.0)


def test_anisotropic_voxels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="5 × 5 × 6 Å"):
        read_map(write_mrc(tmp_path / "a.mrc", RAMP, (5.0, 5.0, 6.0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_values_are_refused(tmp_path: Path, bad: float) -> None:
    volume = RAMP.copy()
    volume[1, 1, 1] = bad
    with pytest.raises(InputError, match="1 bad voxels"):
        read_map(write_mrc(tmp_path / "a.mrc", volume))


def test_constant_complex_and_flat_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="constant"):
        read_map(write_mrc(tmp_path / "a.mrc", np.full_like(RAMP, 3)))
    with pytest.raises(InputError, match="complex64"):
        read_map(write_mrc(tmp_path / "a.mrc", RAMP.astype(np.complex64)))
    with pytest.raises(InputError, match="shape"):
        read_map(write_mrc(tmp_path / "a.mrc", RAMP[0]))


def test_files_that_are_no_maps(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    with pytest.raises(InputError, match="does not exist"):
        read_map(path)
    for content in (b"", b"hello" * 10, b"x" * 5000):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a complete MRC") as caught:
            read_map(path)
        assert "\n" not in str(caught.value)
    write_mrc(path, RAMP)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="not a complete MRC"):
        read_map(path)
    with pytest.raises(InputError, match="unknown file name extension"):
        read_map(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.em", "A.EM", "a.em.gz"])
def test_em_has_no_voxel_size(tmp_path: Path, name: str) -> None:
    path = write_em(tmp_path / name, RAMP)
    volume, voxel = read_map(path)
    np.testing.assert_array_equal(volume, RAMP)
    assert volume.dtype == np.float32
    assert math.isnan(voxel)
    assert read_map(path, voxel_size_A=4.0)[1] == 4.0


def test_damaged_em(tmp_path: Path) -> None:
    path = write_em(tmp_path / "a.em", RAMP)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a complete EM"):
        read_map(path)


class TestTemplate:
    @pytest.mark.parametrize("box", [20, 21])
    def test_off_centre_map_on_a_pedestal(self, tmp_path: Path, box: int) -> None:
        volume = 7.0 + 3.0 * blob((40, 36, 44), (17.3, 19.0, 24.6), 3.0)
        path = write_mrc(tmp_path / "a.mrc", volume)
        template = map_template(path, voxel_size_A=7.0, box=box)
        middle = (box // 2,) * 3
        expected = blob((box,) * 3, middle, 3.0 * 5.0 / 7.0)
        assert np.abs(template - expected).max() < 0.01
        assert template.max() == 1.0

    def test_blur(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "a.mrc", blob((41,) * 3, (20, 20, 20), 3.0))
        template = map_template(path, voxel_size_A=5.0, box=41, resolution_A=40.0)
        assert np.abs(template - blob((41,) * 3, (20, 20, 20), 5.0)).max() < 0.01

    def test_noise_of_the_background_is_removed(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).normal(scale=0.02, size=(40,) * 3).astype(np.float32)
        path = write_mrc(tmp_path / "a.mrc", blob((40,) * 3, (24, 20, 20), 3.0) + noise)
        template = map_template(path, voxel_size_A=5.0, box=32)
        assert np.abs(centre_of_mass(template, threshold=0) - 16).max() < 0.2
        assert template[:3].mean() < 1e-3

    def test_inverted_map_is_refused(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "a.mrc", -blob((40,) * 3, (20, 20, 20), 3.0))
        with pytest.raises(InputError, match=r"inverted.*multiply the map by -1"):
            map_template(path, voxel_size_A=5.0, box=32)

    def test_only_noise_is_refused(self, tmp_path: Path) -> None:
        volume = np.zeros((9, 9, 9), dtype=np.float32)
        volume[::2] = 1.0
        with pytest.raises(InputError, match=r"stands out|inverted"):
            map_template(write_mrc(tmp_path / "a.mrc", volume), voxel_size_A=5.0, box=9)

    def test_regression_a_map_that_is_cut_off_or_a_mask_is_told(self, tmp_path: Path) -> None:
        """Structures cut off at the border of their box, and masks, were simulated in silence."""
        whole = blob((40,) * 3, (20, 20, 20), 4.0)
        noise = np.random.default_rng(0).normal(scale=0.05, size=(40,) * 3).astype(np.float32)

        def told(volume: NDArray[np.float32]) -> list[str]:
            path = write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(volume))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                map_template(path, voxel_size_A=5.0, box=48)
            return [str(warning.message) for warning in caught]

        for right in (whole, whole + noise, np.where(whole > 0.2, whole, 0)):
            assert told(right) == []
        for cut in (whole[:, :, 16:], (whole + noise)[8:, :24], np.roll(whole, 20, 0)):
            (warning,) = told(cut)
            assert "density at the faces of its box" in warning
        (warning,) = told((whole > 0.5).astype(np.float32))
        assert "two values alone" in warning
        (warning,) = told((whole > 0.5).astype(np.float32)[:, :, 16:])
        assert "two values alone" in warning
        assert "density at the faces" in warning

    def test_em_needs_a_voxel_size(self, tmp_path: Path) -> None:
        path = write_em(tmp_path / "a.em", blob((30,) * 3, (15, 15, 15), 2.0))
        with pytest.raises(InputError, match="voxel size"):
            map_template(path, voxel_size_A=5.0, box=24)
        template = map_template(path, voxel_size_A=5.0, box=24, map_voxel_size_A=5.0)
        assert template.shape == (24, 24, 24)

    def test_box_is_checked_against_the_structure(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "a.mrc", blob((60,) * 3, (30, 30, 30), 4.0))
        # 5 % of the maximum is reached 2.45 σ = 9 whole voxels of 5 Å from the centre.
        map_template(path, voxel_size_A=5.0, box=19)
        with pytest.raises(ConfigError, match="at least 19 voxels; got 18"):
            map_template(path, voxel_size_A=5.0, box=18)


@pytest.mark.data
def test_every_reference_map_makes_a_centred_template(data_folder: Path) -> None:
    paths = sorted((data_folder / "maps_10A").glob("*.mrc"))
    assert len(paths) == 26
    for path in paths:
        template = map_template(path, voxel_size_A=13.68, box=32, resolution_A=20.0)
        assert np.isfinite(template).all()
        assert template.max() == 1.0
        assert template.min() > -0.05
        assert np.abs(centre_of_mass(template) - 16).max() < 0.3, path.name
