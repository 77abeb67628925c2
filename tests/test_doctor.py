"""The audit of files and the machine, and the command that prints it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import emfile
import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner, Result

from tomadapt.cli import app
from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor import Finding, Report, examine
from tomadapt.doctor import machine as machine_module
from tomadapt.doctor.cubes import _opened
from tomadapt.doctor.density import measured, spread_blocks
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.tomogram import bare_name, open_tomogram
from tomadapt.learn.model import Model, ModelCard
from tomadapt.project import Project, TomogramEntry, write_project
from tomadapt.simulate.dataset import SimulationConfig, simulate_set
from tomadapt.structures import map_template
from tomadapt.tomograms import contrast as contrast_module
from zarr_images import write_ome_zarr

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr")
pytestmark = pytest.mark.usefixtures("one_thread")

VOXEL_A = 10.0
SHAPE = (40, 64, 96)


def wedged(shape: tuple[int, int, int], *, last_deg: float = 50.0, seed: int = 0) -> NDArray[Any]:
    """Noise of which tilts up to an angle about y were recorded."""
    noise = np.fft.rfftn(np.random.default_rng(seed).normal(size=shape))
    kz, ky, kx = np.meshgrid(
        np.fft.fftfreq(shape[0]),
        np.fft.fftfreq(shape[1]),
        np.fft.rfftfreq(shape[2]),
        indexing="ij",
    )
    noise[np.abs(kz) > np.tan(np.radians(last_deg)) * kx] = 0
    noise *= 1 / (0.05 + np.sqrt(kx**2 + ky**2 + kz**2))
    volume = np.fft.irfftn(noise, s=shape, axes=(0, 1, 2))
    return (volume / volume.std()).astype(np.float32)


VOLUME = wedged(SHAPE)
CUBES = np.stack([wedged((32, 32, 32), seed=seed) for seed in range(1, 13)])


def write_mrc(path: Path, data: NDArray[Any] = VOLUME, voxel_A: Any = VOXEL_A) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_A
    return path


def write_gz(path: Path, data: NDArray[Any] = VOLUME) -> Path:
    path.write_bytes(gzip.compress(write_mrc(path.with_name("x"), data).read_bytes(), 1))
    return path


def write_em(path: Path, data: NDArray[Any] = VOLUME) -> Path:
    emfile.write(path, data, overwrite=True)
    return path


def write_hdf(path: Path, data: NDArray[Any] = VOLUME) -> Path:
    with h5py.File(path, "w") as file:
        for index, volume in enumerate(data if data.ndim == 4 else [data]):
            group = file.create_group(f"MDF/images/{index}")
            group.create_dataset("image", data=volume)
            group.attrs.update({f"EMAN.apix_{axis}": VOXEL_A for axis in "xyz"})
    return path


def write_zarr(path: Path, data: NDArray[Any] = VOLUME) -> Path:
    write_ome_zarr(path, data, VOXEL_A, "")
    return path


@dataclass
class Contrast:
    """Stands for the measurement, which has tests of its own."""

    sign: int = 1
    sigma_A: float = 0.0
    error: Exception | None = None

    def __call__(self, tomogram: Tomogram, *, sigma_A: float) -> SimpleNamespace:
        self.sigma_A = sigma_A
        if self.error:
            raise self.error
        return SimpleNamespace(sign=self.sign, text="measured so", doubts=())


@pytest.fixture
def contrast(monkeypatch: pytest.MonkeyPatch) -> Contrast:
    stand_in = Contrast()
    monkeypatch.setattr(contrast_module, "blob_contrast", stand_in)
    return stand_in


def report_of(*paths: Path) -> Report:
    """What is said of the first path."""
    return examine(paths).files[0]


def finding(report: Report, key: str) -> Finding:
    (found,) = [f for f in report.findings if f.key == key]
    return found


def problems(report: Report) -> list[str]:
    return [f.key for f in report.findings if f.level == "problem"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


@pytest.mark.usefixtures("contrast")
class TestTomogram:
    @pytest.mark.parametrize(
        ("name", "write", "form"),
        [
            ("t.mrc", write_mrc, "MRC"),
            ("t.rec.gz", write_gz, "MRC"),
            ("t.em", write_em, "EM"),
            ("t.hdf", write_hdf, "HDF5"),
            ("t.zarr", write_zarr, "OME-Zarr 0.4"),
            ("t.data", write_mrc, "MRC"),
            ("t.other", write_hdf, "HDF5"),
        ],
    )
    def test_the_same_of_every_format(
        self, tmp_path: Path, name: str, write: Callable[[Path], Path], form: str
    ) -> None:
        report = report_of(write(tmp_path / name))
        assert (report.kind, report.value("format"), report.value("name")) == (
            "tomogram",
            form,
            "t",
        )
        assert report.value("shape") == [*SHAPE]
        assert report.value("voxel_size") == (None if form == "EM" else VOXEL_A)
        assert report.value("voxel_type") == "float32"
        values = report.value("values")
        assert (values["voxels"], values["of"]) == (VOLUME.size, VOLUME.size)
        assert values["min"] == VOLUME.min()
        assert values["max"] == VOLUME.max()
        assert values["mean"] == pytest.approx(VOLUME.mean(dtype=float), abs=1e-9)
        assert values["std"] == pytest.approx(VOLUME.std(dtype=float))
        assert problems(report) == (["voxel_size"] if form == "EM" else [])
        assert len({f.key for f in report.findings}) == len(report.findings)

    def test_the_wedge_and_the_spectrum(self, tmp_path: Path) -> None:
        report = report_of(write_mrc(tmp_path / "t.mrc"))
        wedge, spectrum = report.value("wedge"), finding(report, "spectrum")
        assert wedge["axis"] == "y"
        assert wedge["first_deg"] == pytest.approx(-50, abs=6)
        assert wedge["last_deg"] == pytest.approx(50, abs=6)
        assert finding(report, "wedge").level == spectrum.level == "ok"
        assert 5 < spectrum.value["low_to_high"] < 40  # amplitude 1/(0.05 + k), k to √2 ÷ 2
        assert spectrum.value["empty_from_nyquist"] is None

    @pytest.mark.parametrize(
        ("axes", "text", "remedy"),
        [
            ((1, 0, 2), "the beam seems to lie along y", "trimvol -rx"),
            ((0, 2, 1), "the tilt axis seems to lie along x", "90° about z"),
        ],
    )
    def test_a_tomogram_that_nobody_rotated(
        self, tmp_path: Path, axes: tuple[int, int, int], text: str, remedy: str
    ) -> None:
        """Case c08: doctor said "ok" of a beam along y, and of a tilt axis along x."""
        volume = np.ascontiguousarray(wedged((48, 64, 64)).transpose(axes))
        found = finding(report_of(write_mrc(tmp_path / "t.mrc", volume)), "wedge")
        assert found.level == "problem"
        assert text in found.text
        assert remedy in (found.remedy or "")

    def test_a_filter_and_white_noise_are_told(self, tmp_path: Path) -> None:
        smooth = ndimage.gaussian_filter(VOLUME, 2.0)
        filtered = finding(report_of(write_mrc(tmp_path / "smooth.mrc", smooth)), "spectrum")
        assert filtered.level == "note"
        # exp(−4π²σ²f²/2)² is 1e-4 of its value at f ≈ 0.17 / 2 at about f = 0.25
        empty = filtered.value["empty_from_nyquist"]
        assert 0.4 < empty < 0.65
        assert f"({2 * VOXEL_A / empty:.3g} Å)" in filtered.text
        white = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        report = report_of(write_mrc(tmp_path / "white.mrc", white))
        assert finding(report, "spectrum").value["low_to_high"] == pytest.approx(1, abs=0.1)
        assert "flat" in finding(report, "spectrum").text
        assert finding(report, "wedge").level == "note"
        assert finding(report, "wedge").value["first_deg"] is None

    @pytest.mark.parametrize("voxel_A", [0.0, 1.0])
    def test_an_unknown_voxel_size(
        self, tmp_path: Path, voxel_A: float, contrast: Contrast
    ) -> None:
        report = report_of(write_mrc(tmp_path / "t.mrc", voxel_A=voxel_A))
        assert problems(report) == ["voxel_size"]
        size = finding(report, "voxel_size")
        assert size.value is None
        assert "--voxel-size" in (size.remedy or "")
        assert finding(report, "spectrum").value["fallen_at_A"] is None
        assert report.value("wedge")["axis"] == "y"
        assert contrast.sigma_A == 5  # voxels

    def test_regression_an_em_file_lacks_a_voxel_size_as_an_mrc_file_does(
        self, tmp_path: Path
    ) -> None:
        """It was a note and exit 0 of .em, a problem of .mrc; extract refuses both."""
        for path in (write_em(tmp_path / "t.em"), write_mrc(tmp_path / "t.mrc", voxel_A=0.0)):
            assert problems(report_of(path)) == ["voxel_size"]
            assert "--voxel-size" in (finding(report_of(path), "voxel_size").remedy or "")
            assert run("doctor", path).exit_code == 1
            with pytest.raises(ConfigError, match="voxel size"):
                open_tomogram(path, contrast="positive")

    def test_uneven_voxels_are_refused_with_all_three(self, tmp_path: Path) -> None:
        report = report_of(write_mrc(tmp_path / "t.mrc", voxel_A=(10, 10, 12)))
        assert report.value("header_voxel_sizes") == pytest.approx([10, 10, 12])
        assert finding(report, "header_voxel_sizes").level == "note"
        assert "10 × 10 × 12 Å" in finding(report, "readable").text

    def test_values_that_are_no_numbers_are_counted(self, tmp_path: Path) -> None:
        volume = VOLUME.copy()
        volume[0, 0, :3] = np.nan
        volume[-1, -1, -2:] = -np.inf
        with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
            path = write_mrc(tmp_path / "t.mrc", volume)
        report = report_of(path)
        assert problems(report) == ["not_finite"]
        assert report.value("not_finite") == {"nan": 3, "infinite": 2}
        assert report.value("values")["min"] == VOLUME.min()

    def test_filling_is_found_and_noise_of_few_bits_is_none(self, tmp_path: Path) -> None:
        volume = VOLUME.copy()
        volume[:, :16] = 7
        filled = finding(report_of(write_mrc(tmp_path / "filled.mrc", volume)), "filling")
        assert filled.level == "note"
        assert filled.value == {"fraction": 0.25, "filling": 7.0}
        coarse = np.clip(np.round(VOLUME * 2), -127, 127).astype(np.int8)
        assert finding(report_of(write_mrc(tmp_path / "int8.mrc", coarse)), "filling").level == "ok"

    def test_regression_a_map_that_is_a_structure_is_told_for_both_uses(
        self, tmp_path: Path
    ) -> None:
        """A masked reference was a problem, though simulate takes it; dark ones, undecided alone.

        For a missing voxel size --voxel-size was advised, where simulate needs map.mrc@8.1A.
        """
        r = np.arange(32) - 16
        ball = np.exp(-(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2) / 40).astype(np.float32)
        masked = report_of(write_mrc(tmp_path / "masked.mrc", np.where(ball > 0.3, ball, 0)))
        assert problems(masked) == []
        assert finding(masked, "filling").level == "warning"
        assert "a structure's map may be masked so" in (finding(masked, "filling").remedy or "")
        assert finding(masked, "as_structure").level == "ok"
        dark = finding(report_of(write_mrc(tmp_path / "dark.mrc", -ball)), "as_structure")
        assert (dark.level, dark.value) == ("warning", "refused")
        assert "looks inverted" in dark.text
        assert "of no matter where it is a tomogram" in (dark.remedy or "")
        with pytest.raises(InputError, match="looks inverted"):
            map_template(tmp_path / "dark.mrc", voxel_size_A=10.0, box=32)
        mask = report_of(write_mrc(tmp_path / "mask.mrc", (ball > 0.3).astype(np.float32)))
        assert mask.value("as_structure") == "doubted"
        unset = finding(report_of(write_mrc(tmp_path / "unset.mrc", ball, 0.0)), "voxel_size")
        assert "--voxel-size" in (unset.remedy or "")
        assert "name it unset.mrc@8.1A" in (unset.remedy or "")

    def test_tomograms_are_not_looked_at_as_structures(self, tmp_path: Path) -> None:
        for sign in (1, -1):
            noise = sign * wedged((48, 48, 48), seed=3)
            noise[20:28, 20:28, 20:28] += sign * 2
            report = report_of(write_mrc(tmp_path / "t.mrc", noise))
            assert "as_structure" not in [f.key for f in report.findings]

    def test_a_constant_volume_is_a_problem_and_the_end(self, tmp_path: Path) -> None:
        report = report_of(write_mrc(tmp_path / "t.mrc", np.full(SHAPE, 0.3, np.float32)))
        assert problems(report) == ["filling"]
        assert report.value("values")["std"] == 0
        assert report.findings[-1].key == "filling"

    def test_regression_chunks_that_were_not_counted_are_said_to_be(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a store of many chunks doctor said that all were there, and had looked at none."""
        path = write_zarr(tmp_path / "a.zarr")
        assert "not counted" not in finding(report_of(path), "chunks").text
        monkeypatch.setattr("tomadapt.io.ome_zarr._MOST_COUNTED", 1)
        found = finding(report_of(path), "chunks")
        assert "not counted" in found.text
        assert found.value["missing"] is None

    def test_a_thin_one_has_no_spectrum(self, tmp_path: Path) -> None:
        report = report_of(write_mrc(tmp_path / "t.mrc", VOLUME[:10]))
        assert finding(report, "spectrum").level == "note"
        assert "too thin" in finding(report, "spectrum").text
        assert finding(report, "contrast").level == "ok"

    def test_the_header_is_told(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "t.mrc", (VOLUME * 20).astype(np.int8))
        with mrcfile.open(path, "r+") as mrc:
            mrc.header.ispg = 0
            mrc.header.origin.x, mrc.header.origin.z = -200, 3
            mrc.set_extended_header(np.zeros(1, dtype="V320"))
            mrc.add_label("what the program says")
        report = report_of(path)
        assert report.value("origin") == [-200, 0, 3]
        assert finding(report, "origin").level == "note"
        assert report.value("extended_header") == 320
        assert "what the program says" in report.value("labels")[-1]
        assert report.value("space_group") == 0
        assert "tilt series" in (finding(report, "space_group").remedy or "")
        assert finding(report, "voxel_type").text == "mode 0 (int8)"
        assert problems(report) == []

    def test_turned_axes_are_told(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "t.mrc")
        with mrcfile.open(path, "r+") as mrc:
            mrc.header.mapc, mrc.header.maps = 3, 1
        report = report_of(path)
        assert finding(report, "axes").text.startswith(
            "columns, rows and sections are along z, y, x"
        )
        assert report.value("shape") == [*SHAPE[::-1]]

    def test_a_damaged_one_keeps_what_was_found(self, tmp_path: Path) -> None:
        path = write_mrc(tmp_path / "t.mrc")
        path.write_bytes(path.read_bytes()[:-100])
        report = report_of(path)
        assert problems(report) == ["readable"]
        assert "fewer data than" in finding(report, "readable").text
        assert finding(report, "readable").remedy == "copy or export the file again, or convert it"
        assert report.value("header_voxel_sizes") == [VOXEL_A] * 3

    @pytest.mark.parametrize("write", [write_mrc, write_em, write_hdf])
    def test_no_damage_raises(self, tmp_path: Path, write: Callable[..., Path]) -> None:
        name = {write_mrc: "t.mrc", write_em: "t.em", write_hdf: "t.hdf"}[write]
        path = write(tmp_path / name, VOLUME[:20, :20, :20])
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(15):
            damaged = bytearray(whole)
            for place in rng.integers(0, min(1500, len(whole)), 20):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(len(whole))])
            assert "problem" in {f.level for f in report_of(path).findings}

    def test_little_of_a_large_one_is_read(self) -> None:
        class Recorded:
            shape, dtype = (600, 2000, 2001), np.dtype(np.float32)
            read: list[tuple[slice, ...]] = []  # noqa: RUF012

            def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.float32]:
                self.read.append(key)
                return np.ones([part.stop - part.start for part in key], np.float32)

        volume = Recorded()
        sample = measured(spread_blocks(Tomogram(volume, VOXEL_A)))
        assert sample.voxels <= 2**21
        for axis, n in enumerate(volume.shape):
            places = {(key[axis].start, key[axis].stop) for key in volume.read}
            assert len(places) == 4
            assert min(places)[0] == 0
            assert max(places)[1] == n


