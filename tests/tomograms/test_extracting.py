"""Folders of cubes: from a tomogram and from 2D tilt stacks, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted_tilt_series import Particle, Series, write_warp

from command_line import call
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import open_target
from tomadapt.io.extracted import cubes_digest, read_card, write_card
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import read_particles
from tomadapt.io.star import read_star
from tomadapt.tomograms import extracting


@pytest.fixture
def tomogram(tmp_path: Path) -> Path:
    """Dark balls of 12 nm in noise, as most programs write them."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(40, 60, 61)).astype(np.float32)
    axes = np.ogrid[:40, :60, :61]
    rows = []
    for z, y, x in [(12, 14, 15), (28, 14, 44), (12, 44, 15), (28, 44, 44), (4, 30, 30)]:
        squares = (axes[0] - z) ** 2 + (axes[1] - y) ** 2 + (axes[2] - x) ** 2
        volume -= 3 * (squares < 36)
        rows.append(f"{x},{y},{z},ball-{x}")
    write_mrc(tmp_path / "balls.mrc", volume, voxel_size_A=10.0)
    (tmp_path / "balls.csv").write_text("x,y,z,note\n" + "\n".join(rows) + "\n")
    return tmp_path / "balls.mrc"


def test_extract_measures_the_sign(tomogram: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--box", 16, "--border", "drop"]
    assert call("extract", tomogram, *options, "--out", out) == 0
    data = open_target(out)
    assert (len(data), data.box, data.voxel_size_A) == (4, 16, 10.0)
    cubes = data.source.read(range(4)).numpy()
    assert (cubes[:, 6:11, 6:11, 6:11].mean(axis=(1, 2, 3)) > 2).all()
    rejected = read_particles(out / "rejected.star")
    assert rejected.table is not None
    assert rejected.table.column("tomadaptReason") == ("its box reaches out of the tomogram",)
    assert rejected.table.column("csv_note") == ("ball-30",)


def test_a_tomogram_that_nobody_rotated_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case c08: the beam lies along y, and nothing was said while cubes were cut."""
    noise = np.fft.fftn(np.random.default_rng(0).normal(size=(48, 64, 64)))
    kz, _, kx = np.meshgrid(*map(np.fft.fftfreq, noise.shape), indexing="ij", sparse=True)
    right = np.fft.ifftn(noise * (np.abs(kz) <= np.tan(np.radians(55)) * np.abs(kx))).real
    (tmp_path / "p.csv").write_text("x,y,z\n20,20,20\n40,40,30\n")
    options = ["--particles", tmp_path / "p.csv", "--box", 16, "--contrast", "positive"]
    for name, volume in (("right", right), ("unrotated", right.swapaxes(0, 1))):
        path = tmp_path / f"{name}.mrc"
        write_mrc(path, np.ascontiguousarray(volume, np.float32), voxel_size_A=10.0)
        assert call("extract", path, *options, "--out", tmp_path / name) == 0
        told = "beam seems to lie along y" in capsys.readouterr().err
        assert told == (name == "unrotated")


def test_extract_rescales_and_smooths(tomogram: Path, tmp_path: Path) -> None:
    shared = ["--particles", tmp_path / "balls.csv", "--box", 10, "--cube-voxel-size", 20]
    assert call("extract", tomogram, *shared, "--out", tmp_path / "a") == 0
    smooth = ["--smoothing-nm", 3]
    assert call("extract", tomogram, *shared, *smooth, "--out", tmp_path / "b") == 0
    plain, smoothed = (np.load(tmp_path / name / "subtomograms.npy") for name in "ab")
    assert plain.shape == smoothed.shape == (5, 10, 10, 10)
    assert np.diff(smoothed, axis=3).std() < 0.5 * np.diff(plain, axis=3).std()


def test_a_folder_that_is_not_whole_is_no_target(tomogram: Path, tmp_path: Path) -> None:
    """The card is written last, so a folder that was being written is not taken for a set."""
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--box", 16]
    assert call("extract", tomogram, *options, "--out", out) == 0
    (out / "extracted.json").unlink()
    assert call("predict", "none.safetensors", out, "--out", tmp_path / "labels.csv") == 3


@pytest.mark.parametrize("box", [16, 38], ids=["that serves", "that fails"])
def test_a_list_in_the_folder_is_not_overwritten(
    box: int, tomogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--out .` beside the user's particles.star: it is neither replaced nor deleted."""
    folder = tmp_path / "mine"
    options = ["--particles", tmp_path / "balls.csv", "--box", 16]
    assert call("extract", tomogram, *options, "--out", folder) == 0
    (folder / "extracted.json").unlink()
    (folder / "subtomograms.npy").unlink()
    mine = (folder / "particles.star").read_bytes()
    listed = ["--particles", folder / "particles.star", "--border", "drop", "--box", box]
    assert call("extract", tomogram, *listed, "--out", folder) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (folder / "particles.star").read_bytes() == mine


def test_an_interrupted_extraction_is_made_anew(tomogram: Path, tmp_path: Path) -> None:
    """Killed before its card was written, it must not stand in the way for ever."""
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--box", 16, "--out", out]
    assert call("extract", tomogram, *options) == 0
    (out / "extracted.json").unlink()
    assert call("extract", tomogram, *options) == 0
    assert len(open_target(out)) == 5


def test_extract_again(tomogram: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--out", out]
    assert call("extract", tomogram, *options, "--box", 16) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert call("extract", tomogram, *options, "--box", 16) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # A failure leaves what was there, whole.
    tomogram.write_bytes(tomogram.read_bytes()[:5000])
    assert call("extract", tomogram, *options, "--box", 16) == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert open_target(out).box == 16


def test_regression_another_extraction_is_not_replaced_in_silence(
    tomogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cubes of other options or of another list in --out were replaced without a word."""
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--out", out]
    assert call("extract", tomogram, *options, "--box", 16) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert call("extract", tomogram, *options, "--box", 12) == 4
    told = capsys.readouterr().err
    assert "holds an extraction of another configuration" in told
    assert "box (16 → 12)" in told
    assert "choose another --out or delete that folder" in told
    with (tmp_path / "balls.csv").open("a") as file:
        file.write("20,20,20,one more\n")
    assert call("extract", tomogram, *options, "--box", 16) == 4
    assert "a difference in particles, content; positions, content" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_regression_the_same_list_by_another_path_is_the_same_extraction(
    tomogram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path in the place of the absolute one was another configuration."""
    options = ["--box", 16, "--out", tmp_path / "set"]
    assert call("extract", tomogram, "--particles", tmp_path / "balls.csv", *options) == 0
    monkeypatch.chdir(tmp_path)
    assert call("extract", "balls.mrc", "--particles", "balls.csv", *options) == 0


def test_regression_files_that_a_list_leads_to_count(tomogram: Path, tmp_path: Path) -> None:
    """Changed particles behind an unchanged optimisation set replaced the cubes without a word."""
    rows = "".join(f"balls {x} {y} {z}\n" for x, y, z in [(15, 14, 12), (44, 14, 28)])
    labels = "\n".join(["_rlnTomoName", *(f"_rlnCoordinate{axis}" for axis in "XYZ")])
    particles = tmp_path / "particles.star"
    particles.write_text(f"data_particles\n\nloop_\n{labels}\n{rows}")
    (tmp_path / "set.star").write_text("data_\n\n_rlnTomoParticlesFile particles.star\n")
    options = ["--particles", tmp_path / "set.star", "--box", 16, "--contrast", "negative"]
    options += ["--pixel-size", 10, "--out", tmp_path / "set"]
    assert call("extract", tomogram, *options) == 0
    assert call("extract", tomogram, *options) == 0
    particles.write_text(particles.read_text().replace("balls 44", "balls 43"))
    assert call("extract", tomogram, *options) == 4


def test_an_extraction_of_an_earlier_version_is_not_replaced(
    tomogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--out", out, "--box", 16]
    assert call("extract", tomogram, *options) == 0
    write_card(out, read_card(out).model_copy(update={"made_with": {}}))
    assert call("extract", tomogram, *options) == 4
    assert "does not say with which options it was made" in capsys.readouterr().err


def test_a_failure_while_cubes_are_cut_leaves_the_folder_as_it_was(
    tomogram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--out", out, "--box", 16]
    assert call("extract", tomogram, *options) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(_: object) -> str:
        raise InputError("the disk is gone")

    monkeypatch.setattr(extracting, "cubes_digest", fail)
    assert call("extract", tomogram, *options) == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_regression_lists_that_cannot_be_written_leave_the_folder_as_it_was(
    tomogram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier cubes, lists and card were gone before the new lists were written."""
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--out", out]
    assert call("extract", tomogram, *options, "--box", 16) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_: object) -> None:
        raise ConfigError("particles.star cannot be written")

    for last in ("write_positions", "write_card"):
        with monkeypatch.context() as patch:
            patch.setattr(extracting, last, fail)
            assert call("extract", tomogram, *options, "--box", 16) == 2
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert open_target(out).box == 16


def test_reconstruct(tmp_path: Path) -> None:
    out = tmp_path / "set"
    export = write_warp(tmp_path, 24, Series(), [Particle(), Particle(position_A=(300, 320, 200))])
    assert call("reconstruct", export, "--contrast", "positive", "--out", out) == 0
    cubes = np.load(out / "subtomograms.npy")
    kept = read_particles(out / "particles.star", strict=False)
    assert len(kept) == len(cubes) == 2
    assert len(open_target(out, contrast="positive")) == len(cubes)
    # As for extract: the same again, and nothing else in its place.
    assert call("reconstruct", export, "--contrast", "positive", "--out", out) == 0
    assert call("reconstruct", export, "--contrast", "positive", "--mirror", "--out", out) == 4


def test_regression_rows_of_an_extraction_have_the_numbers_of_their_cubes(
    tomogram: Path, tmp_path: Path
) -> None:
    """Rows and cubes were joined by their order, and an earlier run's numbers were kept."""
    first, out = tmp_path / "first", tmp_path / "set"
    assert call("extract", tomogram, "--particles", tmp_path / "balls.csv", "--out", first) == 0
    (tmp_path / "mine.star").write_bytes((first / "particles.star").read_bytes())
    options = ["--particles", tmp_path / "mine.star", "--box", 16, "--border", "drop"]
    assert call("extract", tomogram, *options, "--out", out) == 0
    tables = {name: read_star(out / name) for name in ("particles.star", "rejected.star")}
    of = {
        name: next(t for t in document.tables if "tomadaptSubtomogram" in t)
        for name, document in tables.items()
    }
    assert of["particles.star"].column("tomadaptSubtomogram") == ("1", "2", "3", "4")
    assert of["rejected.star"].column("tomadaptSubtomogram") == ("0",)
    digest = cubes_digest(np.load(out / "subtomograms.npy"))
    for document in tables.values():
        block = document.table("tomadapt")
        assert block is not None
        assert block.column("tomadaptCubes") == (digest,)


def test_what_speaks_against_positions_is_in_the_refusal(
    tomogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.2f}" for v in row) for row in rng.uniform(1, 12, (24, 3))]
    (tmp_path / "corner.csv").write_text("\n".join(["x,y,z", *rows]) + "\n")
    options = ["--particles", tmp_path / "corner.csv", "--box", 16, "--out", tmp_path / "set"]
    assert call("extract", tomogram, *options) == 2
    error = capsys.readouterr().err
    assert "of the tomogram (x, y, z): check in which pixels they count" in error
    assert not (tmp_path / "set").exists()


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_stated_voxel_size_overrides_the_header_for_lists_in_pixels_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calibrated 13.48 Å were refused where the header says 10.

    A Dynamo table counts in the tomogram's voxels, so its particles stay at their voxels.
    """
    volume = np.random.default_rng(0).normal(size=(40, 60, 61)).astype(np.float32)
    volume[18:23, 28:33, 38:43] += 5
    write_mrc(tmp_path / "t.mrc", volume, voxel_size_A=10.0)
    rows = [[0.0] * 35 for _ in range(2)]
    for number, (row, place) in enumerate(zip(rows, [(40, 30, 20), (15, 15, 15)], strict=True)):
        row[0], row[19], row[23:26] = number + 1, 1, [c + 0.5 for c in place]  # as Dynamo counts
    lines = [" ".join(f"{value:g}" for value in row) for row in rows]
    (tmp_path / "t.tbl").write_text("\n".join(lines) + "\n")
    options = ["--particles", tmp_path / "t.tbl", "--box", 16, "--contrast", "positive"]
    options += ["--voxel-size", 13.48]
    assert call("extract", tmp_path / "t.mrc", *options, "--out", tmp_path / "out") == 0
    assert "10 Å in its header, and 13.48 Å are stated" in capsys.readouterr().err
    cubes = np.load(tmp_path / "out" / "subtomograms.npy")
    assert open_target(tmp_path / "out", contrast="positive").voxel_size_A == 13.48
    np.testing.assert_allclose(cubes[0, 6:11, 6:11, 6:11].mean(), 5, atol=0.3)


def test_the_voxel_size_of_an_extraction_can_be_overridden(tomogram: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    options = ["--particles", tmp_path / "balls.csv", "--box", 16]
    assert call("extract", tomogram, *options, "--out", out) == 0
    with pytest.warns(UserWarning, match="10 Å in its header, and 13.48 Å are stated"):
        assert open_target(out, voxel_size_A=13.48).voxel_size_A == 13.48


@pytest.mark.filterwarnings("always::UserWarning")
def test_cubes_at_the_border_of_a_half_downloaded_store_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case c05: chunks that did not arrive are 0; cubes were half constant, without a word."""
    zarr = pytest.importorskip("zarr")
    volume = np.random.default_rng(0).normal(size=(40, 60, 60)).astype(np.float32)
    path = tmp_path / "t.zarr"
    scale = [{"type": "scale", "scale": [10.0] * 3}]
    axes = [{"name": a, "type": "space", "unit": "angstrom"} for a in "zyx"]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    store = zarr.storage.LocalStore(path)
    zarr.create_group(store, zarr_format=2, attributes={"multiscales": [image]})
    keys = {"name": "v2", "separator": "/"}
    options = {"chunks": (20, 20, 20), "zarr_format": 2, "chunk_key_encoding": keys}
    zarr.create_array(store, name="0", data=volume, **options)
    for chunk in (path / "0").glob("*/*/2"):
        chunk.unlink()
    (tmp_path / "p.csv").write_text("x,y,z\n15,20,20\n39,30,20\n39,30,22\n")
    options = ["--particles", tmp_path / "p.csv", "--box", 16, "--contrast", "positive"]
    assert call("extract", path, *options, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().err
    assert "6 of the 18 chunks" in told
    assert "2 of 3 cubes of" in told
