"""Labelled particles from a folder with one folder or stack a class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms, standardise
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.inputs.labelled import open_labelled_folder

BOX = 24


def balls(n: int, *, seed: int = 0, box: int = BOX, height: float = 3.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    axis = np.arange(box) - box // 2
    ball = height * (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < (box / 6) ** 2)
    return (ball + rng.normal(size=(n, box, box, box))).astype(np.float32)


def write_mrc(path: Path, data: NDArray[Any], voxel_size_A: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_size_A


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`b` as a folder of three cubes, `a` as a stack of two."""
    for index, cube in enumerate(balls(3, seed=1)):
        write_mrc(tmp_path / "b" / f"{index}.mrc", cube)
    write_mrc(tmp_path / "a.mrc", balls(2, seed=2))
    (tmp_path / "notes.txt").write_text("not a class")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_round_trip(folder: Path, order: tuple[str, str]) -> None:
    cubes = {"a": balls(2, seed=2), "b": balls(3, seed=1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_labelled_folder(folder, order)
    assert type(data) is LabelledSubtomograms
    assert data.class_names == order
    assert (data.box, data.voxel_size_A, data.acquisition) == (BOX, 10.0, None)
    expected = np.concatenate([cubes[name] for name in order])
    assert data.labels.tolist() == [i for i, name in enumerate(order) for _ in cubes[name]]
    np.testing.assert_array_equal(data.source.read(range(5)), expected)
    np.testing.assert_array_equal(data.source.read([4, 0, 2, 4]), expected[[4, 0, 2, 4]])
    np.testing.assert_array_equal(data.read([3, 1]), standardise(data.source.read([3, 1])))


def test_no_particle_is_lost(tmp_path: Path) -> None:
    counts = {"x": 4, "y": 1, "z": 7}
    for seed, (name, count) in enumerate(counts.items()):
        np.save(tmp_path / f"{name}.npy", balls(count, seed=seed))
    data = open_labelled_folder(tmp_path, list(counts), voxel_size_A=8.0)
    assert np.bincount(data.labels).tolist() == list(counts.values())
    assert len(np.unique(data.source.read(range(12)).flatten(1).numpy(), axis=0)) == 12
    assert data.voxel_size_A == 8.0


def test_the_fingerprint_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    ours = open_labelled_folder(folder, ["a", "b"]).fingerprint
    assert open_labelled_folder(folder, ["a", "b"]).fingerprint == ours
    assert open_labelled_folder(folder, ["b", "a"]).fingerprint != ours
    cube = balls(3, seed=1)[1]
    cube[3, 4, 5] += 1e-3
    with mrcfile.mmap(folder / "b" / "1.mrc", mode="r+") as mrc:
        mrc.set_data(cube)
    assert open_labelled_folder(folder, ["a", "b"]).fingerprint != ours


def test_the_same_voxels_divided_otherwise_are_another_input(tmp_path: Path) -> None:
    cubes = balls(5)
    for name, border in (("one", 2), ("two", 3)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", cubes[:border])
        np.save(tmp_path / name / "b.npy", cubes[border:])
    one, two = (
        open_labelled_folder(tmp_path / name, ["a", "b"], voxel_size_A=10.0)
        for name in ("one", "two")
    )
    np.testing.assert_array_equal(one.read(range(5)), two.read(range(5)))
    assert one.fingerprint != two.fingerprint


def test_what_is_not_read_is_listed(folder: Path) -> None:
    np.save(folder / "c.npy", balls(1))
    (folder / "old").mkdir()
    write_mrc(folder / "b" / "more" / "x.mrc", balls(1)[0])
    np.save(folder / "b" / "rest.npy", balls(2))
    with pytest.warns(UserWarning, match=r"not read: c\.npy, old, b/more, b/rest\.npy"):
        assert len(open_labelled_folder(folder, ["a", "b"])) == 5
    with pytest.warns(UserWarning, match=r"not read: a\.mrc"):
        assert len(open_labelled_folder(folder, ["b"])) == 3


def test_missing_classes_are_named_before_any_file_is_read(folder: Path) -> None:
    (folder / "a.mrc").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"no particles of d, e; .*got a\.mrc, b\."):
        open_labelled_folder(folder, ["a", "d", "b", "e"])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got nothing"):
        open_labelled_folder(tmp_path / "no", ["a"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="got a file"):
        open_labelled_folder(tmp_path / "file", ["a"])


@pytest.mark.parametrize("names", [[], ["a", "a"], [""], ["../a"], ["x/y"], ["/a"]])
def test_names_that_cannot_be_classes(folder: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_labelled_folder(folder, names)


def test_a_single_name_is_not_taken_for_its_letters(folder: Path) -> None:
    np.save(folder / "tric.npy", balls(1))
    with pytest.warns(UserWarning, match="not read"):
        data = open_labelled_folder(folder, "tric", voxel_size_A=10.0)
    assert data.class_names == ("tric",)


def test_a_class_that_is_there_twice(folder: Path) -> None:
    np.save(folder / "b.npy", balls(1))
    with pytest.raises(InputError, match=r"the class b more than once; .*got b, b\.npy"):
        open_labelled_folder(folder, ["a", "b"])


def test_an_empty_class(folder: Path) -> None:
    (folder / "c").mkdir()
    with pytest.raises(InputError, match=r"no \.mrc or \.em cubes in .*c"):
        open_labelled_folder(folder, ["a", "b", "c"])


def test_a_simulated_set_has_labels_of_its_own(folder: Path) -> None:
    (folder / "c").mkdir()
    (folder / "c" / "set.json").write_text("{}")
    with pytest.raises(InputError, match=r"is a simulated set.*open_set"):
        open_labelled_folder(folder, ["a", "c"])


def test_classes_that_differ_in_box(folder: Path) -> None:
    write_mrc(folder / "c.mrc", balls(2, box=25))
    with pytest.raises(
        MismatchError, match=r"differ in box; expected 24 voxels \(a\); got 25 voxels \(c\)"
    ):
        open_labelled_folder(folder, ["a", "b", "c"])


def test_classes_that_differ_in_voxel_size(folder: Path) -> None:
    write_mrc(folder / "c.mrc", balls(2), 10.05)
    with pytest.warns(UserWarning, match="not read: b"):
        assert open_labelled_folder(folder, ["a", "c"]).voxel_size_A == 10.0
    write_mrc(folder / "d.mrc", balls(2), 12.0)
    with (
        pytest.raises(MismatchError, match=r"voxel size; expected 10 Å \(a\); got 12 Å \(d\)"),
        pytest.warns(UserWarning, match="not read"),
    ):
        open_labelled_folder(folder, ["a", "d"])


def test_an_unknown_voxel_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", balls(2))
    with pytest.raises(ConfigError, match=r"voxel size of .*a\.npy is unknown"):
        open_labelled_folder(tmp_path, ["a"])


class TestContrast:
    """Of all classes together: empty boxes between neighbours are darker in the middle."""

    def save(self, path: Path, sign: int) -> None:
        np.save(path / "particle.npy", sign * balls(12))
        np.save(path / "null.npy", sign * balls(6, seed=1, height=-1.0))

    def test_a_class_darker_in_the_middle_is_none_of_inverted_contrast(
        self, tmp_path: Path
    ) -> None:
        self.save(tmp_path, 1)
        for names in (["particle", "null"], ["null", "particle"]):
            data = open_labelled_folder(tmp_path, names, voxel_size_A=10.0)
            assert len(data) == 18

    def test_all_inverted(self, tmp_path: Path) -> None:
        self.save(tmp_path, -1)
        names = ["null", "particle"]
        with pytest.raises(ConfigError, match=r"seems inverted.*negative"):
            open_labelled_folder(tmp_path, names, voxel_size_A=10.0)
        data = open_labelled_folder(tmp_path, names, voxel_size_A=10.0, contrast="negative")
        np.testing.assert_array_equal(data.source.read([6, 7]), balls(12)[:2])
        with pytest.warns(UserWarning, match=r"stated to have positive contrast"):
            open_labelled_folder(tmp_path, names, voxel_size_A=10.0, contrast="positive")