class TestContrast:
    @pytest.mark.parametrize(
        ("sign", "level", "remedy"),
        [(1, "ok", ""), (-1, "note", "--contrast negative"), (0, "note", "--contrast positive")],
    )
    def test_of_a_tomogram(
        self, tmp_path: Path, contrast: Contrast, sign: int, level: str, remedy: str
    ) -> None:
        contrast.sign = sign
        found = finding(report_of(write_mrc(tmp_path / "t.mrc")), "contrast")
        assert (found.level, found.value, found.text) == (level, sign, "measured so")
        assert remedy in (found.remedy or "")
        assert contrast.sigma_A == 50

    def test_coarse_voxels_take_wider_blobs(self, tmp_path: Path, contrast: Contrast) -> None:
        report_of(write_mrc(tmp_path / "t.mrc", voxel_A=40))
        assert contrast.sigma_A == 80

    def test_one_that_cannot_be_measured(self, tmp_path: Path, contrast: Contrast) -> None:
        contrast.error = InputError("too small", remedy="use another")
        found = finding(report_of(write_mrc(tmp_path / "t.mrc")), "contrast")
        assert (found.level, found.text) == ("note", "not measured: too small")

    def test_with_the_measurement_itself(self, tmp_path: Path) -> None:
        volume = VOLUME.copy()
        for place in np.random.default_rng(1).integers(12, [28, 52, 84], (16, 3)):
            volume[tuple(slice(p - 4, p + 4) for p in place)] += 3
        for sign in (1, -1):
            found = finding(report_of(write_mrc(tmp_path / "t.mrc", sign * volume)), "contrast")
            assert found.value == sign


