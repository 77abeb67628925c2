"""Particles that are tilt stacks, labelled by likelihood; the rows of their file come back."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from command_line import call
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import ParticleList, read_particles
from tomograms.planted_tilt_series import VOXEL_A, Particle, Series, density, write_warp

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
N, EACH = 24, 6
HIDDEN = (True, True, *[False] * 39)  # two images are too few


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series of six particles in noise, and one particle that hardly any image shows."""
    folder = tmp_path_factory.mktemp("stacks")
    turns = Rotation.random(2 * EACH, random_state=3).as_euler("ZYZ", degrees=True)
    particles = [
        Particle(
            position_A=(900.0, 1300.0, 250.0 + 20 * number),
            angles_deg=tuple(angles),
            noise=1.5,
            tomogram=f"T_0{1 + number % 2}",
        )
        for number, angles in enumerate(turns.tolist())
    ]
    write_warp(
        folder,
        N,
        Series(),
        [*particles, Particle(position_A=(700.0, 500.0, 300.0), visible=HIDDEN)],
    )
    write_mrc(folder / "blobs.mrc", density(N).astype(np.float32), voxel_size_A=VOXEL_A)
    return folder


@pytest.fixture(scope="module")
def run(stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    options = ("--structures", f"blobs={stacks}/blobs.mrc", "--fdr", 0.05, "--out", out)
    assert call("classify", stacks / "matching_optimisation_set.star", *options) == 0
    return out


def column(particles: ParticleList, name: str) -> list[str]:
    assert particles.table is not None
    return list(particles.table.column(name))


def test_rows_in_are_rows_out(stacks: Path, run: Path) -> None:
    given = read_particles(stacks / "matching.star")
    labelled, rejected = (read_particles(run / f"{k}.star") for k in ("particles", "rejected"))
    images = [column(p, "rlnImageName") for p in (given, labelled, rejected)]
    assert sorted(images[1] + images[2]) == sorted(images[0])
    assert len(labelled) >= 2 * EACH - 1
    assert set(column(labelled, "tomadaptClassName")) == {"blobs"}
    # What was refined before stays as it was.
    kept = [images[0].index(image) for image in images[1]]
    psi = column(given, "rlnAnglePsi")
    assert column(labelled, "rlnAnglePsi") == [psi[row] for row in kept]
    hidden = images[2].index(images[0][-1])
    assert "2 images" in column(rejected, "tomadaptReason")[hidden]


def test_rows_of_the_table_are_found_again(run: Path) -> None:
    with (run / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * EACH
    labelled = read_particles(run / "particles.star")
    for cube, score in zip(
        column(labelled, "tomadaptSubtomogram"), column(labelled, "tomadaptScore"), strict=True
    ):
        assert float(rows[int(cube) - 1]["probability"]) == pytest.approx(float(score), abs=1e-4)


def test_what_was_recorded_is_said_and_used(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["recording"]["tilt series"] == "2"
    assert summary["recording"]["CTF"].startswith("of each image")
    assert summary["n_without_cube"] == 1
    assert not (run / "subtomograms").exists()  # these cubes are not corrected for their CTF


@pytest.mark.filterwarnings("default")
def test_what_is_stated_beside_the_file_is_told_and_not_used(stacks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--structures", f"blobs={stacks}/blobs.mrc", "--defocus", 9, "--voxel-size", 9)
    given = stacks / "matching_optimisation_set.star"
    assert call("classify", given, *options, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert any("are not used" in text for text in summary["warnings"])
    # Regression: `assumed` said that the voxel size was as stated.
    assert summary["assumed"]["voxel size"] == f"voxels of {VOXEL_A:g} Å, as the file says"
    assert summary["n_labelled"] == 2 * EACH
    assert "9 µm" not in summary["recording"]["CTF"]


@pytest.mark.filterwarnings("default")
def test_a_series_whose_images_were_turned_one_by_one_is_told(stacks: Path, tmp_path: Path) -> None:
    """As of the real ribosomes, where the series with such alignments lack their labels."""
    folder = tmp_path / "given"
    shutil.copytree(stacks, folder)
    tomograms = folder / "matching_tomograms.star"
    first, second = tomograms.read_text(encoding="utf-8").split("data_T_02")
    generator = np.random.default_rng(1)

    def turned(line: str) -> str:
        if not line.lstrip().startswith("["):
            return line
        *rows, last = re.findall(r"\[[^]]*\]", line)
        turn = Rotation.from_euler("z", generator.normal(scale=3.0), degrees=True).as_matrix()
        matrix = turn @ np.array([json.loads(row)[:3] for row in rows])
        texts = [f"[{','.join(map(str, row))},0]" for row in matrix]
        return "  ".join([*texts, last, *line.rpartition("]")[2].split()])

    lines = map(turned, second.split("\n"))
    tomograms.write_text(first + "data_T_02" + "\n".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    options = ("--structures", f"blobs={stacks}/blobs.mrc", "--out", out)
    assert call("classify", folder / "matching_optimisation_set.star", *options) == 0
    told = json.loads((out / "summary.json").read_text(encoding="utf-8"))["warnings"]
    stray = [text for text in told if "direction of the tilt axis" in text]
    assert len(stray) == 1
    assert "T_02" in stray[0]
    assert "T_01" not in stray[0]


@pytest.mark.parametrize("given", ["particles.star", "set.star"])
def test_regression_the_users_list_is_never_overwritten(
    given: str, stacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in stacks.glob("*_tomograms.star"):
        (tmp_path / "particles_tomograms.star").write_bytes(path.read_bytes())
    (tmp_path / "stacks").symlink_to(stacks / "stacks")
    before = (stacks / "matching.star").read_bytes()
    (tmp_path / "particles.star").write_bytes(before)
    (tmp_path / "set.star").write_text(
        "\ndata_\n\n_rlnTomoParticlesFile   particles.star\n"
        "_rlnTomoTomogramsFile   particles_tomograms.star\n",
        encoding="utf-8",
    )
    options = ("--structures", f"blobs={stacks}/blobs.mrc", "--out", tmp_path)
    assert call("classify", tmp_path / given, *options) != 0
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "particles.star").read_bytes() == before


@pytest.mark.filterwarnings("default")
def test_regression_what_a_rate_takes_away_still_speaks_of_the_label(
    stacks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--structures", f"blobs={stacks}/blobs.mrc", "--fdr", 1e-300, "--out", out)
    assert call("classify", stacks / "matching_optimisation_set.star", *options) == 0
    with (out / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "wanted"]
    assert {row["label"] for row in rows} <= {"null", "blobs"}
    for row in rows:
        assert float(row["probability"]) == pytest.approx(float(row["p_blobs"]), abs=2e-4)


def test_regression_a_structure_is_looked_at_before_stacks_are_reconstructed(
    stacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the error spoke of `tomadapt import`, as of every file of RELION's."""
    out = tmp_path / "out"
    options = ("--structures", "nosuch.mrc", "--out", out)
    assert call("classify", stacks / "matching_optimisation_set.star", *options) != 0
    error = capsys.readouterr().err
    assert "nosuch.mrc" in error
    assert "tomadapt import" not in error
    assert not (out / "whitened.npy").exists()
