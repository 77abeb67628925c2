"""Subtomograms from other programs' files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import emfile
import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import LabelledSubtomograms, Subtomograms, standardise
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.inputs.particles import ArrayVolumes, measured_contrast, open_target
from tomadapt.simulate.dataset import SimulationConfig, simulate_set

BOX = 24


def balls(n: int = 6, box: int = BOX, sign: float = 1.0) -> NDArray[np.float32]:
    """Bright (or dark) balls in noise, each with an offset of its own to be told by."""
    rng = np.random.default_rng(0)
    axis = np.arange(box) - box // 2
    radius2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2
    ball = 3.0 * (radius2 < (box / 6) ** 2)
    return (sign * (ball + rng.normal(size=(n, box, box, box)))).astype(np.float32)


def write_mrc(path: Path, data: NDArray[Any], voxel_size_A: float = 10.0) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_size_A
    return path


def write_hdf(path: Path, cubes: NDArray[Any], voxel_size_A: float = 10.0, **header: float) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for number, cube in enumerate(cubes):
            group = file.create_group(f"MDF/images/{number}")
            group.create_dataset("image", data=cube, chunks=cube.shape, compression="gzip")
            group.attrs.update({f"EMAN.apix_{axis}": voxel_size_A for axis in "xyz"})
            group.attrs.update({f"EMAN.{name}": value for name, value in header.items()})
    return path


def assert_same(data: Subtomograms, cubes: NDArray[Any], sign: int = 1) -> None:
    """The particles are these cubes, in this order, standardised."""
    assert len(data) == len(cubes)
    read = data.read(range(len(cubes))).numpy()
    flat = sign * cubes.astype(np.float64).reshape(len(cubes), -1)
    flat = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    np.testing.assert_allclose(read.reshape(flat.shape), flat, atol=1e-4)


class TestKinds:
    def test_set(self, tmp_path: Path) -> None:
        config = SimulationConfig.model_validate(
            {
                "classes": ["apoferritin", "null"],
                "acquisition": "batch_b",
                "per_class": 3,
                "snr": 0.5,
                "box": BOX,
                "voxel_size_A": 16.0,
                "resolution_A": 20.0,
            }
        )
        made = simulate_set(config, tmp_path / "set")
        data = open_target(tmp_path / "set")
        assert type(data) is Subtomograms
        assert not isinstance(data, LabelledSubtomograms)
        assert not hasattr(data, "labels")
        assert (data.box, data.voxel_size_A, len(data)) == (BOX, 16.0, 6)
        assert data.acquisition == config.acquisition
        np.testing.assert_array_equal(data.read([4, 0]), made.read([4, 0]))
        noisier = open_target(tmp_path / "set", snr=0.01).read([0])
        assert not np.allclose(noisier, made.read([0]), atol=0.1)
        assert len(open_target(tmp_path / "set", voxel_size_A=16.05)) == 6
        with pytest.raises(MismatchError, match=r"expected 10 Å \(stated\); got 16 Å"):
            open_target(tmp_path / "set", voxel_size_A=10.0)

    @pytest.mark.parametrize("name", ["t.mrc", "t.mrcs", "T.MRC"])
    def test_volume_stack(self, tmp_path: Path, name: str) -> None:
        cubes = balls()
        data = open_target(write_mrc(tmp_path / name, cubes))
        assert (data.box, data.voxel_size_A, data.acquisition) == (BOX, 10.0, None)
        assert_same(data, cubes)

    def test_cubes_one_after_another(self, tmp_path: Path) -> None:
        cubes = balls()
        path = write_mrc(tmp_path / "t.mrcs", cubes.reshape(-1, BOX, BOX))
        data = open_target(path)
        assert (data.box, data.voxel_size_A) == (BOX, 10.0)
        assert_same(data, cubes)

    def test_one_cube(self, tmp_path: Path) -> None:
        cubes = balls(1)
        assert_same(open_target(write_mrc(tmp_path / "t.mrc", cubes[0])), cubes)

    def test_folder_in_the_order_of_names(self, tmp_path: Path) -> None:
        cubes = balls(4)
        for index, name in [(2, "c.mrc"), (0, "a.mrc"), (3, "d.MRC"), (1, "b.map")]:
            write_mrc(tmp_path / name, cubes[index])
        (tmp_path / "notes.txt").write_text("not a cube")
        data = open_target(tmp_path)
        assert (data.box, data.voxel_size_A) == (BOX, 10.0)
        assert_same(data, cubes)

    @pytest.mark.parametrize("count", [1, 4])
    def test_em_cubes_one_after_another(self, tmp_path: Path, count: int) -> None:
        cubes = balls(count)
        emfile.write(tmp_path / "t.em", cubes.reshape(-1, BOX, BOX))
        data = open_target(tmp_path / "t.em", voxel_size_A=13.48)
        assert (data.box, data.voxel_size_A) == (BOX, 13.48)
        assert isinstance(data.source, ArrayVolumes)
        assert isinstance(data.source.cubes, np.memmap)
        assert_same(data, cubes)
        with pytest.raises(ConfigError, match="is unknown"):
            open_target(tmp_path / "t.em")

    def test_folder_of_em_cubes(self, tmp_path: Path) -> None:
        cubes = balls(3)
        for index, name in [(2, "c.EM"), (0, "a.em"), (1, "b.em")]:
            emfile.write(tmp_path / name, cubes[index])
        data = open_target(tmp_path, voxel_size_A=13.48)
        assert isinstance(data.source, ArrayVolumes)
        assert data.source.names == ("a.em", "b.em", "c.EM")
        assert_same(data, cubes)
        with pytest.raises(ConfigError, match="is unknown"):
            open_target(tmp_path)

    def test_folder_of_two_formats_is_refused(self, tmp_path: Path) -> None:
        write_mrc(tmp_path / "a.mrc", balls(1)[0])
        emfile.write(tmp_path / "b.em", balls(1)[0])
        with pytest.raises(InputError, match=r"two formats.*1 \.mrc and 1 \.em"):
            open_target(tmp_path, voxel_size_A=10.0)

    def test_a_motive_list_is_no_cube(self, tmp_path: Path) -> None:
        """TOM and PyTom keep particle lists in .em files: 20 numbers a particle."""
        emfile.write(tmp_path / "motl.em", np.zeros((1, 50, 20), np.float32))
        with pytest.raises(InputError, match=r"not a stack of cubes.*\(1, 50, 20\)"):
            open_target(tmp_path / "motl.em", voxel_size_A=10.0)

    @pytest.mark.parametrize("name", ["t.hdf", "t.h5", "T.HDF5"])
    def test_hdf_stack(self, tmp_path: Path, name: str) -> None:
        cubes = balls(12)
        data = open_target(write_hdf(tmp_path / name, cubes, 13.48))
        assert (data.box, data.voxel_size_A, len(data)) == (BOX, 13.48, 12)
        assert_same(data, cubes)
        np.testing.assert_array_equal(data.read([11, 2]), data.read(range(12))[[11, 2]])

    def test_hdf_stack_of_few_bits(self, tmp_path: Path) -> None:
        """The sign of the density is that of the values, not of the counts that stand for them."""
        counts = np.clip(balls() * 20 + 128, 0, 255).astype(np.uint8)
        header = {"stored_renderbits": 8, "stored_rendermin": -4.0, "stored_rendermax": 6.2}
        path = write_hdf(tmp_path / "t.hdf", counts, **header)
        data = open_target(path)
        assert_same(data, counts * 0.04 - 4)
        np.testing.assert_allclose(data.source.read([2])[0], counts[2] * 0.04 - 4, atol=1e-5)

    def test_hdf_identity_is_that_of_the_same_array(self, tmp_path: Path) -> None:
        cubes = balls()
        data = open_target(write_hdf(tmp_path / "t.hdf", cubes))
        assert data.source.identity == ArrayVolumes(cubes, 10.0).identity

    def test_hdf_of_other_shapes_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"not a stack of cubes.*\(2, 24, 24, 20\)"):
            open_target(write_hdf(tmp_path / "t.hdf", balls(2)[..., :20]))

    def test_hdf_with_bad_values_is_refused(self, tmp_path: Path) -> None:
        cubes = balls()
        cubes[3, 1, 2, 3] = np.nan
        with pytest.raises(InputError, match=r"subtomogram 3 .* NaN or infinite"):
            open_target(write_hdf(tmp_path / "t.hdf", cubes))

    def test_npy_is_memory_mapped(self, tmp_path: Path) -> None:
        cubes = balls()
        np.save(tmp_path / "t.npy", cubes)
        data = open_target(tmp_path / "t.npy", voxel_size_A=12.5)
        assert isinstance(data.source, ArrayVolumes)
        assert isinstance(data.source.cubes, np.memmap)
        assert data.voxel_size_A == 12.5
        assert_same(data, cubes)
        assert np.array_equal(np.load(tmp_path / "t.npy"), cubes)

    def test_mrc_is_memory_mapped(self, tmp_path: Path) -> None:
        data = open_target(write_mrc(tmp_path / "t.mrc", balls()))
        assert isinstance(data.source, ArrayVolumes)
        assert isinstance(data.source.cubes, np.memmap)

    def test_npz_with_one_stack_among_other_arrays(self, tmp_path: Path) -> None:
        cubes = balls()
        np.savez(tmp_path / "t.npz", x=cubes, y=np.arange(6), angles=np.eye(3))
        assert_same(open_target(tmp_path / "t.npz", voxel_size_A=10.0), cubes)

    @pytest.mark.parametrize("arrays", [{}, {"a": np.eye(3)}, {"a": balls(2), "b": balls(2)}])
    def test_npz_without_exactly_one(self, tmp_path: Path, arrays: dict[str, Any]) -> None:
        np.savez(tmp_path / "t.npz", **arrays)
        with pytest.raises(InputError, match="exactly one array"):
            open_target(tmp_path / "t.npz", voxel_size_A=10.0)

    def test_npy_under_another_name_is_refused(self, tmp_path: Path) -> None:
        """Regression: an archive named .npy failed on a missing attribute."""
        np.savez(tmp_path / "t.npz", x=balls())
        (tmp_path / "t.npz").rename(tmp_path / "t.npy")
        with pytest.raises(InputError, match="cannot read"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)

    @pytest.mark.parametrize("shape", [(0, 0, 0), (0, 24, 24), (0, 24, 24, 24)])
    def test_empty_arrays_are_refused(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        """Regression: an array without voxels was a division by zero."""
        np.save(tmp_path / "t.npy", np.zeros(shape, np.float32))
        with pytest.raises(InputError, match="not a stack of cubes"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)

    @pytest.mark.parametrize("shape", [(24, 24), (25, 24, 24), (2, 24, 24, 20), (1, 2, 4, 4, 4)])
    def test_other_shapes_are_refused(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.save(tmp_path / "t.npy", np.zeros(shape, np.float32))
        with pytest.raises(InputError, match="not a stack of cubes"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", ">i2", "uint16", "int32", "float16", "float64", ">f4"]
)
def test_voxel_types(tmp_path: Path, kind: str) -> None:
    cubes = np.clip(balls() * 20 + 100, 0, 127).astype(kind)
    np.save(tmp_path / "t.npy", cubes)
    data = open_target(tmp_path / "t.npy", voxel_size_A=10.0)
    assert str(data.read([0]).dtype) == "torch.float32"
    assert_same(data, cubes)


@pytest.mark.parametrize("kind", ["int8", "int16", "uint16", "float16", "float32"])
def test_voxel_types_of_mrc(tmp_path: Path, kind: str) -> None:
    cubes = np.clip(balls() * 20 + 100, 0, 127).astype(kind)
    assert_same(open_target(write_mrc(tmp_path / "t.mrc", cubes)), cubes)


@pytest.mark.parametrize("kind", [np.complex64, np.bool_])
def test_other_voxel_types_are_refused(tmp_path: Path, kind: type) -> None:
    np.save(tmp_path / "t.npy", balls().astype(kind))
    with pytest.raises(InputError, match="real numbers"):
        open_target(tmp_path / "t.npy", voxel_size_A=10.0)


class TestFilling:
    def test_cubes_that_are_half_constant_are_told(self, tmp_path: Path) -> None:
        """Case c05: half of a store that was downloaded in part gave half-filled cubes, no word."""
        cubes = balls()
        cubes[2:4, :, :, BOX // 2 :] = 0
        np.save(tmp_path / "t.npy", cubes)
        with pytest.warns(UserWarning, match=r"2 of 6 cubes of .*one value.*up to 50%"):
            data = open_target(tmp_path / "t.npy", voxel_size_A=10.0, contrast="positive")
        assert len(data) == 6

    def test_whole_cubes_are_not(self, tmp_path: Path) -> None:
        np.save(tmp_path / "t.npy", np.round(5 * balls()).astype(np.int8))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)


class TestVoxelSize:
    def test_what_is_stated_counts(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "t.mrc", balls(), 13.0)
        assert open_target(path).voxel_size_A == pytest.approx(13.0)
        assert open_target(path, voxel_size_A=13.0005).voxel_size_A == 13.0005
        with pytest.warns(UserWarning, match="13 Å in its header, and 15.3 Å are stated"):
            assert open_target(path, voxel_size_A=15.3).voxel_size_A == 15.3

    def test_of_a_simulated_set_nothing_else_can_be_stated(self, tmp_path: Path) -> None:
        config = SimulationConfig(
            classes={"apoferritin": "apoferritin"},
            acquisition=Acquisition(defocus_um=3.0),
            per_class=2,
            snr=1.0,
            box=24,
            voxel_size_A=15.0,
        )
        simulate_set(config, tmp_path / "set")
        assert open_target(tmp_path / "set", voxel_size_A=15.0).voxel_size_A == 15.0
        with pytest.raises(MismatchError, match="not the one stated"):
            open_target(tmp_path / "set", voxel_size_A=10.0)

    def test_spacings_that_differ_are_overridden(self, tmp_path: Path) -> None:
        """Case c04: refused whatever was stated, and no option helped (pytom-match-pick #26)."""
        path = write_mrc(tmp_path / "t.mrc", balls().reshape(-1, BOX, BOX))
        with mrcfile.open(path, "r+") as mrc:
            mrc.voxel_size = (13.28, 13.28, 12.0)
        with pytest.raises(InputError, match=r"anisotropic.*--voxel-size"):
            open_target(path)
        with pytest.warns(UserWarning, match=r"13\.28 × 13\.28 × 12 Å .* 13\.28 Å are stated"):
            assert open_target(path, voxel_size_A=13.28).voxel_size_A == 13.28

    @pytest.mark.parametrize("unknown", [0.0, 1.0])
    def test_a_header_that_does_not_know(self, tmp_path: Path, unknown: float) -> None:
        path = write_mrc(tmp_path / "t.mrc", balls(), unknown)
        with pytest.raises(ConfigError, match="is unknown"):
            open_target(path)
        assert open_target(path, voxel_size_A=8.0).voxel_size_A == 8.0

    def test_regression_a_z_that_nobody_set_is_held_against_the_stated_size(
        self, tmp_path: Path
    ) -> None:
        """A header of 8 × 8 × 0 Å was overridden by 4 Å without a word."""
        path = tmp_path / "t.mrc"
        with mrcfile.new(path) as mrc:
            mrc.set_data(balls())
            mrc.voxel_size = (8.0, 8.0, 0.0)
        with pytest.warns(
            UserWarning, match=r"8 × 8 Å \(x, y; z is not set\) in its header, and 4 Å are stated"
        ):
            assert open_target(path, voxel_size_A=4.0).voxel_size_A == 4.0

    def test_regression_volumes_of_hdf_that_differ_are_overridden(self, tmp_path: Path) -> None:
        """They were refused even with a stated size, which cubes in a folder were not."""
        h5py = pytest.importorskip("h5py")
        path = write_hdf(tmp_path / "t.hdf", balls())
        with h5py.File(path, "r+") as file:
            file["MDF/images/2"].attrs["EMAN.apix_x"] = 12.0
        with pytest.raises(MismatchError, match="state the size"):
            open_target(path)
        with pytest.warns(UserWarning, match=r"12 × 10 × 10 Å in its header, and 10 Å are stated"):
            assert open_target(path, voxel_size_A=10.0).voxel_size_A == 10.0

    def test_cubes_that_differ(self, tmp_path: Path) -> None:
        write_mrc(tmp_path / "a.mrc", balls(1)[0], 10.0)
        write_mrc(tmp_path / "b.mrc", balls(1)[0], 12.0)
        with pytest.raises(MismatchError, match="differ in voxel size"):
            open_target(tmp_path)


class TestContrast:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_measured_contrast_has_the_planted_sign(self, sign: int) -> None:
        data = Subtomograms(ArrayVolumes(balls(20, sign=sign), 10.0))
        assert sign * measured_contrast(data) > 10

    def test_noise_has_none(self) -> None:
        cubes = np.random.default_rng(1).normal(size=(40, BOX, BOX, BOX)).astype(np.float32)
        assert abs(measured_contrast(Subtomograms(ArrayVolumes(cubes, 10.0)))) < 3

    def test_a_single_particle_says_nothing(self) -> None:
        assert measured_contrast(Subtomograms(ArrayVolumes(balls(1), 10.0))) == 0.0

    def test_only_so_many_are_read(self) -> None:
        bright_then_dark = np.concatenate([balls(5), balls(5, sign=-1), balls(5, sign=-1)])
        data = Subtomograms(ArrayVolumes(bright_then_dark, 10.0))
        assert measured_contrast(data, at_most=5) > 3
        assert measured_contrast(data) < 0

    def test_measure_refuses_dark_particles(self, tmp_path: Path) -> None:
        np.save(tmp_path / "t.npy", balls(sign=-1))
        with pytest.raises(ConfigError, match=r"seems inverted.*--contrast negative"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)

    def test_negative_turns_them(self, tmp_path: Path) -> None:
        dark = balls(sign=-1)
        np.save(tmp_path / "t.npy", dark)
        data = open_target(tmp_path / "t.npy", voxel_size_A=10.0, contrast="negative")
        assert_same(data, dark, sign=-1)
        assert measured_contrast(data) > 3

    def test_unsigned_voxels_can_be_negative_contrast(self, tmp_path: Path) -> None:
        dark = np.clip(balls(sign=-1) * 20 + 128, 0, 255).astype(np.uint8)
        np.save(tmp_path / "t.npy", dark)
        data = open_target(tmp_path / "t.npy", voxel_size_A=10.0, contrast="negative")
        assert_same(data, dark, sign=-1)

    def test_positive_insists(self, tmp_path: Path) -> None:
        dark = balls(sign=-1)
        np.save(tmp_path / "t.npy", dark)
        data = open_target(tmp_path / "t.npy", voxel_size_A=10.0, contrast="positive")
        assert_same(data, dark)


class TestValues:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path: Path, value: float) -> None:
        cubes = balls()
        cubes[3, 1, 2, 3] = value
        np.save(tmp_path / "t.npy", cubes)
        with pytest.raises(InputError, match=r"subtomogram 3 .* NaN or infinite"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)

    def test_beyond_single_precision(self, tmp_path: Path) -> None:
        """Regression: doubles beyond the range of float32 became infinite when read."""
        cubes = balls().astype(np.float64)
        cubes[2, 0, 0, 0] = 1e300
        np.save(tmp_path / "t.npy", cubes)
        with pytest.raises(InputError, match=r"subtomogram 2 .* beyond the range of float32"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)

    def test_constant(self, tmp_path: Path) -> None:
        cubes = balls().astype(np.int16)
        cubes[4] = 7
        np.save(tmp_path / "t.npy", cubes)
        with pytest.raises(InputError, match=r"subtomogram 4 .* all voxels equal"):
            open_target(tmp_path / "t.npy", voxel_size_A=10.0)


