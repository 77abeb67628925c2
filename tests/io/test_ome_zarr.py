"""OME-Zarr images: read, written, and what is wrong with them."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.ome_zarr import OmeZarrVolume, open_ome_zarr
from zarr_images import write_ome_zarr

zarr = pytest.importorskip("zarr")
Blosc = pytest.importorskip("numcodecs").Blosc

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
ALL = (slice(None),) * 3


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def scaled(*scale: float) -> list[dict[str, Any]]:
    return [{"type": "scale", "scale": list(scale)}]


def write(
    path: Path,
    volume: NDArray[Any] = RAMP,
    *,
    version: int = 2,
    axes: str = "zyx",
    unit: str | None = "nanometer",
    **options: Any,
) -> Path:
    """An image of one level, by zarr alone: 0.4 in Zarr 2, 0.5 in Zarr 3."""
    described = [{"name": axis} | ({"unit": unit} if unit else {}) for axis in axes]
    datasets = [{"path": "0", "coordinateTransformations": scaled(*[1.348] * len(axes))}]
    multiscales = {"multiscales": [{"axes": described, "datasets": datasets}]}
    attributes = multiscales if version == 2 else {"ome": {"version": "0.5", **multiscales}}
    store = zarr.storage.LocalStore(path)
    zarr.create_group(store, zarr_format=version, attributes=attributes, overwrite=True)
    if version == 2:
        options.setdefault("chunk_key_encoding", {"name": "v2", "separator": "/"})
    options.setdefault("chunks", tuple(min(3, n) for n in volume.shape))
    zarr.create_array(store, name="0", data=volume, zarr_format=version, **options)
    return path


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content) or content))


def multiscale(path: Path, change: Callable[[Any], Any]) -> Path:
    """Change the image's metadata (0.4)."""

    def inside(content: Any) -> None:
        change(content["multiscales"][0])

    edit(path / ".zattrs", inside)
    return path


LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": 2},
    "0.4, blosc": {"version": 2, "compressors": Blosc(cname="lz4")},
    "0.4, column by column": {"version": 2, "order": "F"},
    "0.4, flat": {"version": 2, "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "0.5": {"version": 3},
    "0.5, plain": {"version": 3, "compressors": None},
    "0.5, shards": {"version": 3, "chunks": (2, 3, 2), "shards": (4, 3, 4)},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OmeZarrVolume]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        name: open_ome_zarr(write(folder / f"{number}.zarr", **options))
        for number, (name, options) in enumerate(LAYOUTS.items())
    }


