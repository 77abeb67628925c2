"""Volumes of labels: every ball where it belongs, and a store that all readers take."""

from __future__ import annotations

import errno
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, OutputError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io import label_zarr
from tomadapt.io.label_zarr import write_label_zarr
from tomadapt.io.ome_zarr import open_ome_zarr
from zarr_images import write_ome_zarr

zarr = pytest.importorskip("zarr")

ALL = (slice(None),) * 3
VOXEL_A = 10.0
NAMES = ("ribosome", "proteasome", "null")


def write(path: Path, particles: list[tuple[list[float], int, float]], **options: Any) -> Path:
    """Particles as (xyz in Å, label, radius in Å)."""
    arguments: dict[str, Any] = {
        "shape_zyx": (9, 10, 11),
        "voxel_size_A": VOXEL_A,
        "coordinates_A": [p[0] for p in particles],
        "labels": np.array([p[1] for p in particles], dtype=int),
        "radii_A": [p[2] for p in particles],
        "class_names": NAMES,
    }
    write_label_zarr(path, **arguments | options)
    return path


def voxel_by_voxel(
    shape: tuple[int, int, int], particles: list[tuple[list[float], int, float]]
) -> NDArray[np.int64]:
    """Asks of each voxel which particles it belongs to: the last one counts."""
    volume = np.zeros(shape, dtype=np.int64)
    for z, y, x in np.ndindex(shape):
        for (px, py, pz), label, radius in particles:
            distance = np.linalg.norm([x * VOXEL_A - px, y * VOXEL_A - py, z * VOXEL_A - pz])
            own = max(abs(x - px / VOXEL_A), abs(y - py / VOXEL_A), abs(z - pz / VOXEL_A)) < 0.5
            if distance <= radius or own:
                volume[z, y, x] = label + 1
    return volume


def position(n: int) -> st.SearchStrategy[float]:
    # Quarters of a voxel and a bit: no distance is on a border, where rounding would decide.
    return st.integers(-1, 4 * (n - 1) + 1).map(lambda k: (k / 4 + 0.013) * VOXEL_A)


particles = st.lists(
    st.tuples(
        st.tuples(position(8), position(6), position(7)).map(list),
        st.integers(0, 2),
        st.floats(0.1, 45, allow_subnormal=False),
    ),
    max_size=4,
)


