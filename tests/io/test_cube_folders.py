"""Folders of cubes in which other volumes lie beside the particles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.doctor import examine
from tomadapt.inputs.labelled import open_labelled_folder
from tomadapt.inputs.particles import open_target
from tomadapt.io.cube_folders import cube_folder, is_mask, is_point_symmetric

BOX = 24
AXIS = np.arange(BOX) - BOX // 2
RADIUS = np.sqrt(AXIS[:, None, None] ** 2 + AXIS[:, None] ** 2 + AXIS**2)


def particles(n: int = 8) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(size=(n, BOX, BOX, BOX))
    return (3.0 * (RADIUS < 4) + noise).astype(np.float32)


def ctf() -> NDArray[np.float32]:
    """Of a tilt series, centred: the same at k and −k."""
    kz, kx = AXIS[:, None, None], AXIS
    measured = np.abs(kz) <= np.tan(np.radians(60)) * np.abs(kx)
    return (np.sin(RADIUS**2 / 20) * (measured + 0 * AXIS[:, None])).astype(np.float32)


def mask() -> NDArray[np.float32]:
    return np.clip(8 - RADIUS, 0, 1).astype(np.float32)


def average() -> NDArray[np.float32]:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(BOX,) * 3), 2)
    ball = ndimage.gaussian_filter(3.0 * (RADIUS < 4) * (AXIS < 2), 1.5)
    return (ball + 0.1 * noise).astype(np.float32)


def write(path: Path, data: NDArray[Any]) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 10.0


def fill(folder: Path, form: str = "p{}.mrc", n: int = 8) -> list[str]:
    names = [form.format(i) for i in range(n)]
    for name, cube in zip(names, particles(n), strict=True):
        write(folder / name, cube)
    return sorted(names)


BESIDE: dict[str, tuple[Callable[[], NDArray[np.float32]], str]] = {
    # name → content, and a word of the reason
    "p0_ctf.mrc": (ctf, "CTF"),
    "something.mrc": (ctf, "opposite directions"),
    "fft.mrc": (lambda: np.fft.ifftshift(ctf()), "opposite directions"),
    "half.mrc": (lambda: ctf()[..., : BOX // 2 + 1], "half map by its name|Fourier"),
    "weights_of_all.mrc": (lambda: ctf()[..., : BOX // 2 + 1], "weight"),
    "noname.mrc": (lambda: ctf()[..., : BOX // 2 + 1], "half of a Fourier transform"),
    "mask.mrc": (mask, "mask by its name"),
    "ball.mrc": (mask, "mask by its values"),
    "average.mrc": (average, "average"),
    "run_it025_class001.mrc": (average, "average"),
    "ref_half1_unfil.mrc": (average, "half map"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_no_particle_is_left_out_and_listed(tmp_path: Path, name: str) -> None:
    """Kind 2 of issue 15: files beside particles were taken for particles, or stopped the run."""
    names = fill(tmp_path)
    content, reason = BESIDE[name]
    write(tmp_path / name, content())
    with pytest.warns(UserWarning, match=rf"left out: {name}: .*({reason})"):
        data = open_target(tmp_path)
    assert data.source.names == tuple(names)  # type: ignore[attr-defined]
    np.testing.assert_allclose(data.source.read(range(8)).numpy(), particles(), rtol=1e-6)


@pytest.mark.parametrize(
    ("particle", "beside"),
    [("{}_data.mrc", "{}_weights.mrc"), ("ts_{}_12.00A.mrc", "ts_{}_ctf_12.00A.mrc")],
)
def test_one_beside_each_particle(tmp_path: Path, particle: str, beside: str) -> None:
    """As RELION 4 and Warp write them: as many weights or CTFs as particles."""
    names = fill(tmp_path, particle)
    for i in range(8):
        write(tmp_path / beside.format(i), ctf()[..., : BOX // 2 + 1])
    with pytest.warns(UserWarning, match=r"\(8 in all\): a CTF or weight volume"):
        assert open_target(tmp_path).source.names == tuple(names)  # type: ignore[attr-defined]
    report = examine([tmp_path]).files[0]
    assert report.value("left_out") == 8
    assert report.value("particles")["count"] == 8


@pytest.mark.parametrize("form", ["mask_protein_{}.mrc", "average_box_{}.mrc", "ctf_{}.mrc"])
def test_a_word_that_all_names_share_means_nothing(
    tmp_path: Path, form: str, recwarn: pytest.WarningsRecorder
) -> None:
    names = fill(tmp_path, form)
    assert open_target(tmp_path).source.names == tuple(names)  # type: ignore[attr-defined]
    assert not [w for w in recwarn if "left out" in str(w.message)]


def test_particles_without_noise_stay(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Where all are point-symmetric, that says nothing."""
    for i in range(4):
        write(tmp_path / f"{i}.mrc", np.exp(-(RADIUS**2) / (20 + i)).astype(np.float32))
    assert len(open_target(tmp_path)) == 4
    assert not [w for w in recwarn if "left out" in str(w.message)]


def test_one_that_is_as_smooth_as_an_average_is_kept_and_told(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / "final.mrc", average())
    with pytest.warns(UserWarning, match=r"final\.mrc have far less noise .* move them away"):
        assert len(open_target(tmp_path)) == 9


def test_also_in_the_folder_of_a_class(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    write(tmp_path / "a" / "mask.mrc", mask())
    with pytest.warns(UserWarning, match="left out: mask.mrc"):
        data = open_labelled_folder(tmp_path, ["a", "b"])
    assert np.bincount(np.asarray(data.labels)).tolist() == [8, 8]


def test_doctor_tells_what_content_leaves_out(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / "something.mrc", ctf())
    report = examine([tmp_path]).files[0]
    (told,) = [f for f in report.findings if f.key == "told"]
    assert told.level == "warning"
    assert "something.mrc" in told.text


def test_contents() -> None:
    noisy = particles(1)[0]
    assert not is_mask(noisy)
    assert not is_point_symmetric(noisy)
    assert is_mask(mask())
    assert is_point_symmetric(ctf())
    assert is_point_symmetric(np.fft.ifftshift(ctf()))
    assert not is_point_symmetric(np.ones((8, 8, 8), np.float32))
    odd = np.pad(ctf()[1:, 1:, 1:], 0)
    assert is_point_symmetric(odd)


def test_names_are_listed_once(tmp_path: Path) -> None:
    fill(tmp_path)
    for i in range(5):
        write(tmp_path / f"half{i % 2 + 1}_{i}_average.mrc", average())
    found = cube_folder(tmp_path)
    assert len(found.particles) == 8
    assert "… (5 in all)" in found.text


@pytest.mark.filterwarnings("default")
def test_regression_the_voxel_size_is_that_of_the_particles(tmp_path: Path) -> None:
    """A mask of 5 Å, first by its name and left out, gave its voxel size to particles of 10 Å."""
    names = fill(tmp_path)
    write(tmp_path / "a.mrc", mask())
    with mrcfile.open(tmp_path / "a.mrc", "r+") as mrc:
        mrc.voxel_size = 5.0
    for stated_A in (None, 10.0):
        with pytest.warns(UserWarning, match="no particles and left out: a.mrc") as told:
            data = open_target(tmp_path, voxel_size_A=stated_A)
        assert (len(data), data.voxel_size_A) == (len(names), 10.0)
        assert not [warning for warning in told if "5 Å" in str(warning.message)]