class TestReading:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("kind", ["i1", "u2", ">i4", "f2", "f4", "f8"])
    def test_layouts_and_types(self, tmp_path: Path, layout: str, kind: str) -> None:
        options = LAYOUTS[layout]
        if kind.startswith(">") and options["version"] == 3:
            kind = kind[1:]
        volume = open_ome_zarr(write(tmp_path / "a.zarr", RAMP.astype(kind), **options))
        assert (volume.shape, volume.dtype.kind) == ((4, 5, 6), np.dtype(kind).kind)
        assert volume.voxel_size_A == 13.48
        np.testing.assert_array_equal(volume[ALL], RAMP)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_blocks(self, stores: dict[str, OmeZarrVolume], data: st.DataObject) -> None:
        volume = stores[data.draw(st.sampled_from(sorted(stores)))]
        ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in RAMP.shape]
        block = tuple(slice(low, high) for low, high in ends)
        np.testing.assert_array_equal(volume[block], RAMP[block])

    @pytest.mark.parametrize("axes", ["".join(p) for p in itertools.permutations("zyx")])
    def test_axes_in_any_order(self, tmp_path: Path, axes: str) -> None:
        stored = RAMP.transpose(["zyx".index(axis) for axis in axes])
        volume = open_ome_zarr(write(tmp_path / "a.zarr", np.ascontiguousarray(stored), axes=axes))
        block = (slice(1, 3), slice(0, 4), slice(2, 6))
        assert volume.shape == RAMP.shape
        np.testing.assert_array_equal(volume[block], RAMP[block])

    def test_one_time_and_one_channel(self, tmp_path: Path) -> None:
        for version in (2, 3):
            stored = RAMP[None, None]
            path = write(tmp_path / f"{version}.zarr", stored, axes="tczyx", version=version)
            np.testing.assert_array_equal(open_ome_zarr(path)[ALL], RAMP)

    @pytest.mark.parametrize("axis", ["t", "c"])
    def test_several_times_or_channels(self, tmp_path: Path, axis: str) -> None:
        stored = np.stack([RAMP, RAMP])
        with pytest.raises(InputError, match=f"several volumes: 2 {axis}"):
            open_ome_zarr(write(tmp_path / "a.zarr", stored, axes=f"{axis}zyx"))

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        volume = pickle.loads(pickle.dumps(open_ome_zarr(write(tmp_path / "a.zarr"))))
        np.testing.assert_array_equal(volume[ALL], RAMP)

    def test_a_missing_chunk_has_the_fill_value(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr", fill_value=7)
        (path / "0/1/1/1").unlink()
        expected = RAMP.copy()
        expected[3:, 3:, 3:] = 7
        with pytest.warns(UserWarning, match="1 of the 8 chunks"):
            volume = open_ome_zarr(path)
        np.testing.assert_array_equal(volume[ALL], expected)

    def test_regression_missing_chunks_of_many_are_counted(self, tmp_path: Path) -> None:
        """Above 4096 chunks a store of which half had arrived was read without a word."""
        volume = np.ones((136,) * 3, np.uint8)
        path = write(tmp_path / "a.zarr", volume, chunks=(8, 8, 8))
        for folder in range(0, 17, 2):
            shutil.rmtree(path / "0" / str(folder))
        with pytest.warns(UserWarning, match="2601 of the 4913 chunks"):
            open_ome_zarr(path)

    def test_another_separator_is_told(self, tmp_path: Path) -> None:
        """Case c05: chunks in folders, where .zarray says nothing, which means a dot."""
        path = write(tmp_path / "a.zarr")

        def forget(about: Any) -> None:
            about.pop("dimension_separator", None)

        edit(path / "0/.zarray", forget)
        with pytest.raises(InputError, match="another separator"):
            open_ome_zarr(path)

    def test_the_finest_level_comes_first_whatever_the_order(self, tmp_path: Path) -> None:
        """Case c05: the coarsest level was taken where it was listed first."""
        path = tmp_path / "a.zarr"
        write_ome_zarr(path, RAMP, 10.0, "")
        multiscale(path, lambda m: m["datasets"].reverse())
        volume = open_ome_zarr(path)
        assert (volume.shape, volume.voxel_size_A) == (RAMP.shape, 10.0)

    def test_regression_levels_without_a_scale_stay_where_they_are(self, tmp_path: Path) -> None:
        """One without counted as of 1, and so came first where the others have 10 Å."""
        path = tmp_path / "a.zarr"
        write_ome_zarr(path, RAMP, 10.0, "")
        multiscale(path, lambda m: m["datasets"][1].pop("coordinateTransformations"))
        volume = open_ome_zarr(path)
        assert (volume.shape, volume.voxel_size_A) == (RAMP.shape, 10.0)

    def test_nothing_is_read_before_it_is_asked_for(self, tmp_path: Path) -> None:
        """A damaged chunk harms only those blocks that touch it."""
        path = write(tmp_path / "a.zarr")
        (path / "0/1/1/1").write_bytes(b"\xaa" * 9)
        volume = open_ome_zarr(path)
        np.testing.assert_array_equal(volume[0:3, 0:5, 0:6], RAMP[:3])
        with pytest.raises(InputError, match=r"a\.zarr") as caught:
            volume[ALL]
        assert "\n" not in str(caught.value)


class TestVoxelSize:
    @pytest.mark.parametrize(
        ("unit", "size"),
        [
            ("angstrom", 1.348),
            ("nanometer", 13.48),
            ("micrometer", 13480.0),
            ("picometer", 0.01348),
            ("nm", 13.48),
            ("parsec", None),
            (None, None),
        ],
    )
    def test_units(self, tmp_path: Path, unit: str | None, size: float | None) -> None:
        assert open_ome_zarr(write(tmp_path / "a.zarr", unit=unit)).voxel_size_A == size

    def test_one_axis_without_a_unit(self, tmp_path: Path) -> None:
        path = multiscale(write(tmp_path / "a.zarr"), lambda m: m["axes"][1].pop("unit"))
        assert open_ome_zarr(path).voxel_size_A is None

    def test_units_may_differ(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr")

        def change(m: Any) -> None:
            m["axes"][0]["unit"] = "angstrom"
            m["datasets"][0]["coordinateTransformations"] = scaled(15, 1.5, 1.5)

        assert open_ome_zarr(multiscale(path, change)).voxel_size_A == 15.0

    def test_the_images_own_scale_multiplies(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr")
        multiscale(path, lambda m: m.update(coordinateTransformations=scaled(2, 2, 2)))
        assert open_ome_zarr(path).voxel_size_A == 26.96

    def test_no_scale(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr")
        multiscale(path, lambda m: m["datasets"][0].pop("coordinateTransformations"))
        assert open_ome_zarr(path).voxel_size_A is None

    def test_scales_of_other_axes_do_not_count(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr", RAMP[None], axes="czyx")
        scale = scaled(99, 1.5, 1.5, 1.5)
        multiscale(path, lambda m: m["datasets"][0].update(coordinateTransformations=scale))
        assert open_ome_zarr(path).voxel_size_A == 15.0

    @pytest.mark.parametrize(
        ("scale", "message"),
        [
            ((1.2, 1.1, 1.0), "anisotropic voxels.*10 × 11 × 12 Å"),
            ((0, 0, 0), "voxels of"),
            ((-1, -1, -1), "voxels of"),
            ((1, 1), "one for each axis"),
        ],
    )
    def test_scales_that_are_none(
        self, tmp_path: Path, scale: tuple[float, ...], message: str
    ) -> None:
        path, new = write(tmp_path / "a.zarr"), scaled(*scale)
        multiscale(path, lambda m: m["datasets"][0].update(coordinateTransformations=new))
        with pytest.raises(InputError, match=message):
            assert open_ome_zarr(path).voxel_size_A


class TestLevels:
    def test_the_finest_is_read(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "a.zarr", RAMP, 10.0, "")
        volume = open_ome_zarr(tmp_path / "a.zarr")
        assert (volume.shape, volume.voxel_size_A, volume.dtype) == (RAMP.shape, 10.0, np.float32)
        np.testing.assert_array_equal(volume[ALL], RAMP)

    def test_a_volume_of_zeros(self, tmp_path: Path) -> None:
        """Regression: zarr by itself stores no chunk of zeros, and none is an incomplete store."""
        write_ome_zarr(tmp_path / "a.zarr", np.zeros((3, 4, 5)), 10.0, "")
        assert not open_ome_zarr(tmp_path / "a.zarr")[ALL].any()


PICKLE = {"id": "pickle", "protocol": 5}


class Marks:
    """Unpickling this makes a folder: what a hostile store could do."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.place,)


class TestHostileStores:
    @pytest.mark.parametrize("entry", [{"compressor": PICKLE}, {"filters": [PICKLE]}])
    def test_no_codec_that_runs_code(self, tmp_path: Path, entry: dict[str, Any]) -> None:
        path = write(tmp_path / "a.zarr", compressors=None, chunks=(4, 5, 6))
        (path / "0/0/0/0").write_bytes(pickle.dumps(Marks(str(tmp_path / "ran"))))
        edit(path / "0/.zarray", lambda a: a.update(entry))
        with pytest.raises(InputError, match="pickle"):
            open_ome_zarr(path)[ALL]
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "folder", ["../b.zarr/0", "/etc", "..", ".", "", "0//", "..\\b", "a\0"]
    )
    def test_a_level_elsewhere(self, tmp_path: Path, folder: str) -> None:
        write(tmp_path / "b.zarr")
        path = multiscale(
            write(tmp_path / "a.zarr"), lambda m: m["datasets"][0].update(path=folder)
        )
        with pytest.raises(InputError):
            open_ome_zarr(path)

    @pytest.mark.filterwarnings("ignore:.* chunks of .* are not stored")
    def test_a_folder_of_chunks_elsewhere(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr")
        (path / "0/1").rename(tmp_path / "elsewhere")
        (path / "0/1").symlink_to(tmp_path / "elsewhere")
        volume = open_ome_zarr(path)
        np.testing.assert_array_equal(volume[0:3, 0:5, 0:6], RAMP[:3])
        with pytest.raises(InputError, match=r"0/1/.*link out of the folder"):
            volume[ALL]

    @pytest.mark.parametrize("name", ["0", "0/.zarray", "0/1/1/1", ".zattrs", ".zgroup"])
    @pytest.mark.parametrize("kind", ["link", "pipe", "loop"])
    def test_links_and_pipes(self, tmp_path: Path, name: str, kind: str) -> None:
        other, path = write(tmp_path / "b.zarr"), write(tmp_path / "a.zarr")
        there = path / name
        if there.is_dir():
            shutil.rmtree(there)
        else:
            there.unlink()
        if kind == "pipe":
            os.mkfifo(there)
        else:
            there.symlink_to(other / name if kind == "link" else there)
        with pytest.raises(InputError, match=r"a\.zarr"):
            open_ome_zarr(path)[ALL]

    def test_the_folder_itself_may_be_a_link(self, tmp_path: Path) -> None:
        write(tmp_path / "a.zarr")
        (tmp_path / "link.zarr").symlink_to("a.zarr")
        np.testing.assert_array_equal(open_ome_zarr(tmp_path / "link.zarr")[ALL], RAMP)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"shape": [2**13] * 3, "chunks": [64] * 3}, "implausible"),
            ({"shape": [1024] * 3, "chunks": [1024] * 3}, "implausible"),
            ({"shape": [2000] * 3, "chunks": [2] * 3}, "implausible"),
            ({"shape": [2**62] * 3}, "implausible"),
            ({"shape": [1000] * 3, "chunks": [100] * 3}, "4000000000 bytes announced"),
            ({"shape": [0, 5, 6]}, "voxels in chunks"),
            ({"shape": [-4, 5, 6]}, ""),
            ({"shape": [4, 5]}, ""),
            ({"shape": []}, ""),
            ({"shape": "large"}, ""),
            ({"chunks": [0, 0, 0]}, ""),
            ({"chunks": [3, 3]}, ""),
            ({"dtype": "<c8", "fill_value": None}, "no real numbers"),
            ({"dtype": "|O"}, ""),
            ({"dtype": "<M8[s]"}, ""),
            ({"dtype": [["a", "<f4"]]}, ""),
            ({"dtype": "|b1"}, "no real numbers"),
            ({"compressor": {"id": "unheard"}}, ""),
            ({"compressor": {"id": "lzma"}}, "codecs lzma"),
            ({"compressor": 7}, ""),
            ({"dimension_separator": "."}, "480 bytes announced, 0 stored"),
            ({"zarr_format": 4}, ""),
        ],
    )
    def test_arrays(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        path = write(tmp_path / "a.zarr")
        edit(path / "0/.zarray", lambda a: a.update(changes))
        begin = time.process_time()
        with pytest.raises(InputError, match=f"a.zarr.*{message}") as caught:
            open_ome_zarr(path)
        assert time.process_time() - begin < 3
        assert "\n" not in str(caught.value)

    def test_codecs_within_shards(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr", version=3, chunks=(2, 3, 2), shards=(4, 3, 4))

        def change(array: Any) -> None:
            array["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.lzma"})

        edit(path / "0/zarr.json", change)
        with pytest.raises(InputError, match=r"lzma"):
            open_ome_zarr(path)

    def test_shards_may_be_larger_than_a_chunk(self, tmp_path: Path) -> None:
        """A gigabyte in a file is none in memory where it is read by its inner chunks."""
        store = zarr.storage.LocalStore(write(tmp_path / "a.zarr", version=3))
        array = zarr.create_array(
            store,
            name="0",
            shape=(1024, 1024, 1024),
            dtype="i1",
            chunks=(64, 64, 64),
            shards=(1024, 1024, 1024),
            overwrite=True,
        )
        block = np.random.default_rng(0).integers(-128, 128, size=(256, 64, 64), dtype="i1")
        array[:256, :64, :64] = block
        read = open_ome_zarr(tmp_path / "a.zarr")
        np.testing.assert_array_equal(read[100:200, :64, :64], block[100:200])

    def test_a_chunk_that_is_too_long(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.zarr")
        with (path / "0/1/1/1").open("r+b") as file:
            file.truncate(2**21)
        with pytest.raises(InputError, match="2097152 bytes in 0/1/1/1"):
            open_ome_zarr(path)[ALL]

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.clear(),
            lambda m: m.update(axes=["z", "y", "x"]),
            lambda m: m.update(axes=7),
            lambda m: m["axes"].pop(),
            lambda m: m["axes"].append({"name": "c"}),
            lambda m: m["axes"][0].update(name="x"),
            lambda m: m["axes"][0].update(name="Z"),
            lambda m: m["axes"][0].update(name=3),
            lambda m: m.update(datasets=[]),
            lambda m: m["datasets"][0].pop("path"),
            lambda m: m["datasets"][0].update(path="1"),
            lambda m: m["datasets"][0].update(coordinateTransformations="wide"),
            lambda m: m["datasets"][0].update(coordinateTransformations=scaled("a", "b", "c")),  # type: ignore[arg-type]
        ],
    )
    def test_images(self, tmp_path: Path, change: Callable[[Any], Any]) -> None:
        with pytest.raises(InputError, match=r"a\.zarr") as caught:
            open_ome_zarr(multiscale(write(tmp_path / "a.zarr"), change))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", [".zattrs", ".zgroup", "0/.zarray"])
    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "7", "null", '{"multiscales": {}}', "[" * 10**5]
    )
    def test_files_of_metadata(self, tmp_path: Path, name: str, content: str) -> None:
        path = write(tmp_path / "a.zarr")
        (path / name).write_text(content)
        with pytest.raises(InputError, match=r"a\.zarr"):
            open_ome_zarr(path)

    @pytest.mark.parametrize("name", [".zattrs", "0/.zarray"])
    def test_megabytes_of_metadata(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / "a.zarr")
        (path / name).write_text((path / name).read_text() + " " * 2**24)
        with pytest.raises(InputError, match="bytes of metadata"):
            open_ome_zarr(path)

    def test_what_is_no_store(self, tmp_path: Path) -> None:
        (tmp_path / "file.zarr").write_text("")
        (tmp_path / "empty.zarr").mkdir()
        (tmp_path / "loop.zarr").symlink_to(tmp_path / "loop.zarr")
        write(tmp_path / "image.zarr")
        for name in ("file", "empty", "loop", "missing", "image.zarr/0", "a\0b"):
            path = tmp_path / (name if "/" in name else f"{name}.zarr")
            with pytest.raises(InputError):
                open_ome_zarr(path)


def test_without_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ConfigError, match=r"pip install 'tomadapt\[formats\]'"):
        open_ome_zarr(tmp_path / "a.zarr")