class TestBalls:
    @settings(max_examples=40, deadline=None)
    @given(particles=particles, block=st.sampled_from([4, 8]))
    def test_against_every_voxel(
        self,
        particles: list[tuple[list[float], int, float]],
        block: int,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        path = tmp_path_factory.mktemp("a") / "a.zarr"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(label_zarr, "_BLOCK", block)  # several blocks in a small volume
            patch.setattr(label_zarr, "CHUNK", 3)
            write(path, particles, shape_zyx=(7, 6, 8))
        expected = voxel_by_voxel((7, 6, 8), particles)
        group = zarr.open_group(path, mode="r")
        for level, factor in enumerate((1, 2, 4)):
            found = group[str(level)][:]
            np.testing.assert_array_equal(found, expected[::factor, ::factor, ::factor])
        finest = open_ome_zarr(path)
        np.testing.assert_array_equal(finest[ALL], expected)
        assert finest.voxel_size_A == VOXEL_A

    def test_by_hand(self, tmp_path: Path) -> None:
        """x is the last axis; the particle that comes later is seen."""
        two = [([80.0, 30.0, 20.0], 1, 10.0), ([70.0, 30.0, 20.0], 0, 1.0)]
        found = open_ome_zarr(write(tmp_path / "a.zarr", two))[ALL]
        assert np.argwhere(found == 2).tolist() == [
            [1, 3, 8], [2, 2, 8], [2, 3, 8], [2, 3, 9], [2, 4, 8], [3, 3, 8]
        ]  # fmt: skip
        assert np.argwhere(found == 1).tolist() == [[2, 3, 7]]

    def test_none(self, tmp_path: Path) -> None:
        assert not open_ome_zarr(write(tmp_path / "a.zarr", []))[ALL].any()

    def test_larger_than_everything(self, tmp_path: Path) -> None:
        found = open_ome_zarr(write(tmp_path / "a.zarr", [([50.0] * 3, 2, 1e300)]))[ALL]
        assert (found == 3).all()

    def test_more_classes_than_a_byte_counts(self, tmp_path: Path) -> None:
        for n, dtype in ((255, "uint8"), (256, "uint16")):
            names = [str(k) for k in range(n)]
            path = write(tmp_path / f"{n}.zarr", [([50.0] * 3, n - 1, 1.0)], class_names=names)
            found = open_ome_zarr(path)
            assert (found.dtype, int(found[ALL].max())) == (np.dtype(dtype), n)


class TestStore:
    def test_metadata(self, tmp_path: Path) -> None:
        """What the specification of labels in OME-Zarr 0.4 asks for."""
        path = write(tmp_path / "picks.ome.zarr", [([50.0] * 3, 0, 20.0)])
        found = json.loads((path / ".zattrs").read_text())
        image, label = found["multiscales"][0], found["image-label"]
        assert (image["version"], label["version"], image["name"]) == ("0.4", "0.4", "picks")
        assert image["axes"] == [
            {"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"
        ]
        assert [(d["path"], d["coordinateTransformations"]) for d in image["datasets"]] == [
            (str(n), [{"type": "scale", "scale": [VOXEL_A * 2**n] * 3}]) for n in range(3)
        ]
        assert label["properties"] == [
            {"label-value": n, "class": name} for n, name in enumerate(NAMES, start=1)
        ]
        colours = {tuple(colour["rgba"]) for colour in label["colors"]}
        assert [colour["label-value"] for colour in label["colors"]] == [1, 2, 3]
        assert len(colours) == 3
        assert all(0 <= part <= 255 for colour in colours for part in colour)
        group = zarr.open_group(path, mode="r")
        assert (group["0"].dtype, group["0"].shape, group["2"].shape) == (
            np.uint8, (9, 10, 11), (3, 3, 3)
        )  # fmt: skip

    def test_it_lies_over_its_tomogram(self, tmp_path: Path) -> None:
        density = np.random.default_rng(0).normal(size=(9, 10, 11))
        write_ome_zarr(tmp_path / "t.zarr", density, VOXEL_A, "t")
        write(tmp_path / "l.zarr", [([50.0] * 3, 0, 20.0)])
        image, labels = (
            open_tomogram(tmp_path / f"{name}.zarr", contrast="positive") for name in "tl"
        )
        assert image.density.shape == labels.density.shape
        assert image.voxel_size_A == labels.voxel_size_A == VOXEL_A

    def test_large_and_empty_is_read_back_in_bounded_memory(self, tmp_path: Path) -> None:
        """The reader distrusts more than 64 MiB that are packed to less than a thousandth."""
        shape = (257, 520, 520)
        tracemalloc.start()
        write(tmp_path / "a.zarr", [([5190.0, 5190.0, 2560.0], 2, 1.0)], shape_zyx=shape)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6 < np.prod(shape)
        found = open_ome_zarr(tmp_path / "a.zarr")
        last = found[(slice(256, 257), slice(512, 520), slice(512, 520))]
        assert np.argwhere(last).tolist() == [[0, 7, 7]]

    def test_nothing_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "loop.zarr").symlink_to(tmp_path / "loop.zarr")
        for name in ("a.zarr", "loop.zarr"):
            with pytest.raises(OutputError, match="is there already"):
                write(tmp_path / name, [])
        assert list((tmp_path / "a.zarr").iterdir()) == []

    def test_no_folder_to_write_into(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            write(tmp_path / "file" / "a.zarr", [])

    @pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
    def test_a_crash_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
    ) -> None:
        def crash(*_: Any) -> None:
            assert len(list(tmp_path.iterdir())) == 1
            raise fault

        monkeypatch.setattr(label_zarr, "_paint", crash)
        expected = OutputError if isinstance(fault, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            write(tmp_path / "a.zarr", [])
        assert list(tmp_path.iterdir()) == []

    def test_without_zarr(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "zarr", None)
        with pytest.raises(ConfigError, match=r"pip install 'tomadapt\[formats\]'"):
            write(tmp_path / "a.zarr", [])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two axes": ({"shape_zyx": (4, 5)}, "voxels along z, y, x"),
    "no voxels": ({"shape_zyx": (0, 5, 5)}, "voxels along z, y, x"),
    "voxel of nothing": ({"voxel_size_A": 0.0}, "voxel size"),
    "voxel of NaN": ({"voxel_size_A": float("nan")}, "voxel size"),
    "no classes": ({"class_names": ()}, "1 to 65535 names"),
    "label too large": ({"labels": [0, 3]}, r"indices from 0 to 2.*\[0 3\]"),
    "label below": ({"labels": [0, -1]}, "indices from 0 to 2"),
    "label no number": ({"labels": ["a", "b"]}, "indices from 0 to 2"),
    "half a label": ({"labels": [0.5, 0.0]}, "indices from 0 to 2"),
    "one label": ({"labels": [0]}, "2 coordinates, 1 labels, 2 radii"),
    "radius of nothing": ({"radii_A": [10.0, 0.0]}, "positive Å"),
    "radius of NaN": ({"radii_A": [10.0, float("nan")]}, "positive Å"),
    "outside": ({"coordinates_A": [[0, 0, 0], [0, 0, 95.0]]}, r"particle 1 .*\[9.5, 0.0, 0.0\]"),
    "before the first": ({"coordinates_A": [[-5.1, 0, 0], [0, 0, 0]]}, "particle 0"),
    "NaN": ({"coordinates_A": [[0, 0, 0], [0, np.nan, 0]]}, "particle 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_painted(name: str, tmp_path: Path) -> None:
    options, expected = WRONG[name]
    two = [([50.0] * 3, 0, 10.0), ([20.0] * 3, 1, 10.0)]
    with pytest.raises(ConfigError, match=expected):
        write(tmp_path / "a.zarr", two, **options)
    assert list(tmp_path.iterdir()) == []