def test_array_volumes_read_in_the_order_asked_for() -> None:
    cubes = balls(3)
    source = ArrayVolumes(cubes, 10.0, sign=-1)
    np.testing.assert_array_equal(source.read([2, 0, 2]), -cubes[[2, 0, 2]])
    assert len(source) == 3
    np.testing.assert_array_equal(
        Subtomograms(source, [1]).read([0]), standardise(source.read([1]))
    )


def test_a_stated_contrast_that_is_not_the_measured_one_is_warned_of(tmp_path: Path) -> None:
    """Regression: a wrong --contrast was accepted without a word."""
    rng = np.random.default_rng(0)
    r = np.arange(24) - 12
    blob = np.exp(-(r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2) / 18)
    cubes = (5 * blob + rng.normal(size=(12, 24, 24, 24))).astype(np.float32)
    np.save(tmp_path / "c.npy", cubes)
    with pytest.warns(UserWarning, match=r"stated to have negative contrast.*darker"):
        open_target(tmp_path / "c.npy", voxel_size_A=10, contrast="negative")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_target(tmp_path / "c.npy", voxel_size_A=10, contrast="positive")


def test_neither_a_cavity_nor_a_fringe_is_taken_for_inversion() -> None:
    """Hollow shells that fill the box, and small balls with a dark halo, are density positive."""
    r = np.arange(30) - 15
    radius = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
    rng = np.random.default_rng(0)
    shell = ((radius > 6) & (radius < 9)).astype(np.float32)
    haloed = 3.0 * (radius < 3) - 0.4 * ((radius >= 3) & (radius < 9))
    for density in (shell, haloed):
        cubes = density + rng.normal(scale=0.5, size=(20, 30, 30, 30))
        upright = Subtomograms(ArrayVolumes(cubes.astype(np.float32), 10.0))
        assert measured_contrast(upright) > 3
    solid = 1.0 * (radius < 7) + rng.normal(scale=0.5, size=(20, 30, 30, 30))
    assert measured_contrast(Subtomograms(ArrayVolumes(-solid.astype(np.float32), 10.0))) < -3