def write_npz(path: Path, data: NDArray[Any]) -> Path:
    np.savez_compressed(path, other=np.arange(3), cubes=data)
    return path


def write_npy(path: Path, data: NDArray[Any]) -> Path:
    np.save(path, data)
    return path


def write_folder(path: Path, data: NDArray[Any]) -> Path:
    path.mkdir()
    for index, cube in enumerate(data):
        write_mrc(path / f"{index:03d}.mrc", cube)
    return path


def flat(write: Callable[..., Path]) -> Callable[..., Path]:
    """Write cubes one after another."""
    return lambda path, data: write(path, data.reshape(-1, *data.shape[2:]))


STACKS: dict[str, Callable[..., Path]] = {
    "p.mrc": write_mrc,
    "p.mrcs": flat(write_mrc),
    "flat.mrc": flat(write_mrc),
    "p.em": flat(write_em),
    "p.hdf": write_hdf,
    "p.npz": write_npz,
    "p.npy": write_npy,
    "folder": write_folder,
}


class TestSubtomograms:
    @pytest.mark.parametrize("name", STACKS)
    def test_the_same_of_every_format(self, tmp_path: Path, name: str) -> None:
        report = report_of(STACKS[name](tmp_path / name, CUBES))
        known = name not in ("p.em", "p.npz", "p.npy")
        expected = [] if known else ["voxel_size"]
        assert (report.kind, problems(report)) == ("subtomograms", expected)
        assert report.value("particles") == {"count": 12, "box": 32}
        assert report.value("voxel_size") == (VOXEL_A if known else None)
        assert finding(report, "voxel_size").level == ("ok" if known else "problem")
        assert report.value("values")["max"] == CUBES.max()
        assert report.value("values")["voxels"] == CUBES.size
        assert report.value("wedge")["axis"] == "y"
        assert finding(report, "readable").level == "ok"
        assert report.value("contrast") in (1, 0, -1)

    @pytest.mark.parametrize("name", STACKS)
    def test_single_cubes_are_read(self, tmp_path: Path, name: str) -> None:
        path = STACKS[name](tmp_path / name, CUBES)
        kind: Any = name if name == "folder" else path.suffix[1:].replace("mrcs", "mrc")
        np.testing.assert_array_equal(_opened(path, kind).read([2, 7, 11]), CUBES[[2, 7, 11]])

    @pytest.mark.parametrize(("sign", "level"), [(1, "ok"), (-1, "note")])
    def test_the_sign_is_measured(self, tmp_path: Path, sign: int, level: str) -> None:
        cubes = CUBES.copy()
        cubes[:, 12:20, 12:20, 12:20] += 2
        report = report_of(write_npy(tmp_path / "p.npy", sign * cubes))
        assert (finding(report, "contrast").level, report.value("contrast")) == (level, sign)

    def test_bad_cubes_are_counted_and_named(self, tmp_path: Path) -> None:
        cubes = CUBES.copy()
        cubes[5, 0, 0, :4] = np.nan
        report = report_of(write_npy(tmp_path / "p.npy", cubes))
        assert problems(report) == ["voxel_size", "not_finite", "readable"]
        assert report.value("not_finite")["nan"] == 4
        assert "subtomogram 5" in finding(report, "readable").text
        assert report.value("wedge")["axis"] == "y"  # of the others

    @pytest.mark.parametrize(
        ("name", "data", "text"),
        [
            ("p.npy", CUBES[:, :30], "is not a stack of cubes"),
            ("p.npy", CUBES.astype(complex), "not hold real numbers"),
            ("p.mrcs", CUBES.reshape(-1, 32, 32)[:37], "is not a stack of cubes"),
            ("p.npz", CUBES[0], "exactly one array"),
            ("p.npz", CUBES.astype(complex), "complex"),
        ],
    )
    def test_what_are_no_cubes(
        self, tmp_path: Path, name: str, data: NDArray[Any], text: str
    ) -> None:
        report = report_of(STACKS[name.replace("mrcs", "mrc")](tmp_path / name, data))
        assert problems(report) == ["readable"]
        assert text in finding(report, "readable").text

    @pytest.mark.parametrize("name", ["p.npz", "p.npy"])
    def test_damaged_arrays(self, tmp_path: Path, name: str) -> None:
        path = STACKS[name](tmp_path / name, CUBES)
        path.write_bytes(path.read_bytes()[:-4000])
        assert problems(report_of(path)) == ["readable"]

    def test_a_folder_without_cubes(self, tmp_path: Path) -> None:
        (tmp_path / "ribosome").mkdir()
        report = report_of(tmp_path)
        assert problems(report) == ["readable"]
        assert "got ribosome" in finding(report, "readable").text

    def test_a_folder_of_different_cubes(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "f", CUBES[:3])
        write_mrc(folder / "001.mrc", CUBES[0, :16, :16, :16])
        report = report_of(folder)
        assert "001.mrc is not a cube like the others" in finding(report, "readable").text

    def test_a_simulated_set(self, tmp_path: Path) -> None:
        config = SimulationConfig(
            classes=["apoferritin", "null"],
            acquisition="batch_b",
            per_class=3,
            snr=1.0,
            seed=0,
            box=24,
            voxel_size_A=16.0,
            resolution_A=20.0,
        )
        simulate_set(config, tmp_path / "set", device=torch.device("cpu"))
        report = report_of(tmp_path / "set")
        assert (report.kind, problems(report)) == ("subtomograms", [])
        assert report.value("classes") == {"apoferritin": 3, "null": 3}
        assert report.value("particles") == {"count": 6, "box": 24}
        assert (report.value("voxel_size"), report.value("acquisition")) == (16.0, "batch_b")
        (tmp_path / "set" / "set.json").unlink()
        assert "interrupted" in finding(report_of(tmp_path / "set"), "readable").text


