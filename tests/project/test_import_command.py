"""``tomadapt import``: the summary, the warnings, the exit codes."""

from __future__ import annotations

from pathlib import Path

import project_writers as made
import pytest

from command_line import call
from tomadapt.project import read_project


@pytest.mark.parametrize(
    "writer",
    [made.write_relion5, made.write_warp, made.write_imod, made.write_aretomo, made.write_portal],
)
def test_a_line_a_tomogram(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], writer: object
) -> None:
    writer(tmp_path / "project", made.truths(5))  # type: ignore[operator]
    out = tmp_path / "table.toml"
    assert call("import", tmp_path / "project", "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("TS_01: ")
    assert "voxels of 10 Å, 41 tilts -60" in lines[0]
    assert "2.9 e/Å² a tilt, 2 µm" in lines[0]
    assert ("hand inverted" in lines[4]) is (writer is not made.write_portal)
    assert lines[-1].startswith(f"{out}: 5 tomograms of ")
    assert len(read_project(out).tomograms) == 5


def test_warnings_name_tomograms_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_imod(tmp_path / "p", made.truths(3))
    made.write(tmp_path / "p/TS_01/TS_01.tlt", "x\n")
    made.stack(tmp_path / "p/TS_02/TS_02.mrc", 55, pixel_A=2.0)
    (tmp_path / "p/TS_03/TS_03.defocus").unlink()
    assert call("import", tmp_path / "p", "--out", tmp_path / "p.toml") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert all(line.startswith("tomadapt: warning: ") for line in warnings)
    assert any("TS_01.tlt, line 1" in line for line in warnings)
    assert any("TS_02: tilt_series_pixel_size_A: 1.25 in" in line for line in warnings)
    assert any("defocus of TS_03 is the target" in line for line in warnings)
    assert any("missing of TS_03: defocus_per_tilt_um, astig" in line for line in warnings)


def test_what_is_missing_of_all_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_portal(tmp_path / "p", made.truths(3))
    assert call("import", tmp_path / "p", "--out", tmp_path / "p.toml") == 0
    err = capsys.readouterr().err
    assert err == "tomadapt: warning: missing of all tomograms: amplitude_contrast, inverted\n"


def test_errors_have_exit_codes_and_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("import", tmp_path / "nothing", "--out", tmp_path / "p.toml") == 3
    assert not (tmp_path / "p.toml").exists()
    star = made.write_relion5(tmp_path / "p", made.truths(1))
    for name in ("a", "b"):
        made.write(tmp_path / f"p/{name}_tomograms.star", star.read_text())
    assert call("import", tmp_path / "p", "--out", tmp_path / "p.toml") == 2
    assert call("import", star, "--out", tmp_path) == 5
    assert call("import", star, "--out", tmp_path / "p.toml") == 0
    (tmp_path / "p.toml").write_text((tmp_path / "p.toml").read_text() + "# mine\n")
    assert call("import", star, "--out", tmp_path / "p.toml") == 5
    errors = [e for e in capsys.readouterr().err.splitlines() if ": error: " in e]
    assert len(errors) == 4
    assert all("Remedy: " in line or "expected " in line for line in errors)
