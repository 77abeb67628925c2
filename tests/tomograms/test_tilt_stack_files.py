"""Damaged tilt stacks: rows are rejected with reasons, files with errors that name a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_tilt_series import Particle, Series, write_stack, write_warp

from tomadapt.errors import ConfigError, InputError, MismatchError, TomadaptError
from tomadapt.io.mrc import open_mrc
from tomadapt.tomograms.tilt_stacks import reconstruct_tilt_stacks

SERIES = Series(tilts_deg=tuple(np.arange(-60.0, 61.0, 6.0).tolist()))
N = 16
PARTICLES = [Particle(position_A=(300 + 200.0 * i, 900, 400)) for i in range(3)]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_warp(tmp_path, N, SERIES, PARTICLES)


def second_stack(export: Path) -> Path:
    return export.parent / "stacks" / "T_01_000002.mrcs"


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def particles_star(export: Path) -> Path:
    return export.with_name("matching.star")


def tomograms_star(export: Path) -> Path:
    return export.with_name("matching_tomograms.star")


def visible_text(values: list[int]) -> str:
    return f"[{','.join(map(str, values))}]"


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:mrcfile")


def remove(export: Path) -> None:
    second_stack(export).unlink()


def drop_an_image(export: Path) -> None:
    images = np.array(open_mrc(second_stack(export))[1])
    write_stack(second_stack(export), images[1:])


def nan(export: Path) -> None:
    images = np.array(open_mrc(second_stack(export))[1])
    images[3, 2, 1] = np.nan
    write_stack(second_stack(export), images)


def infinite(export: Path) -> None:
    images = np.array(open_mrc(second_stack(export))[1])
    images[3, 2, 1] = np.inf
    write_stack(second_stack(export), images)


def truncated(export: Path) -> None:
    content = second_stack(export).read_bytes()
    second_stack(export).write_bytes(content[: len(content) // 2])


def other_side(export: Path) -> None:
    write_stack(second_stack(export), np.random.default_rng(0).random((len(SERIES), 20, 20)))


def not_square(export: Path) -> None:
    write_stack(second_stack(export), np.random.default_rng(0).random((len(SERIES), N, 20)))


def other_pixels(export: Path) -> None:
    images = np.array(open_mrc(second_stack(export))[1])
    write_stack(second_stack(export), images, voxel_A=10.0)


def empty_images(export: Path) -> None:
    write_stack(second_stack(export), np.zeros((len(SERIES), N, N)))


def in_second_row(export: Path, old: str, new: str) -> None:
    lines = particles_star(export).read_text(encoding="utf-8").split("\n")
    row = next(i for i, line in enumerate(lines) if "000002.mrcs" in line)
    assert old in lines[row]
    lines[row] = lines[row].replace(old, new, 1)
    particles_star(export).write_text("\n".join(lines), encoding="utf-8")


ALL = visible_text([1] * len(SERIES))
REJECTED: list[tuple[Callable[[Path], None], str]] = [
    (remove, "does not exist"),
    (drop_an_image, "an image for each tilt"),
    (nan, "NaN or infinite pixels"),
    (infinite, "NaN or infinite pixels"),
    (truncated, "fewer data"),
    (other_side, "20 pixels, not of 16"),
    (not_square, "no square"),
    (other_pixels, "pixels of"),
    (empty_images, "0 images that show it"),
    (lambda e: in_second_row(e, ALL, visible_text([1] * 5)), "of 5 images, not of 21"),
    (lambda e: in_second_row(e, ALL, "[1,2,x]"), "no list of 0 and 1"),
    (lambda e: in_second_row(e, ALL, visible_text([1, 1] + [0] * 19)), "2 images that show it"),
    (lambda e: in_second_row(e, "T_01.tomostar", "T_09.tomostar"), "is not in"),
    (lambda e: in_second_row(e, "70.0", "nan"), "NaN or infinite"),
]


@pytest.mark.parametrize(("damage", "reason"), REJECTED, ids=[r for _, r in REJECTED])
def test_a_row_that_cannot_be_used_is_rejected_with_its_reason(
    export: Path, damage: Callable[[Path], None], reason: str
) -> None:
    whole = reconstruct_tilt_stacks(export, contrast="positive")
    damage(export)
    found = reconstruct_tilt_stacks(export, contrast="positive")
    assert found.kept.tolist() == [0, 2]
    assert list(found.dropped) == [1]
    assert reason in found.dropped[1]
    np.testing.assert_array_equal(found.volumes, whole.volumes[[0, 2]])
    assert len(found.particles) == 3


def test_images_that_are_missing_are_left_out(export: Path) -> None:
    """An empty image that the file calls visible says nothing, and does not count."""
    images = np.array(open_mrc(second_stack(export))[1])
    images[4] = 0
    write_stack(second_stack(export), images)
    found = reconstruct_tilt_stacks(export, contrast="positive")
    assert found.images.tolist() == [21, 20, 21]
    shown = [int(i != 4) for i in range(21)]
    in_second_row(export, ALL, visible_text(shown))
    stated = reconstruct_tilt_stacks(export, contrast="positive")
    np.testing.assert_array_equal(found.volumes, stated.volumes)


def test_tilts_of_scale_zero_are_left_out_as_invisible_ones_are(export: Path) -> None:
    """Their images are there, with content: neither they nor their amplitudes count."""
    text = particles_star(export).read_text(encoding="utf-8")
    shown = visible_text([int(i not in (0, 7)) for i in range(21)])
    particles_star(export).write_text(text.replace(ALL, shown), encoding="utf-8")
    invisible = reconstruct_tilt_stacks(export, contrast="positive")
    assert invisible.images.tolist() == [19, 19, 19]
    assert len(invisible.acquisition.tilt_angles_deg) == 19
    particles_star(export).write_text(text, encoding="utf-8")
    whole = reconstruct_tilt_stacks(export, contrast="positive")
    lines = tomograms_star(export).read_text(encoding="utf-8").split("\n")
    rows = [i for i, line in enumerate(lines) if line.startswith("[")]
    for row in (rows[0], rows[7]):
        words = lines[row].split()
        words[7] = "0.0"  # rlnCtfScalefactor
        lines[row] = "  ".join(words)
    tomograms_star(export).write_text("\n".join(lines), encoding="utf-8")
    found = reconstruct_tilt_stacks(export, contrast="positive")
    assert found.images.tolist() == [19, 19, 19]
    np.testing.assert_allclose(found.volumes, invisible.volumes, atol=1e-6)
    assert np.abs(found.volumes - whole.volumes).max() > 1e-3


def test_no_particle_left_is_an_error(export: Path) -> None:
    for stack in (export.parent / "stacks").iterdir():
        stack.unlink()
    with pytest.raises(InputError, match="none of the 3 particles"):
        reconstruct_tilt_stacks(export, contrast="positive")


def in_particles(old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    return lambda export: edit(particles_star(export), old, new, count)


def in_tomograms(old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    return lambda export: edit(tomograms_star(export), old, new, count)


def turned_about_x(export: Path) -> None:
    """All tilts about x: columns x and y of the matrices exchanged, with a sign."""
    lines = []
    for line in tomograms_star(export).read_text(encoding="utf-8").split("\n"):
        words = line.split()
        if words and words[0].startswith("["):
            for i in range(3):
                x, y, z, w = words[i].strip("[]").split(",")
                words[i] = f"[{y},{-float(x)},{z},{w}]"
        lines.append("  ".join(words))
    tomograms_star(export).write_text("\n".join(lines), encoding="utf-8")


def short_row(export: Path) -> None:
    text = tomograms_star(export).read_text(encoding="utf-8")
    start = text.index("[")
    end = text.index("]", start)
    tomograms_star(export).write_text(f"{text[:start]}[1,0{text[end:]}", encoding="utf-8")


REFUSED: list[tuple[Callable[[Path], None], type[TomadaptError], str]] = [
    (in_particles("2DStacks   1", "2DStacks   0"), InputError, "no 2D stacks"),
    (in_particles("data_optics", "data_other"), ConfigError, "pixel size"),
    (in_particles("_rlnCtfDataAreCtfPremultiplied", "_rlnOther"), InputError, "multiplied by"),
    (in_particles("_rlnImageName", "_rlnNothing"), InputError, "rlnImageName"),
    (in_particles("_rlnImagePixelSize", "_rlnNothing"), InputError, "rlnImagePixelSize"),
    (in_tomograms("_rlnTomoProjX", "_rlnNothing"), InputError, "rlnTomoProjX"),
    (in_tomograms("_rlnDefocusU", "_rlnNothing"), InputError, "rlnDefocusU"),
    (in_tomograms("_rlnTomoSizeZ", "_rlnNothing"), InputError, "rlnTomoSizeZ"),
    (in_tomograms("data_T_01.tomostar", "data_T_02.tomostar"), InputError, "the images of"),
    (in_tomograms("28000.0", "nan"), InputError, "rlnDefocusU cannot be"),
    (in_tomograms("28000.0", "1e308"), InputError, "rlnDefocusU cannot be what it is"),
    (in_tomograms("[", "[9"), InputError, "rlnTomoProjX cannot be"),
    (in_tomograms("[0", "[1"), InputError, "no rotation"),
    (in_tomograms("[", "[1,2]  #"), InputError, "not of STAR's form"),
    (short_row, InputError, "no row of a matrix"),
    (turned_about_x, InputError, "does not turn about y"),
]


@pytest.mark.parametrize(("damage", "error", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_files_that_cannot_be_used_are_refused(
    export: Path, damage: Callable[[Path], None], error: type[TomadaptError], message: str
) -> None:
    damage(export)
    with pytest.raises(error, match=message):
        reconstruct_tilt_stacks(export, contrast="positive")


def test_groups_with_other_pixels_are_refused(export: Path) -> None:
    star = particles_star(export)
    lines = star.read_text(encoding="utf-8").split("\n")
    row = next(i for i, line in enumerate(lines) if "opticsGroup1" in line)
    second = (
        lines[row].replace("1  opticsGroup1", "2  opticsGroup2").replace("  12.0  ", "  10.0  ")
    )
    assert "  10.0  " in second
    lines.insert(row + 1, second)
    star.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(MismatchError, match="size of their pixels"):
        reconstruct_tilt_stacks(export, contrast="positive")