def star(columns: dict[str, Any], block: str = "particles") -> str:
    labels = "".join(f"_{label}\n" for label in columns)
    rows = "".join(" ".join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True))
    return f"data_{block}\n\nloop_\n{labels}{rows}\n"


def particles(
    path: Path, voxels: list[tuple[float, float, float]], *, name: str = "t", pixel_A: float = 10.0
) -> Path:
    """A list in RELION 4's manner."""
    x, y, z = zip(*voxels, strict=True)
    columns = {
        "rlnTomoName": [name] * len(x),
        "rlnCoordinateX": x,
        "rlnCoordinateY": y,
        "rlnCoordinateZ": z,
        "rlnTomoTiltSeriesPixelSize": [pixel_A] * len(x),
        "rlnClassNumber": [1] * len(x),
    }
    path.write_text(star(columns))
    return path


@pytest.mark.usefixtures("contrast")
class TestExtracted:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """As `tomadapt extract` leaves it."""
        tomogram = write_mrc(tmp_path / "t.mrc")
        rows = "".join(f"{x},30,20\n" for x in (20, 40, 60))
        (tmp_path / "l.csv").write_text("x,y,z\n" + rows)
        options = ["--particles", tmp_path / "l.csv", "--box", 16, "--out", tmp_path / "x"]
        arguments = ["extract", tomogram, *options, "--contrast", "positive"]
        done = CliRunner().invoke(app, [*map(str, arguments)])
        assert done.exit_code == 0
        return tmp_path / "x"

    def test_is_known(self, folder: Path) -> None:
        """Regression: the folder was audited as one of .mrc cubes, of which it has none."""
        report = report_of(folder)
        assert (report.kind, problems(report)) == ("subtomograms", [])
        assert report.value("format") == "extracted"
        assert report.value("particles") == {"count": 3, "box": 16}
        assert report.value("voxel_size") == VOXEL_A
        assert report.value("tomogram") == str(folder.parent / "t.mrc")
        assert report.value("rows") == 3
        assert finding(report, "readable").level == "ok"

    def test_a_list_that_does_not_fit(self, folder: Path) -> None:
        text, block, digest = (folder / "particles.star").read_text().partition("data_tomadapt")
        lines = text.rstrip().splitlines()
        (folder / "particles.star").write_text("\n".join([*lines[:-1], "", block + digest]))
        assert problems(report_of(folder)) == ["rows"]
        (folder / "particles.star").unlink()
        assert problems(report_of(folder)) == ["readable"]

    def test_damage(self, folder: Path) -> None:
        (folder / "extracted.json").write_text("{")
        assert problems(report_of(folder)) == ["readable"]
        assert "extracted.json is damaged" in finding(report_of(folder), "readable").text


