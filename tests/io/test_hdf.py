"""The reader of EMAN2's HDF5 files: what is in them, and what is wrong with them."""

from __future__ import annotations

import os
import pickle
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

from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.hdf import open_hdf

h5py = pytest.importorskip("h5py")

RAMP = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
PACKED = {"chunks": (2, 3, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}


def write(
    path: Path,
    volumes: list[NDArray[Any]],
    *,
    apix: Any = 13.48,
    header: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A file as EMAN2 writes it: attributes of the groups, each an array of one number."""
    with h5py.File(path, "w") as file:
        images = file.create_group("MDF/images")
        images.attrs["imageid_max"] = np.array([len(volumes) - 1], "i4")
        for number, volume in enumerate(volumes):
            group = images.create_group(str(number))
            sizes = apix[number] if isinstance(apix, list) else apix
            for axis, size in zip("xyz", np.broadcast_to(sizes, 3), strict=True):
                group.attrs[f"EMAN.apix_{axis}"] = np.array([size], "f4")
            for name, value in (header or {}).items():
                group.attrs[f"EMAN.{name}"] = value
            group.create_dataset("image", data=volume, **options)
    return path


class TestVolume:
    @pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "f2", "f4", "f8", ">f4", ">i2"])
    @pytest.mark.parametrize("options", [{}, PACKED], ids=["plain", "packed"])
    def test_types(self, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
        stack = open_hdf(write(tmp_path / "a.hdf", [RAMP.astype(kind)], **options))
        (volume,) = stack.volumes
        assert (volume.shape, volume.dtype) == ((4, 5, 6), np.dtype(kind))
        assert stack.voxel_size_A == 13.48
        np.testing.assert_array_equal(volume[:4, :5, :6], RAMP)

    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_blocks(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        path = tmp_path_factory.mktemp("blocks") / "a.hdf"
        (volume,) = open_hdf(write(path, [RAMP], **PACKED)).volumes
        ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in RAMP.shape]
        block = tuple(slice(low, high) for low, high in ends)
        np.testing.assert_array_equal(volume[block], RAMP[block])

    def test_nothing_is_read_before_it_is_asked_for(self, tmp_path: Path) -> None:
        """A damaged chunk harms only those blocks that touch it."""
        path = write(tmp_path / "a.hdf", [RAMP], **PACKED)
        with h5py.File(path) as file:
            chunks = file["MDF/images/0/image"].id
            place = next(
                chunk
                for chunk in map(chunks.get_chunk_info, range(chunks.get_num_chunks()))
                if chunk.chunk_offset == (2, 3, 4)
            ).byte_offset
        with path.open("r+b") as raw:
            raw.seek(place)
            raw.write(b"\xaa" * 12)
        (volume,) = open_hdf(path).volumes
        np.testing.assert_array_equal(volume[0:2, 0:5, 0:6], RAMP[:2])
        with pytest.raises(InputError, match=r"a\.hdf"):
            volume[0:4, 0:5, 0:6]

    @pytest.mark.parametrize("bits", [3, 8, 12])
    def test_integers_that_stand_for_steps(self, tmp_path: Path, bits: int) -> None:
        """0 is the lowest value, 2^bits − 1 the highest, and steps between are equal."""
        most = 2**bits - 1
        counts = np.linspace(0, most, RAMP.size).round().astype("u2").reshape(RAMP.shape)
        header = {"stored_renderbits": bits, "stored_rendermin": -1.5, "stored_rendermax": 2.25}
        stack = open_hdf(write(tmp_path / "a.hdf", [counts], header=header))
        values = stack.volumes[0][0:4, 0:5, 0:6]
        assert stack.dtype == values.dtype == np.float32
        assert (values.min(), values.max()) == (-1.5, pytest.approx(2.25, abs=1e-6))
        np.testing.assert_allclose(values, -1.5 + counts * (3.75 / most), atol=1e-6)
        np.testing.assert_array_equal(stack[np.array([0])][0], values)

    def test_no_bits_are_no_steps(self, tmp_path: Path) -> None:
        header = {"stored_renderbits": 0, "stored_rendermin": 1.0, "stored_rendermax": 2.0}
        (volume,) = open_hdf(write(tmp_path / "a.hdf", [RAMP], header=header)).volumes
        np.testing.assert_array_equal(volume[0:4, 0:5, 0:6], RAMP)

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        stack = pickle.loads(pickle.dumps(open_hdf(write(tmp_path / "a.hdf", [RAMP]))))
        np.testing.assert_array_equal(stack.volumes[0][0:4, 0:5, 0:6], RAMP)

    def test_a_file_that_changed_since(self, tmp_path: Path) -> None:
        (volume,) = open_hdf(write(tmp_path / "a.hdf", [RAMP])).volumes
        with h5py.File(tmp_path / "a.hdf", "w"):
            pass
        with pytest.raises(InputError, match="not there any more"):
            volume[0:1, 0:1, 0:1]
        (tmp_path / "a.hdf").unlink()
        with pytest.raises(InputError, match="does not exist"):
            volume[0:1, 0:1, 0:1]


class TestStack:
    def test_order_is_that_of_the_numbers(self, tmp_path: Path) -> None:
        """As text, 10 comes before 2."""
        cubes = [np.full((3, 3, 3), i, "f4") + RAMP[:3, :3, :3] for i in range(12)]
        stack = open_hdf(write(tmp_path / "a.hdf", cubes))
        assert stack.shape == (12, 3, 3, 3)
        assert len(stack) == 12
        np.testing.assert_array_equal(list(stack), cubes)
        rows = np.array([11, 2, 2, 10])
        np.testing.assert_array_equal(stack[rows], np.stack(cubes)[rows])

    def test_cubes_of_their_own_ranges(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.hdf", [np.eye(3, dtype="u1")[None].repeat(3, 0)] * 2)
        with h5py.File(path, "r+") as file:
            file["MDF/images/1"].attrs.update(
                {
                    "EMAN.stored_renderbits": 1,
                    "EMAN.stored_rendermin": 5.0,
                    "EMAN.stored_rendermax": 7.0,
                }
            )
        first, second = open_hdf(path)[np.array([0, 1])]
        assert (first.min(), first.max(), second.min(), second.max()) == (0, 1, 5, 7)

    def test_shapes_that_differ(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"image 1 of shape \(4, 4, 4\) after .* \(3, 3, 3\)"):
            open_hdf(write(tmp_path / "a.hdf", [np.ones((3,) * 3), np.ones((4,) * 3)]))

    def test_voxel_sizes_that_differ(self, tmp_path: Path) -> None:
        for sizes, got in (([10.0, 12.0], "10 Å, 12 Å"), ([10.0, 0.0], "10 Å, unknown")):
            with pytest.raises(MismatchError, match=got):
                _ = open_hdf(write(tmp_path / "a.hdf", [RAMP, RAMP], apix=sizes)).voxel_size_A


class TestVoxelSize:
    @pytest.mark.parametrize("size", [0.0, 1.0, -3.0, np.nan, np.inf])
    def test_one_that_nobody_set(self, tmp_path: Path, size: float) -> None:
        assert open_hdf(write(tmp_path / "a.hdf", [RAMP], apix=size)).voxel_size_A is None

    def test_without_attributes(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.hdf", "w") as file:
            file["MDF/images/0/image"] = RAMP
        assert open_hdf(tmp_path / "a.hdf").voxel_size_A is None

    def test_anisotropic(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="10 × 10 × 11 Å"):
            assert open_hdf(write(tmp_path / "a.hdf", [RAMP], apix=[(10, 10, 11)])).voxel_size_A

    def test_no_number(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="apix_y is no number"):
            open_hdf(write(tmp_path / "a.hdf", [RAMP], header={"apix_y": "wide"}))


def external_link(path: Path, file: Any) -> None:
    del file["MDF/images/0/image"]
    file["MDF/images/0/image"] = h5py.ExternalLink(str(path / "other.h5"), "/data")


def external_group(path: Path, file: Any) -> None:
    del file["MDF"]
    file["MDF"] = h5py.ExternalLink(str(path / "other.h5"), "/")


def soft_link(path: Path, file: Any) -> None:
    file["data"] = RAMP
    del file["MDF/images/0/image"]
    file["MDF/images/0/image"] = h5py.SoftLink("/data")


def virtual(path: Path, file: Any) -> None:
    layout = h5py.VirtualLayout(RAMP.shape, "f4")
    layout[:] = h5py.VirtualSource(str(path / "other.h5"), "data", RAMP.shape)
    del file["MDF/images/0/image"]
    file["MDF/images/0"].create_virtual_dataset("image", layout)


def external_storage(path: Path, file: Any) -> None:
    (path / "raw").write_bytes(RAMP.tobytes())
    replaced(file, shape=RAMP.shape, dtype="f4", external=[(str(path / "raw"), 0, RAMP.nbytes)])


def unknown_filter(path: Path, file: Any) -> None:
    replaced(file, shape=RAMP.shape, dtype="f4", chunks=RAMP.shape, compression=40000)


def replaced(file: Any, **options: Any) -> None:
    options.setdefault("allow_unknown_filter", True)
    del file["MDF/images/0/image"]
    file["MDF/images/0"].create_dataset("image", **options)


def zeros(path: Path, file: Any) -> None:
    """A hundred megabytes that are packed into some thousand bytes."""
    options = {"chunks": (10, 800, 800), "compression": "gzip", "compression_opts": 9}
    replaced(file, data=np.zeros((40, 800, 800), "f4"), **options)


FAULTS: dict[str, tuple[Callable[[Path, Any], None], str]] = {
    "external link": (external_link, "link to elsewhere"),
    "external group": (external_group, "link to elsewhere"),
    "soft link": (soft_link, "link to elsewhere"),
    "virtual": (virtual, "voxels in other files"),
    "external storage": (external_storage, "voxels in other files"),
    "unknown filter": (unknown_filter, "filter 40000"),
    "an image": (lambda p, f: replaced(f, data=RAMP[0]), "no volume"),
    "four axes": (lambda p, f: replaced(f, data=RAMP[None]), "no volume"),
    "no axis": (lambda p, f: replaced(f, data=3.0), "no volume"),
    "no voxels": (lambda p, f: replaced(f, data=RAMP[:0]), "no volume"),
    "nothing": (lambda p, f: replaced(f, data=h5py.Empty("f4")), "no volume"),
    "complex": (lambda p, f: replaced(f, data=RAMP + 1j), "no real numbers"),
    "text": (lambda p, f: replaced(f, data=np.full((2, 2, 2), b"ab")), "no real numbers"),
    "a transform": (
        lambda p, f: f["MDF/images/0"].attrs.update({"EMAN.is_complex": 1}),
        "a Fourier transform",
    ),
    "many bits": (
        lambda p, f: f["MDF/images/0"].attrs.update({"EMAN.stored_renderbits": 64}),
        "64 bits",
    ),
    "a group for voxels": (
        lambda p, f: (f.pop("MDF/images/0/image"), f["MDF/images/0"].create_group("image")),
        "no voxels",
    ),
    "no image": (lambda p, f: f.pop("MDF/images/0"), "no image"),
    "an image without voxels": (lambda p, f: f.pop("MDF/images/0/image"), "no image in /MDF"),
    "another layout": (lambda p, f: f.move("MDF", "data"), "no MDF"),
    "a dataset for images": (
        lambda p, f: (f.pop("MDF/images"), f.create_dataset("MDF/images", data=RAMP)),
        "cannot read",
    ),
    "never written": (
        lambda p, f: replaced(f, shape=(40, 50, 60), dtype="f4"),
        "not written to its end",
    ),
    "half of its chunks": (
        lambda p, f: (
            replaced(f, shape=(4, 5, 6), dtype="f4", chunks=(2, 5, 6)),
            f["MDF/images/0/image"].write_direct(RAMP, np.s_[:2], np.s_[:2]),
        ),
        "not written to its end",
    ),
    "more voxels than there are": (
        lambda p, f: replaced(f, shape=(2**20, 2**20, 2**20), dtype="i1", chunks=(64, 64, 64)),
        "implausible",
    ),
    "a chunk of a gigabyte": (
        lambda p, f: replaced(f, shape=(1024, 1024, 1024), dtype="i1", chunks=(1024,) * 3),
        "implausible",
    ),
    "a bomb": (zeros, "implausible"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, fault: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = RAMP
        other["images/0/image"] = RAMP
    path = write(tmp_path / "a.hdf", [RAMP])
    change, message = FAULTS[fault]
    with h5py.File(path, "r+") as file:
        change(tmp_path, file)
    begin = time.process_time()
    with pytest.raises(InputError, match=message) as caught:
        open_hdf(path)
    assert time.process_time() - begin < 1
    assert "a.hdf" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 8, 100, 1000, -100, -1])
def test_truncated_files(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "a.hdf", [RAMP])
    path.write_bytes(path.read_bytes()[:count])
    with pytest.raises(InputError, match=r"cannot read .*a\.hdf"):
        open_hdf(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.hdf").mkdir()
    (tmp_path / "loop.hdf").symlink_to(tmp_path / "loop.hdf")
    (tmp_path / "text.hdf").write_text("not HDF5" * 300)
    os.mkfifo(tmp_path / "pipe.hdf")
    for name in ("folder.hdf", "loop.hdf", "pipe.hdf", "missing.hdf", "text.hdf", "a\0b.hdf"):
        with pytest.raises(InputError):
            open_hdf(tmp_path / name)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.hdf", [RAMP])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'tomadapt\[formats\]'"):
        open_hdf(path)
