"""MRC files that are written: what is in them, and what is not written."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, OutputError
from tomadapt.io import mrc_writing
from tomadapt.io.mrc import open_mrc
from tomadapt.io.mrc_writing import write_mrc

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


@pytest.mark.parametrize("stored", ["i1", "u2", ">i4", "f2", "f4", "f8"])
def test_round_trip(tmp_path: Path, stored: str) -> None:
    volume = RAMP.astype(stored)
    write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=13.48)
    header, data = open_mrc(tmp_path / "a.mrc")
    assert (header.mode, header.byte_order, data.dtype) == (2, "<", np.dtype("float32"))
    assert header.cubic_voxel_size_A() == pytest.approx(13.48)
    assert (header.space_group, header.grid, header.labels) == (1, (6, 5, 4), ())
    np.testing.assert_array_equal(data, RAMP)
    assert mrcfile.validate(tmp_path / "a.mrc")


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=4, max_side=5),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_any_volume_is_valid(
    tmp_path_factory: pytest.TempPathFactory, volume: NDArray[np.float32]
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.mrc"
    write_mrc(path, volume, voxel_size_A=2.5)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, volume)
        assert mrc.header.nz == np.prod(volume.shape[:-2])
        assert mrc.voxel_size.z == pytest.approx(2.5)


def test_a_stack_of_volumes(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    write_mrc(tmp_path / "a.mrcs", cubes, voxel_size_A=13.48)
    header, data = open_mrc(tmp_path / "a.mrcs")
    assert header.is_volume_stack
    assert (header.space_group, header.stored_shape, header.grid) == (401, (12, 4, 4), (4, 4, 4))
    assert header.cubic_voxel_size_A() == pytest.approx(13.48)
    np.testing.assert_array_equal(data, cubes)
    assert mrcfile.validate(tmp_path / "a.mrcs")
    with mrcfile.open(tmp_path / "a.mrcs") as mrc:
        assert mrc.is_volume_stack()
        np.testing.assert_array_equal(mrc.data, cubes)


def test_labels(tmp_path: Path) -> None:
    labels = [f"label {i}".ljust(80, ".") for i in range(10)]
    write_mrc(tmp_path / "a.mrc", RAMP, voxel_size_A=4, labels=labels)
    header, _ = open_mrc(tmp_path / "a.mrc")
    assert header.origin_A == (0.0, 0.0, 0.0)
    assert header.labels == tuple(labels)
    assert mrcfile.validate(tmp_path / "a.mrc")


@pytest.mark.parametrize("piece", [1, 7, 64, 2**22])
def test_statistics_are_those_of_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Far from zero, where sums of squares would lose the deviation."""
    monkeypatch.setattr(mrc_writing, "_PIECE_VOXELS", piece)
    volume = (30000 + 3 * np.random.default_rng(1).normal(size=(7, 4, 9))).round()
    write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=10)
    stored = open_mrc(tmp_path / "a.mrc")[1].astype(np.float64)
    with mrcfile.open(tmp_path / "a.mrc", header_only=True) as mrc:
        header = mrc.header
        assert (header.dmin, header.dmax) == (stored.min(), stored.max())
        assert header.dmean == pytest.approx(stored.mean(), rel=1e-7)
        assert header.rms == pytest.approx(stored.std(), rel=1e-6)
    np.testing.assert_array_equal(stored, volume)


def test_any_layout_in_memory(tmp_path: Path) -> None:
    for volume in (RAMP.T, RAMP[::-1, ::2], np.asfortranarray(RAMP), RAMP.astype(">f4")):
        write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=10)
        np.testing.assert_array_equal(open_mrc(tmp_path / "a.mrc")[1], volume)


def test_no_second_copy_in_memory(tmp_path: Path) -> None:
    """Of 128 MB of voxels, no more than some pieces of 4 million are copied."""
    volume = np.zeros((128, 512, 512), np.float32)
    volume[5] = 1
    tracemalloc.start()
    write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20


class TestRefusals:
    @pytest.mark.parametrize(
        "volume", [RAMP[0], RAMP[None, None], RAMP[:0], RAMP + 1j, RAMP > 3, np.float32(3)]
    )
    def test_what_is_no_volume(self, tmp_path: Path, volume: Any) -> None:
        with pytest.raises(ConfigError, match=r"real numbers \(nz, ny, nx\)"):
            write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=10)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
    def test_voxels_that_the_type_cannot_hold(self, tmp_path: Path, value: float) -> None:
        (tmp_path / "a.mrc").write_text("old")
        volume = RAMP.astype(np.float64)
        volume[3, 4, 5] = value
        with pytest.raises(ConfigError, match="values of the type float32"):
            write_mrc(tmp_path / "a.mrc", volume, voxel_size_A=10)
        assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]

    @pytest.mark.parametrize(
        "options",
        [
            {"voxel_size_A": 0.0},
            {"voxel_size_A": -1.0},
            {"voxel_size_A": np.nan},
            {"voxel_size_A": np.inf},
            {"labels": ["x"] * 11},
            {"labels": ["x" * 81]},
            {"labels": ["Å"]},
            {"labels": ["two\nlines"]},
            {"labels": [" "]},
        ],
    )
    def test_options(self, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"a\.mrc"):
            write_mrc(tmp_path / "a.mrc", RAMP, **{"voxel_size_A": 10.0, **options})
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_says_it_is_packed(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"without \.gz"):
            write_mrc(tmp_path / "a.mrc.gz", RAMP, voxel_size_A=10)

    def test_places_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "folder.mrc").mkdir()
        for name in ("folder.mrc", "missing/a.mrc"):
            with pytest.raises(OutputError):
                write_mrc(tmp_path / name, RAMP, voxel_size_A=10)
        assert [p.name for p in tmp_path.iterdir()] == ["folder.mrc"]

    def test_a_full_disk_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_mrc(tmp_path / "a.mrc", RAMP, voxel_size_A=10)
        pieces, passes = mrc_writing._pieces, []

        def full(*arguments: Any) -> Any:
            yield from pieces(*arguments)
            passes.append(1)
            if len(passes) == 2:
                raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(mrc_writing, "_pieces", full)
        with pytest.raises(OutputError, match="no space left"):
            write_mrc(tmp_path / "a.mrc", RAMP + 1, voxel_size_A=10)
        assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]
        np.testing.assert_array_equal(open_mrc(tmp_path / "a.mrc")[1], RAMP)