class TestParticleList:
    def test_alone(self, tmp_path: Path) -> None:
        report = report_of(particles(tmp_path / "p.star", [(1, 2, 3), (5, 5, 5)]))
        assert (report.kind, problems(report)) == ("particle list", [])
        assert (report.value("format"), report.value("particles")) == ("relion4", 2)
        assert report.value("tomograms") == {"t": 2}
        assert report.value("pixel_size") == [10.0]
        assert report.value("classes") == {"1": 2}
        assert report.value("poses") is False
        assert report.value("inside") is None

    def test_rows_that_cannot_be_used(self, tmp_path: Path) -> None:
        places = [(1, 2, 3), (float("nan"), 1, 1), (1, 2, 3)]
        report = report_of(particles(tmp_path / "p.star", places))
        assert problems(report) == ["rows"]
        assert [row["row"] for row in report.value("rows")] == [1, 2]
        assert "NaN" in report.value("rows")[0]["reason"]
        assert "same particle" in report.value("rows")[1]["reason"]
        assert "2 of 3 rows" in finding(report, "rows").text

    def test_those_outside_of_the_tomogram(self, tmp_path: Path) -> None:
        nz, ny, nx = SHAPE
        corners = [(0, 0, 0), (nx - 0.6, ny - 0.6, nz - 0.6)]
        beyond = [(nx - 0.4, 1, 1), (1, ny - 0.4, 1), (1, 1, nz - 0.4), (1, -0.6, 1)]
        listed = particles(tmp_path / "p.star", [*corners, *beyond], name="sub/t.rec")
        # the list comes first: the order must not matter
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"))
        assert problems(report) == ["inside"]
        assert report.value("inside") == {"t": [2, 3, 4, 5]}
        assert "4 of 6 lie outside of t (96 × 64 × 40 voxels" in finding(report, "inside").text
        inside = particles(tmp_path / "q.star", corners)
        report = report_of(inside, tmp_path / "t.mrc")
        assert (finding(report, "inside").level, report.value("inside")) == ("ok", {})

    def test_other_tomograms_are_not_held_against_it(self, tmp_path: Path) -> None:
        """Of several tomograms a list is of those that it names."""
        listed = particles(tmp_path / "p.star", [(1000, 2, 3)], name="t_1")
        others = write_mrc(tmp_path / "t_10.mrc"), write_mrc(tmp_path / "t_11.mrc")
        report = report_of(listed, *others)
        assert problems(report) == []
        assert report.value("inside") is None
        found = finding(report, "tomograms_given")
        assert found.level == "warning"
        assert "no particle is in t_10, t_11; the list has t_1" in found.text
        # One of several names: the commands refuse it for a tomogram that it does not name.
        listed.write_text(listed.read_text() + "t_2 1 2 3 10.0 1\n")
        assert finding(report_of(listed, others[0]), "tomograms_given").level == "warning"

    def test_regression_a_list_of_one_other_name_is_checked_as_by_the_commands(
        self, tmp_path: Path
    ) -> None:
        """Doctor said that no particle is in the tomogram, and looked at nothing else."""
        listed = particles(tmp_path / "p.star", [(1000, 2, 3), (10, 20, 30)], name="t_1")
        report = report_of(listed, write_mrc(tmp_path / "t_10.mrc"))
        assert report.value("inside") == {"t_10": [0]}
        inside = particles(tmp_path / "q.star", [(40, 50, 9), (10, 20, 30)], name="t_1")
        found = finding(report_of(inside, tmp_path / "t_10.mrc"), "positions")
        assert found.level == "warning"
        assert "the list calls its one tomogram 't_1', the file is 't_10'" in found.text

    @pytest.mark.parametrize("name", ["parts.txt", "parts", "parts.toml", "parts.cif", "parts.map"])
    def test_regression_a_list_is_known_by_its_content(self, name: str, tmp_path: Path) -> None:
        """Under another name the commands read it, and doctor took it for what the name says."""
        listed = particles(tmp_path / name, [(40, 50, 9), (90, 20, 30)])
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"))
        assert report.kind == "particle list"
        assert report.value("positions") == {"t": 2}
        table = tmp_path / f"csv_{name}"
        table.write_text("x_A,y_A,z_A\n400,500,90\n900,200,300\n")
        known = "structure" if name.endswith("cif") else "configuration"
        kind = known if name.endswith(("cif", "toml")) else "particle list"
        assert report_of(table, tmp_path / "t.mrc").kind == kind

    def test_regression_the_density_at_listed_places_is_looked_at(self, tmp_path: Path) -> None:
        """Places without particles, or beside them, were refused or told by extract alone."""
        rng = np.random.default_rng(3)
        grid = [(x, y, z) for x in (14, 32, 50, 68, 84) for y in (14, 32, 50) for z in (12, 27)]
        places = np.array(grid) + rng.integers(-2, 3, (len(grid), 3))
        z, y, x = np.indices(SHAPE)
        volume = rng.normal(size=SHAPE) * 0.5
        for place in places:
            squares = sum((a - c) ** 2 for a, c in zip((x, y, z), place, strict=True))
            volume -= 2 * (squares < 25)
        tomogram = write_mrc(tmp_path / "t.mrc", volume.astype(np.float32))

        def density(at: NDArray[Any]) -> Finding:
            listed = particles(tmp_path / "p.star", [tuple(row) for row in at.tolist()])
            return finding(report_of(listed, tomogram), "density")

        assert density(places).level == "ok"
        assert density(places).value["t"] < -10
        beside = density(places + np.array([3, 0, 0]))
        assert beside.level == "warning"
        assert "centred beside them" in beside.text
        nowhere = density(np.random.default_rng(0).uniform(5, [90, 58, 35], (30, 3)))
        assert nowhere.level == "warning"
        assert "do not differ from their surroundings" in nowhere.text

    def test_regression_series_that_tomograms_star_lacks_are_no_problem(
        self, tmp_path: Path
    ) -> None:
        """Rows of a series that is not wanted need no size, and the commands go on without it."""
        names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
        columns = {"rlnTomoName": ["t", "t", "u"], **{name: [10, 90, 50] for name in names}}
        listed = tmp_path / "p.star"
        listed.write_text(star(columns))
        sizes = {f"rlnTomoSize{axis}": [n] for axis, n in zip("XYZ", SHAPE[::-1], strict=True)}
        of_t = {"rlnTomoName": ["t"], "rlnTomoTiltSeriesPixelSize": [VOXEL_A], **sizes}
        tomograms = tmp_path / "tomograms.star"
        tomograms.write_text(star(of_t, "global"))
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"), tomograms)
        assert problems(report) == []
        assert finding(report, "rows").level == "warning"
        assert "no size of its tomogram 'u'" in finding(report, "rows").text
        assert report.value("positions") == {"t": 2}
        wanted = report_of(listed, write_mrc(tmp_path / "u.mrc"), tomograms)
        assert problems(wanted) == ["refused_positions"]

    def test_regression_c14_is_told_by_doctor_as_by_extract(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A volume thinner than tomograms.star says: doctor found fault with no file of the three.

        Every warning of extract has to stand in the report.
        """
        names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
        places = np.random.default_rng(0).uniform(-150, 150, (12, 3)).round(1)
        columns = {"rlnTomoName": ["TS_01"] * 12, **dict(zip(names, places.T, strict=True))}
        listed = tmp_path / "p.star"
        listed.write_text(star(columns))
        sizes = {f"rlnTomoSize{axis}": [n] for axis, n in zip("XYZ", (96, 64, 52), strict=True)}
        columns = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [VOXEL_A], **sizes}
        tomograms = tmp_path / "tomograms.star"
        tomograms.write_text(star(columns, "global"))
        thin = write_mrc(tmp_path / "rec_TS_01_thin.mrc")
        options = ["--tomograms", tomograms, "--out", tmp_path / "x", "--contrast", "positive"]
        command = ["extract", thin, "--particles", listed, "--box", 16, *options]
        done = CliRunner().invoke(app, [*map(str, command)])
        assert done.exit_code == 0
        mark = "tomadapt: warning: "
        told = [line.removeprefix(mark) for line in done.stderr.splitlines() if mark in line]
        report = report_of(listed, thin, tomograms)
        said = " ".join(" ".join(f.text.split()) for f in report.findings if f.level == "warning")
        assert any("another size of this tomogram than its volume" in text for text in told)
        for text in told:
            assert text.partition(": are these")[0] in said  # noise, at another radius

    @pytest.mark.parametrize(
        ("pixel_A", "level"),
        [
            (10.0, "ok"),
            (10.01, "ok"),
            (10.2, "warning"),
            (8.0, "problem"),
            (20.0, "problem"),
            (0.135, "problem"),
            (2.5, "ok"),
            (1.35, "ok"),
        ],
    )
    def test_its_pixels_against_the_voxels(
        self, tmp_path: Path, pixel_A: float, level: str
    ) -> None:
        tomogram = write_mrc(tmp_path / "t.mrc")
        listed = particles(tmp_path / "p.star", [(1, 1, 1)], pixel_A=pixel_A)
        found = finding(report_of(listed, tomogram), "tomogram_voxel_size")
        assert found.level == level
        assert list(found.value.values()) == pytest.approx([VOXEL_A / pixel_A], rel=1e-4)
        assert ("if one of them is rounded" in found.text) == (pixel_A == 10.2)

    def test_regression_coordinates_in_angstrom_count_in_no_pixels(self, tmp_path: Path) -> None:
        """Doctor called a problem what extract tells: copick's spacing of another volume."""
        listed = tmp_path / "p.json"
        points = [{"location": {"x": 100, "y": 90, "z": 80 + n}} for n in range(2)]
        listed.write_text(json.dumps({"run_name": "t", "voxel_spacing": 7.84, "points": points}))
        found = finding(report_of(listed, write_mrc(tmp_path / "t.mrc")), "tomogram_voxel_size")
        assert found.level == "warning"
        assert "coordinates are in Å" in found.text

    def test_of_a_tomogram_of_unknown_voxels_nothing_is_said(self, tmp_path: Path) -> None:
        tomogram = write_mrc(tmp_path / "t.mrc", voxel_A=0)
        report = report_of(particles(tmp_path / "p.star", [(1000, 1, 1)]), tomogram)
        assert report.value("tomograms_given") == {"t": 1}
        assert problems(report) == []
        assert report.value("inside") is None

    def test_a_dynamo_table_counts_in_the_voxels_given(self, tmp_path: Path) -> None:
        table = tmp_path / "p.tbl"
        rows = [[n, 1, 1] + [0] * 16 + [1, 0, 0, 0, 50.5, 30.5, 20.5 + 30 * n] for n in range(2)]
        table.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
        alone = report_of(table)
        assert problems(alone) == ["readable"]
        assert "pixel size" in finding(alone, "readable").text
        report = report_of(table, write_mrc(tmp_path / "1.mrc"))
        assert "10 Å" in finding(report, "taken_from_tomogram").text
        assert report.value("inside") == {"1": [1]}

    def test_coordinates_from_the_centre(self, tmp_path: Path) -> None:
        names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
        columns = {"rlnTomoName": ["t", "t"]} | {
            name: [0, 201 * (n == 2)] for n, name in enumerate(names)
        }
        listed = tmp_path / "p.star"
        listed.write_text(star(columns))
        assert "tomograms' centres" in finding(report_of(listed), "readable").text
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"))
        assert report.value("inside") == {"t": [1]}  # 200 Å is half of its thickness
        sizes = dict(zip("XYZ", SHAPE[::-1], strict=True))
        tomograms = {"rlnTomoName": ["t"], "rlnTomoTiltSeriesPixelSize": [VOXEL_A]}
        tomograms |= {f"rlnTomoSize{axis}": [n] for axis, n in sizes.items()}
        of_tomograms = tmp_path / "tomograms.star"
        of_tomograms.write_text(star(tomograms, "global"))
        audit = examine([listed, of_tomograms])
        assert [report.kind for report in audit.files] == ["particle list", "tomogram list"]
        assert audit.files[0].value("particles") == 2
        assert audit.files[1].value("tomograms") == ["t"]
        assert audit.problems == 0

    def test_regression_odd_places_are_told_as_by_the_commands(self, tmp_path: Path) -> None:
        """Fractions of the volume and lists of one corner were refused or told by extract alone."""
        tomogram = write_mrc(tmp_path / "t.mrc")
        rng = np.random.default_rng(0)

        def listed(places: np.ndarray) -> Path:
            path = tmp_path / "p.csv"
            rows = [",".join(f"{v:.4f}" for v in row) for row in places]
            path.write_text("\n".join(["x,y,z", *rows]) + "\n")
            return path

        fractions = finding(report_of(listed(rng.random((20, 3))), tomogram), "placement")
        assert fractions.level == "problem"
        assert "fractions of the volume" in fractions.text
        corner = finding(report_of(listed(2 + 6 * rng.random((20, 3))), tomogram), "placement")
        assert corner.level == "warning"
        assert "--pixel-size" in corner.text

    def test_regression_every_note_on_places_is_told(self, tmp_path: Path) -> None:
        """A list of one corner on a coarse lattice has two notes, and the last one was kept."""
        corner = np.unique(2 + 4 * np.random.default_rng(0).integers(0, 4, (20, 3)), axis=0)
        listed = particles(tmp_path / "p.star", [tuple(row) for row in corner.tolist()])
        found = finding(report_of(listed, write_mrc(tmp_path / "t.mrc")), "placement")
        assert found.level == "warning"
        assert "lattice of 4 × 4 × 4" in found.text
        assert "lie within" in found.text
        assert len(found.value["t"]) == 2

    def test_regression_a_column_that_names_tomograms_decides_as_in_the_commands(
        self, tmp_path: Path
    ) -> None:
        """Doctor took all rows of a list without the column of names that it knows."""
        listed = tmp_path / "p.csv"
        listed.write_text("x_A,y_A,z_A,run\n100,100,100,t\n100,100,9999,u\n")
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"))
        assert report.value("tomograms_given") == {"t": 1}
        assert report.value("inside") == {}

    def test_regression_another_size_of_the_tomogram_is_told_as_by_the_commands(
        self, tmp_path: Path
    ) -> None:
        """extract told of a tomograms.star with another thickness, and doctor did not."""
        listed = particles(tmp_path / "p.star", [(1, 2, 3), (50, 50, 30)])
        columns = {"rlnTomoName": ["t"], "rlnTomoTiltSeriesPixelSize": [VOXEL_A]}
        columns |= {f"rlnTomoSize{axis}": [n] for axis, n in zip("XYZ", (96, 64, 52), strict=True)}
        (tmp_path / "tomograms.star").write_text(star(columns, "global"))
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"), tmp_path / "tomograms.star")
        assert "0, 0, 60 Å off" in finding(report, "taken_from_tomogram").text

    def test_a_list_without_names_is_of_the_only_tomogram(self, tmp_path: Path) -> None:
        listed = tmp_path / "p.csv"
        listed.write_text("x_A,y_A,z_A\n100,100,100\n100,100,9999\n")
        report = report_of(listed, write_mrc(tmp_path / "t.mrc"))
        assert report.value("inside") == {"t": [1]}
        assert finding(report, "tomograms").level == "note"
        other = write_mrc(tmp_path / "u.mrc")
        assert report_of(listed, tmp_path / "t.mrc", other).value("inside") is None

    @pytest.mark.parametrize(
        ("text", "found"),
        [("", "empty file"), ("what is this", "no list of particles"), ("\0\1", "binary data")],
    )
    def test_what_is_none(self, tmp_path: Path, text: str, found: str) -> None:
        (tmp_path / "p.txt").write_text(text)
        report = report_of(tmp_path / "p.txt")
        assert problems(report) == ["readable"]
        assert found in finding(report, "readable").text

    @pytest.mark.parametrize(
        "name", ["t", "t.mrc", "a/b/t.rec", "a\\t.mrc", "t.mrc.gz", "t.tomostar", "t.ome.zarr"]
    )
    def test_bare_names(self, name: str) -> None:
        assert bare_name(name) == "t"

    def test_dots_in_names_stay(self) -> None:
        assert bare_name("TS_01_10.00Apx.mrc") == "TS_01_10.00Apx"
        assert bare_name("0012") == "0012"


def test_regression_missing_chunks_are_told_once(tmp_path: Path) -> None:
    """Two warnings on the screen and a note said the same, and the last line: no problems."""
    path = write_zarr(tmp_path / "t.zarr")
    chunks = [p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith(".z")]
    chunks = sorted(p for p in chunks if p.name != "zarr.json")
    for chunk in chunks[: len(chunks) // 2]:
        chunk.unlink()
    done = run(path)
    assert done.output.count("are not stored") == 1
    assert "no problems found, 2 warnings" in done.output
    report = report_of(path)
    assert finding(report, "chunks").level == finding(report, "filling").level == "warning"


def test_regression_half_a_volume_that_is_constant_is_a_warning(tmp_path: Path) -> None:
    """Doctor noted it between other notes, and blamed NaN for the spectrum that is not there."""
    volume = VOLUME.copy()
    volume[:, :, 48:] = 0
    report = report_of(write_mrc(tmp_path / "t.mrc", volume))
    assert finding(report, "filling").level == "warning"
    assert "50.0% of the sample is constant" in finding(report, "filling").text
    assert "NaN" not in finding(report, "spectrum").text


def test_regression_names_of_file_and_tomogram_are_told_apart(tmp_path: Path) -> None:
    """It said "called 'TS_01_10.00Apx' in lists", where most lists call it TS_01."""
    text = finding(report_of(write_mrc(tmp_path / "TS_01_10.00Apx.mrc")), "name").text
    assert "file TS_01_10.00Apx.mrc is called 'TS_01_10.00Apx' or 'TS_01'" in text
    assert finding(report_of(write_mrc(tmp_path / "t.mrc")), "name").text.endswith("called 't'")


def test_regression_what_opening_tells_is_a_finding(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """A z spacing that nobody set was told beside the table, and not in the JSON."""
    path = write_mrc(tmp_path / "t.mrc")
    content = bytearray(path.read_bytes())
    content[36:40] = (1).to_bytes(4, "little")
    path.write_bytes(content)
    found = finding(report_of(path), "told")
    assert found.level == "warning"
    assert "10 × 10 Å (x, y; z is not set)" in found.text
    assert not recwarn.list


class TestModel:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        card = ModelCard(
            class_names=("a", "b"), box=24, voxel_size_A=9.2, network="default", acquisition=None
        )
        Model.new(card).save(tmp_path / "m.safetensors")
        return tmp_path / "m.safetensors"

    def test_its_card(self, path: Path) -> None:
        report = report_of(path)
        assert (report.kind, problems(report)) == ("model", [])
        assert (report.value("classes"), report.value("box")) == (["a", "b"], 24)
        assert (report.value("voxel_size"), report.value("method")) == (9.2, "source_only")
        assert {f.level for f in report.findings} == {"ok"}

    def test_weights_that_are_no_numbers(self, path: Path) -> None:
        model = Model.load(path)
        with torch.no_grad():
            model.classifier.bias[0] = float("nan")
        model.save(path)
        report = report_of(path)
        assert problems(report) == ["weights"]
        assert "bias" in finding(report, "weights").text

    def test_of_another_version(self, path: Path) -> None:
        model = Model.load(path)
        model.copy(package_version="0.0.1").save(path)
        assert finding(report_of(path), "written_by").level == "note"

    def test_a_damaged_one(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-9])
        assert "is not a model file" in finding(report_of(path), "readable").text


SIMULATION = (
    'classes = ["apoferritin", "null"]\nacquisition = "batch_b"\nper_class = 2\nsnr = 0.1\n'
)
RUN = """\
[structures]
classes = { mine = "models/mine.pdb" }
[source]
acquisition = "batch_b"
snr = 0.1
per_class = 2
[target]
path = "target.mrcs"
"""


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            (SIMULATION + "seed = 1\n", "SimulationConfig"),
            (RUN, "RunConfig"),
        ],
    )
    def test_its_kind(self, tmp_path: Path, text: str, kind: str) -> None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "mine.pdb").touch()
        (tmp_path / "target.mrcs").touch()
        (tmp_path / "c.toml").write_text(text)
        report = report_of(tmp_path / "c.toml")
        assert (report.kind, problems(report)) == ("configuration", [])
        assert report.value("configures") == kind

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text(RUN)
        report = report_of(tmp_path / "c.toml")
        assert problems(report) == ["named_files"]
        named = [Path(place).name for place in report.value("named_files")]
        assert named == ["mine.pdb", "target.mrcs"]

    @pytest.mark.parametrize(
        ("text", "found"), [("snrr = 1\n" + SIMULATION, "snrr"), ("a = = 1", "not valid TOML")]
    )
    def test_mistakes(self, tmp_path: Path, text: str, found: str) -> None:
        (tmp_path / "c.toml").write_text(text)
        report = report_of(tmp_path / "c.toml")
        assert problems(report) == ["readable"]
        assert found in finding(report, "readable").text


class Gpu:
    """Stands for torch.cuda on a machine with one."""

    def __init__(self, error: str = "") -> None:
        self.error = error

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    device = staticmethod(lambda index: torch.no_grad())
    is_bf16_supported = staticmethod(lambda including_emulation: True)

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name="Card", total_memory=80 * 10**9)

    def mem_get_info(self, index: int) -> tuple[int, int]:
        if self.error:
            raise RuntimeError(f"{self.error}\nand more")
        return 70 * 10**9, 80 * 10**9


class TestMachine:
    def test_what_is_told(self) -> None:
        report = examine().machine
        keys = [f.key for f in report.findings]
        assert keys == [
            "python", "cpu_cores", "memory", "disk", "torch", "threads", "gpus", "packages",
            "formats",
        ]  # fmt: skip
        assert report.value("cpu_cores") >= 1
        memory = report.value("memory")
        assert 0 < memory["free_bytes"] <= memory["total_bytes"]
        assert report.value("packages")["torch"] == torch.__version__
        assert {"tomadapt", "numpy", "gemmi"} <= report.value("packages").keys()
        assert "pytest" not in report.value("packages")
        assert report.value("threads") == torch.get_num_threads()

    @pytest.mark.parametrize(("gigabytes", "level"), [(0.5, "problem"), (5, "note"), (50, "ok")])
    def test_disk(self, monkeypatch: pytest.MonkeyPatch, gigabytes: float, level: str) -> None:
        usage = SimpleNamespace(free=gigabytes * 1e9)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        assert finding(examine().machine, "disk").level == level

    def test_memory_of_a_container(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        limit = tmp_path / "memory.max"
        limit.write_text("2000000000\n")
        monkeypatch.setattr(machine_module, "_CGROUP_MEMORY", limit)
        found = finding(examine().machine, "memory")
        assert (found.level, found.value["total_bytes"]) == ("note", 2 * 10**9)

    def test_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "cuda", Gpu())
        monkeypatch.setattr(torch, "ones", lambda n, device: torch.zeros(n))
        found = finding(examine().machine, "gpus")
        assert (found.level, found.text) == ("ok", "Card, 80 GB, with bf16")
        assert found.value[0]["free_bytes"] == 70 * 10**9
        monkeypatch.setattr(torch, "cuda", Gpu("no kernel image"))
        found = finding(examine().machine, "gpus")
        assert found.level == "problem"
        assert found.text.endswith("no kernel image")

    def test_missing_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = {"gemmi", "zarr"}
        real = machine_module._version
        monkeypatch.setattr(machine_module, "_version", lambda n: None if n in absent else real(n))
        report = examine().machine
        assert problems(report) == ["packages"]
        assert finding(report, "packages").text.startswith("not installed: gemmi;")
        assert finding(report, "formats").level == "note"
        assert "OME-Zarr (zarr)" in finding(report, "formats").text


@pytest.mark.usefixtures("contrast")
class TestCommand:
    def test_json_of_the_machine_alone(self) -> None:
        done = run("--json")
        document = json.loads(done.stdout)
        assert done.exit_code == min(document["problems"], 1)
        assert list(document) == ["format", "problems", "warnings", "machine", "files"]
        assert (document["format"], document["files"]) == ("tomadapt-doctor-2", [])
        for found in document["machine"]["findings"]:
            assert list(found) == ["key", "level", "text", "value", "remedy"]

    def test_exit_code_and_order(self, tmp_path: Path) -> None:
        good = write_mrc(tmp_path / "good.mrc")
        bad = tmp_path / "nothing.mrc"
        assert run(good, "--json").exit_code == 0
        done = run(bad, good, "--json")
        assert done.exit_code == 1
        document = json.loads(done.stdout)
        assert [report["subject"] for report in document["files"]] == [str(bad), str(good)]
        assert [report["problems"] for report in document["files"]] == [1, 0]
        assert document["problems"] == 1

    def test_every_problem_has_a_remedy(self, tmp_path: Path) -> None:
        write_mrc(tmp_path / "constant.mrc", np.ones(SHAPE, np.float32), voxel_A=0)
        (tmp_path / "c.toml").write_text(RUN)
        particles(tmp_path / "p.star", [(1, 1, 1), (1, 1, 1)])
        document = json.loads(run(*sorted(tmp_path.iterdir()), tmp_path / "x", "--json").stdout)
        found = [f for report in document["files"] for f in report["findings"]]
        remedies = [f["remedy"] for f in found if f["level"] == "problem"]
        assert len(remedies) == document["problems"] == 5
        assert all(remedies)

    def test_json_has_no_numbers_that_are_none(self, tmp_path: Path) -> None:
        with pytest.warns(RuntimeWarning):
            path = write_mrc(tmp_path / "t.mrc", np.full(SHAPE, np.nan, np.float32))
        done = run(path, "--json")
        assert "NaN" not in done.stdout.replace("NaN and", "").replace("nan …", "")
        (values,) = [
            f for f in json.loads(done.stdout)["files"][0]["findings"] if f["key"] == "values"
        ]
        assert values["value"]["mean"] is None

    def test_tables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.chdir(tmp_path)
        write_mrc(Path("[red]t.mrc"), voxel_A=0)
        with mrcfile.open("[red]t.mrc", "r+") as mrc:
            mrc.header.label[0] = b"\x1b[2J[bold]steers"
        done = run("[red]t.mrc")
        assert done.exit_code == 1
        assert "[red]t.mrc: tomogram" in done.stdout
        assert "[2J[bold]steers" in done.stdout
        assert "\x1b" not in done.stdout
        assert "PROBLEM" in done.stdout
        assert "→ mend the header, or give --voxel-size" in done.stdout
        assert "1 problem found" in done.stdout
        assert "machine" in done.stdout

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        for name in ("pipe", "pipe.mrc", "pipe.star", "pipe.npz"):
            os.mkfifo(tmp_path / name)
            assert problems(report_of(tmp_path / name)) == ["readable"]

    def test_the_help_says_what_the_exit_code_means(self) -> None:
        done = run("--help")
        assert "exits with 1 when there is a problem" in " ".join(done.stdout.split())


def test_regression_a_project_file_is_no_configuration_with_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.mrc").touch()
    entries = [TomogramEntry(name=name, volume=tmp_path / f"{name}.mrc") for name in "ab"]
    project = Project(ecosystem="IMOD", folder=tmp_path, tomograms=tuple(entries))
    write_project(tmp_path / "project.toml", project)
    report = report_of(tmp_path / "project.toml")
    assert report.value("configures") == "Project"
    assert "a project of IMOD, 2 tomograms" in finding(report, "configures").text
    assert problems(report) == ["named_files"]
    assert finding(report, "named_files").text == "no volume of b"
