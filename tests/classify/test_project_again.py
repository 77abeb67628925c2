"""A project labelled again: nothing twice, nothing lost; the likelihood is replaced by a stub."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from distributed import Client, KilledWorker

from command_line import call
from project.project_writers import truths, write_relion5
from tomadapt.acquisition import tilt_range
from tomadapt.classify import project as labelling
from tomadapt.classify.options import ClassifyOptions
from tomadapt.classify.project import label_tomogram
from tomadapt.classify.project_files import joined
from tomadapt.classify.project_plans import Plan
from tomadapt.errors import InputError, OutputError
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.io.particle_lists import ParticleList, read_particles, write_star
from tomadapt.io.star import read_star
from tomadapt.project import (
    Project,
    TomogramEntry,
    import_project,
    read_project,
    write_project,
)
from tomadapt.report.project_page import render_project
from tomadapt.runs import cluster
from tomadapt.runs.atomic import write_json
from tomadapt.runs.heard import heard
from tomadapt.runs.own_folder import make_own, require_own

GIVEN = ("--structures", "apoferritin")
ROWS = {"A": 2, "B": 3, "C": 4}


class Labelled:
    """Stands for the likelihood: writes what it writes, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.options: list[ClassifyOptions] = []
        self.raised: dict[str, BaseException] = {}
        self.once: dict[str, BaseException] = {}
        self.killed: set[str] = set()
        self.warns = False

    def __call__(self, options: ClassifyOptions, out: Path, *, device: str) -> dict[str, Any]:
        name = options.source.acquisition.name
        self.options.append(options)
        wanted = options.model_dump(mode="json", exclude={"also", "fdr"})
        require_own(out, wanted)
        if name in self.once:
            raise self.once.pop(name)
        if name in self.raised:
            raise self.raised[name]
        make_own(out, wanted)
        told: list[str] = []
        with heard(told):
            if self.warns:
                warnings.warn(f"{name} is odd", stacklevel=2)
        n = ROWS.get(name, 1)
        places = np.arange(3 * n, dtype=float).reshape(n, 3) * 10
        found = ParticleList(places, None, ("volume",) * n, "relion4", pixel_size_A=np.full(n, 10))
        write_star(out / "particles.star", found, columns={"tomadaptClassName": ["apo"] * n})
        for form in options.also:
            (out / f"particles.{form}").write_text(f"at {options.fdr}")
        if name in self.killed:
            raise SystemExit(9)
        summary = {
            "classes": {"apo": n, "null": 0},
            "n_rejected": 1,
            "measured_acquisition": None,
            "contrast": {"sign": -1, "text": "dark"},
            "seconds": {"judge": 60.0},
            "peak_memory_mb": 500.0,
            "warnings": ["a <doubt>", *told],
            "fdr": {"asked": options.fdr},
        }
        write_json(out / "summary.json", summary)
        return summary

    def names(self) -> list[str]:
        """Of the tomograms that were labelled since the last call."""
        names = [options.source.acquisition.name for options in self.options]
        self.options.clear()
        return names


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> Labelled:
    stub = Labelled()
    monkeypatch.setattr(labelling, "classify_by_likelihood", stub)
    return stub


def entry(folder: Path, name: str, **values: Any) -> TomogramEntry:
    volume = folder / f"{name}.mrc"
    write_mrc(volume, np.zeros((4, 4, 4), np.float32), voxel_size_A=10)
    first = -60 if name == "A" else -45
    told: dict[str, Any] = {
        "volume": volume,
        "tilt_angles_deg": tilt_range(first, 60, 3),
        "defocus_um": 1.0 + "ABCD".find(name[0]),
    }
    return TomogramEntry(name=name, voxel_size_A=10, **(told | values))


def write(folder: Path, those: Iterable[TomogramEntry]) -> Path:
    path = folder / "project.toml"
    path.unlink(missing_ok=True)
    write_project(path, Project(ecosystem="none", folder=folder, tomograms=tuple(those)))
    assert read_project(path).tomograms
    return path


def joint(out: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the joint list by tomogram, and the summary."""
    names = read_particles(out / "particles.star").tomograms
    return {n: names.count(n) for n in names}, json.loads((out / "summary.json").read_text())


def test_an_interrupted_run_goes_on_with_the_rest(tmp_path: Path, labelled: Labelled) -> None:
    out = tmp_path / "out"
    those = [entry(tmp_path, name) for name in "AB"]
    path = write(tmp_path, those)
    labelled.raised["B"] = SystemExit(9)
    assert call("classify", path, *GIVEN, "--out", out) == 9
    rows, summary = joint(out)
    assert rows == {"A": 2}
    assert summary["waiting"] == ["B"]
    labelled.raised.clear()
    labelled.names()
    assert call("classify", path, *GIVEN, "--out", out) == 0
    assert labelled.names() == ["B"]
    assert joint(out)[0] == {"A": 2, "B": 3}
    # In another order and with one more, the joint files have at all times what was done before.
    path = write(tmp_path, [entry(tmp_path, "C"), *reversed(those)])
    labelled.raised["C"] = SystemExit(9)
    assert call("classify", path, *GIVEN, "--out", out) == 9
    rows, summary = joint(out)
    assert rows == {"B": 3, "A": 2}
    assert summary["waiting"] == ["C"]
    labelled.raised.clear()
    assert call("classify", path, *GIVEN, "--out", out) == 0
    assert labelled.names() == ["C", "C"]
    assert joint(out)[0] == ROWS
    assert joint(out)[1]["classes"] == {"apo": 9}


def test_each_has_its_own_metadata(tmp_path: Path, labelled: Labelled) -> None:
    path = write(tmp_path, [entry(tmp_path, "A", voltage_kv=200.0), entry(tmp_path, "B")])
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out") == 0
    acquisitions = [options.source.acquisition for options in labelled.options]
    assert [a.defocus_um for a in acquisitions] == [1.0, 2.0]
    assert [a.voltage_kv for a in acquisitions] == [200.0, 300.0]
    assert [a.tilt_angles_deg[0] for a in acquisitions] == [-60.0, -45.0]
    with (tmp_path / "out" / "tomograms.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["first_tilt_deg"] for row in table] == ["-60.0", "-45.0"]
    assert [row["contrast_sign"] for row in table] == ["-1", "-1"]


@pytest.mark.parametrize("changed", [("--structures", "tric"), ("--seed", 3)])
def test_another_run_is_refused_and_what_is_there_stays(
    changed: tuple[object, ...],
    tmp_path: Path,
    labelled: Labelled,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, "A")])
    assert call("classify", path, *GIVEN, "--out", out) == 0
    before = {f: f.read_bytes() for f in out.iterdir() if f.is_file()}
    options = changed if "--structures" in changed else (*GIVEN, *changed)
    for further in ((), ("--dry-run",)):
        assert call("classify", path, *options, *further, "--out", out) == 4
        told = capsys.readouterr().err
        assert ("source.seed (0 → 3)" if "--seed" in changed else "source.classes.tric") in told
    assert {f: f.read_bytes() for f in out.iterdir() if f.is_file()} == before


def test_the_folder_of_one_tomogram_is_refused(tmp_path: Path, labelled: Labelled) -> None:
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, "A")])
    out.mkdir()
    make_own(out, {"tomogram": "a.mrc"})
    assert call("classify", path, *GIVEN, "--out", out) == 4
    assert [f.name for f in out.iterdir()] == ["config.json"]


def test_an_edited_entry_is_refused_by_name(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = write(tmp_path, [entry(tmp_path, "A"), entry(tmp_path, "B")])
    assert call("classify", path, *GIVEN, "--out", out) == 0
    path = write(tmp_path, [entry(tmp_path, "A", defocus_um=7.0), entry(tmp_path, "B")])
    capsys.readouterr()
    assert call("classify", path, *GIVEN, "--out", out, "--dry-run") == 3
    told = capsys.readouterr().out
    assert "A: cannot be labelled" in told
    assert "defocus_um (1.0 → 7.0)" in told
    assert "delete that folder" in told
    assert call("classify", path, *GIVEN, "--out", out) == 3
    assert list(joint(out)[1]["failed"]) == ["A"]
    assert call("classify", path, *GIVEN, "--out", out, "--strict") == 4
    assert labelled.names() == ["A", "B"]


def test_regression_a_replaced_volume_or_structure_is_noticed(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    """A volume that was reconstructed anew under its name kept the labels of the old one."""
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    maps = [tmp_path / f"{name}.mrc" for name in ("map", "other")]
    for radius, one in zip((3, 4), maps, strict=True):
        away = np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0)
        ball = 1 / (1 + np.exp(2 * (away - radius)))
        write_mrc(one, ball.astype(np.float32), voxel_size_A=10)
    command = ("classify", path, "--structures", f"apo={maps[0]}", "--out", out)
    assert call(*command) == 0
    new = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    write_mrc(tmp_path / "A.mrc", new, voxel_size_A=10)
    capsys.readouterr()
    assert call(*command) == 3
    assert "holds labels of another volume" in capsys.readouterr().out
    assert list(joint(out)[1]["failed"]) == ["A"]
    shutil.rmtree(out / "A")
    labelled.names()
    assert call(*command) == 0
    assert labelled.names() == ["A"]
    (tmp_path / "B.mrc").unlink()  # a volume that was put away is not missed
    assert call(*command) == 0
    shutil.copy(maps[1], maps[0])
    assert call(*command) != 0
    told = capsys.readouterr()
    assert "another structure apo" in told.out + told.err


def test_formats_and_rates_that_are_asked_for_later(tmp_path: Path, labelled: Labelled) -> None:
    """A finished tomogram was kept without the new format, and nothing said so."""
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, "A")])
    for options in ((), ("--also", "csv"), ("--fdr", 0.05)):
        for labels in (["A"], []):
            assert call("classify", path, *GIVEN, *options, "--out", out) == 0
            assert labelled.names() == labels
    assert not (out / "A" / "particles.csv").exists()  # it was of no rate


def test_regression_no_file_of_another_rate_stays(tmp_path: Path, labelled: Labelled) -> None:
    """A run with another rate was killed between the list and the summary; or left its CSV."""
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, "A")])
    low, high = (("classify", path, *GIVEN, "--fdr", rate, "--out", out) for rate in (0.05, 0.2))
    assert call(*low, "--also", "csv") == 0
    labelled.killed.add("A")
    assert call(*high) == 9
    labelled.killed.clear()
    labelled.names()
    assert call(*low) == 0
    assert labelled.names() == ["A"]
    assert call(*high, "--also", "csv") == 0
    assert (out / "A" / "particles.csv").read_text() == "at 0.2"
    assert call(*low) == 0
    assert call(*low, "--also", "csv") == 0
    assert (out / "A" / "particles.csv").read_text() == "at 0.05"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", b"\xff\xfe"),
        ("summary.json", b'{"fdr": {"asked": null}}'),
        ("particles.star", b"\xff\xfe"),
        ("particles.star", None),
    ],
)
def test_regression_a_tomogram_whose_files_are_damaged_is_labelled_again(
    tmp_path: Path, labelled: Labelled, file: str, content: bytes | None
) -> None:
    """One of them ended every run of the whole project."""
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    assert call("classify", path, *GIVEN, "--out", out) == 0
    labelled.names()
    if content is None:
        (out / "A" / file).unlink()
    else:
        (out / "A" / file).write_bytes(content)
    assert call("classify", path, *GIVEN, "--out", out) == 0
    assert labelled.names() == ["A"]
    assert joint(out)[0] == {"A": 2, "B": 3}


def test_regression_what_an_import_could_not_read_is_on_the_page(
    tmp_path: Path, labelled: Labelled
) -> None:
    """A defocus that was only asked for looked like a measured one."""
    told = {"unreadable": ("A.mdoc is cut off",), "sources": {"defocus_um": "x, not measured"}}
    path = write(tmp_path, [entry(tmp_path, "A", **told)])
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A.mdoc is cut off" in page
    assert "the defocus is from x, not measured" in page


def test_what_is_damaged_or_missing_does_not_stop_the_others(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    those = {name: entry(tmp_path, name) for name in "ABCD"}
    gone = entry(tmp_path, "E", volume=tmp_path / "gone.mrc")
    path = write(tmp_path, [*those.values(), gone])
    labelled.raised["B"] = InputError("B.mrc is damaged")
    labelled.raised["D"] = PermissionError(13, "Permission denied", "D.mrc")
    assert call("classify", path, *GIVEN, "--out", out) == 3
    failed = joint(out)[1]["failed"]
    assert set(failed) == {"B", "D", "E"}
    assert "gone.mrc" in failed["E"]
    (out / "A" / "summary.json").write_text("{")  # it is labelled again
    (tmp_path / "C.mrc").unlink()  # what has labels needs no volume
    labelled.raised.clear()
    capsys.readouterr()
    assert call("classify", path, *GIVEN, "--out", out) == 3
    failed = joint(out)[1]["failed"]
    assert set(failed) == {"E"}
    assert joint(out)[0] == {"A": 2, "B": 3, "C": 4, "D": 1}
    assert labelled.names() == [*"ABCD", *"ABD"]
    assert "1 of 5 tomograms" in capsys.readouterr().err
    with (out / "tomograms.csv").open(newline="") as file:
        reasons = {row["tomogram"]: row["failure"] for row in csv.DictReader(file)}
    assert reasons["B"] == ""
    assert "gone.mrc" in reasons["E"]


def test_strict_stops_where_one_fails(tmp_path: Path, labelled: Labelled) -> None:
    path = write(tmp_path, [entry(tmp_path, name) for name in "ABC"])
    labelled.raised["B"] = InputError("B.mrc is damaged")
    assert call("classify", path, *GIVEN, "--strict", "--out", tmp_path / "out") == 3
    assert labelled.names() == ["A", "B"]
    assert joint(tmp_path / "out")[0] == {"A": 2}


def test_a_full_disk_stops_all(tmp_path: Path, labelled: Labelled) -> None:
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    for error in (OutputError("no space left"), OSError(errno.ENOSPC, "No space left on device")):
        labelled.raised["A"] = error
        assert call("classify", path, *GIVEN, "--out", tmp_path / "out") == 5
        assert labelled.names() == ["A"]


def test_too_little_memory_is_that_tomograms_fault(tmp_path: Path, labelled: Labelled) -> None:
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    labelled.raised["A"] = MemoryError()
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out") == 3
    assert "not enough memory" in joint(tmp_path / "out")[1]["failed"]["A"]
    assert labelled.names() == ["A", "B"]


def test_faults_of_all_are_told_once_before_anything_is_written(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    assert call("classify", path, "--structures", "no_such_one", "--out", out) == 2
    path = write(tmp_path, [entry(tmp_path, name, defocus_um=None) for name in "AB"])
    assert call("classify", path, *GIVEN, "--out", out) == 3
    assert "no tomogram of the project can be labelled" in capsys.readouterr().err
    path.write_text('ecosystem = "none"\nfolder = "."\n')
    assert call("classify", path, *GIVEN, "--out", out) == 3
    assert "has no tomograms" in capsys.readouterr().err
    assert not list(out.glob("*"))
    assert not labelled.names()


def test_a_dry_run_says_what_would_fail_and_writes_nothing(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    those = [
        entry(tmp_path, "A"),
        entry(tmp_path, "B", defocus_um=None),
        entry(tmp_path, "C", volume=None),
        entry(tmp_path, "summary.json"),
    ]
    path = write(tmp_path, those)
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out", "--dry-run") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A: to be labelled"
    assert lines[1].startswith("B: cannot be labelled: the tomogram B has no defocus_um")
    assert lines[2].startswith("C: cannot be labelled: the tomogram C has no volume")
    assert lines[3].startswith("summary.json: cannot be labelled")
    assert not (tmp_path / "out").exists()


def test_regression_a_dry_run_opens_each_volume(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    those = {name: entry(tmp_path, name) for name in ("whole", "short", "empty", "text", "flat")}
    cut = (tmp_path / "short.mrc").read_bytes()[:-20]
    (tmp_path / "short.mrc").write_bytes(cut)
    (tmp_path / "empty.mrc").write_bytes(b"")
    (tmp_path / "text.mrc").write_text("no volume" * 200)
    write_mrc(tmp_path / "flat.mrc", np.zeros((1, 4, 4), np.float32), voxel_size_A=10)
    packed = gzip.compress((tmp_path / "whole.mrc").read_bytes())
    for name, content in (("packed", packed), ("torn", packed[:40])):
        (tmp_path / f"{name}.mrc.gz").write_bytes(content)
        those[name] = entry(tmp_path, name, volume=tmp_path / f"{name}.mrc.gz")
    sizeless = tmp_path / "sizeless.mrc"
    those["sizeless"] = entry(tmp_path, "sizeless").model_copy(update={"voxel_size_A": None})
    write_mrc(sizeless, np.zeros((4, 4, 4), np.float32), voxel_size_A=1)
    path = write(tmp_path, those.values())
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out", "--dry-run") == 3
    told = dict(
        line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line
    )
    assert {name for name, state in told.items() if state == "to be labelled"} == {
        "whole",
        "packed",
    }
    for name in set(those) - {"whole", "packed"}:
        assert told[name].startswith("cannot be labelled: "), told
        assert name in told[name]
    assert "bytes" in told["short"]
    assert not labelled.names()
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out", "--strict") == 3
    assert not labelled.names()


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
@pytest.mark.parametrize("structures", ["no_such_one", "null", "other"])
def test_regression_a_fault_of_the_structures_is_told_once(
    tmp_path: Path,
    labelled: Labelled,
    capsys: pytest.CaptureFixture[str],
    structures: str,
    extra: tuple[str, ...],
) -> None:
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    out = tmp_path / "out"
    assert call("classify", path, "--structures", structures, "--out", out, *extra) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert not any(f" {name}:" in captured.err for name in "AB")
    assert not list(out.glob("*"))


def test_regression_measured_defocus_has_no_digits_that_mean_nothing(
    tmp_path: Path, labelled: Labelled
) -> None:
    path = write(tmp_path, [entry(tmp_path, "A")])
    out = tmp_path / "out"
    assert call("classify", path, *GIVEN, "--out", out) == 0
    one = json.loads((out / "A/summary.json").read_text())
    one["measured_acquisition"] = {"defocus_um": 7.486000000000001, "hand_nats": 1.0}
    write_json(out / "A/summary.json", one)
    assert call("classify", path, *GIVEN, "--out", out) == 0
    assert joint(out)[1]["tomograms"]["A"]["measured_defocus_um"] == 7.486
    assert ",7.486," in (out / "tomograms.csv").read_text()


def test_regression_notes_and_what_is_assumed_are_on_the_page(
    tmp_path: Path, labelled: Labelled
) -> None:
    path = write(tmp_path, [entry(tmp_path, "A", notes=("it is <b>chosen",))])
    assert call("classify", path, *GIVEN, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "it is &lt;b&gt;chosen" in page
    assert "the order of recording is assumed to be dose-symmetric" in page


def test_the_page_has_what_to_doubt_first_and_escapes_names(
    tmp_path: Path, labelled: Labelled
) -> None:
    out = tmp_path / "out"
    path = write(tmp_path, [entry(tmp_path, n) for n in ("A <b>#1", "B")] + [entry(tmp_path, "C")])
    labelled.raised["C"] = InputError("C is <cut>")
    assert call("classify", path, *GIVEN, "--out", out) == 3
    page = (out / "report.html").read_text()
    assert page == render_project(joint(out)[1])
    assert "<b>" not in page
    assert 'href="./A%20%3Cb%3E%231/report.html"' in page
    assert page.index("C is &lt;cut&gt;") < page.index("a &lt;doubt&gt;") < page.index("href=")
    assert page.count("a &lt;doubt&gt;") == 1


def listed(path: Path, rows: Iterable[tuple[str, int]]) -> Path:
    """A list with two optics groups, of which B's particles have the second."""
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 5\n2 10\n"
    head = "\ndata_particles\n\nloop_\n_rlnTomoName #1\n_userNote #2\n_rlnOpticsGroup #3\n"
    lines = [f"{name} n{note} {2 if 'B' in name else 1}\n" for name, note in rows]
    path.write_text(optics + head + "".join(lines))
    return path


def test_each_tomogram_takes_its_rows_of_a_list(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "out", write(tmp_path, [entry(tmp_path, n) for n in "ABC"])
    rows = [("A", 1), ("rec_B.mrc", 2), ("A", 3), ("D", 4)]
    given = (*GIVEN, "--particles", listed(tmp_path / "list.star", rows), "--out", out)
    assert call("classify", path, *given) == 3
    told = capsys.readouterr().err
    assert "that the project has not: D (1)" in told
    assert "the list has no particles of the tomogram C" in told
    lists = [options.particles for options in labelled.options]
    assert lists == [out / name / "listed.star" for name in "AB"]
    notes = {}
    for name in "AB":
        table = read_star(out / name / "listed.star").table("particles")
        assert table is not None
        notes[name] = table.column("userNote")
    assert notes == {"A": ("n1", "n3"), "B": ("n2",)}
    labelled.names()
    assert call("classify", path, *given) == 3
    assert labelled.names() == []
    # Without a list, or with other particles of one of them.
    assert call("classify", path, *GIVEN, "--out", out) == 4
    listed(tmp_path / "list.star", [*rows, ("B", 5)])
    for rate in ((), ("--fdr", 0.05)):
        capsys.readouterr()
        assert call("classify", path, *given, *rate) == 3
        assert f"{out / 'B'} holds labels of another list" in capsys.readouterr().err


def test_regression_groups_of_a_list_are_numbered_anew_and_named_after_tomograms(
    tmp_path: Path,
) -> None:
    rows = [("A", 1), ("B", 2)]
    lists = {name: listed(tmp_path / f"{name}.star", rows[i:]) for i, name in enumerate("AB")}
    (tmp_path / "joint.star").write_text(joined(lists).text())
    read = read_star(tmp_path / "joint.star")
    particles, optics = read.table("particles"), read.table("optics")
    assert particles is not None
    assert optics is not None
    assert particles.column("rlnTomoName") == ("A", "A", "B")
    assert particles.column("rlnOpticsGroup") == ("1", "2", "3")
    assert optics.column("rlnOpticsGroup") == ("1", "2", "3")
    assert optics.column("rlnTomoTiltSeriesPixelSize") == ("5", "10", "10")
    assert optics.column("rlnOpticsGroupName") == ("A_optics1", "A_optics2", "B")


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "x,y,z\n"), ("a.star", "data_\n\nloop_\n_a #1\n1\n")]
)
def test_a_list_that_names_no_tomograms_is_refused(
    name: str, text: str, tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    path = write(tmp_path, [entry(tmp_path, "A")])
    given = (*GIVEN, "--particles", tmp_path / name, "--out", tmp_path / "out")
    assert call("classify", path, *given) == 2
    assert "does not name the tomograms" in capsys.readouterr().err


def test_regression_lists_of_one_unnamed_block_are_joined(tmp_path: Path) -> None:
    """Their particles were left out of the joint list without a word."""
    (tmp_path / "a.star").write_text("data_\n\nloop_\n_rlnTomoName #1\n_a #2\nx 1\nx 2\n")
    (tmp_path / "joint.star").write_text(joined({"A": tmp_path / "a.star"}).text())
    table = read_star(tmp_path / "joint.star").table("particles")
    assert table is not None
    assert table.column("rlnTomoName") == ("A", "A")
    assert table.column("a") == ("1", "2")
    (tmp_path / "a.star").write_text("data_\n\nloop_\n_a #1\n1\n")
    with pytest.raises(InputError, match="expected a table of particles"):
        joined({"A": tmp_path / "a.star"})


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Workers in this process, where the stub is; one process in turn without ``--workers``."""
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        monkeypatch.setattr(
            cluster,
            "dask_client",
            lambda workers, _: contextlib.nullcontext(client if workers > 1 else None),
        )
        yield client


@pytest.mark.filterwarnings("default")
def test_workers_give_what_one_process_gives(
    tmp_path: Path, labelled: Labelled, two_workers: Client
) -> None:
    those = [entry(tmp_path, name) for name in "ABCD"]
    path = write(tmp_path, those)
    labelled.raised["C"] = InputError("it is empty")
    labelled.warns = True
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert call("classify", path, *GIVEN, "--out", alone) == 3
    assert call("classify", path, *GIVEN, "--workers", 2, "--out", spread) == 3
    assert sorted(labelled.names()) == sorted("ABCD" * 2)
    assert (alone / "particles.star").read_bytes() == (spread / "particles.star").read_bytes()
    for key in ("classes", "failed", "waiting", "tomograms"):
        assert joint(alone)[1][key] == joint(spread)[1][key]
    assert joint(spread)[1]["tomograms"]["B"]["warnings"] == ["a <doubt>", "B is odd"]
    assert "it is empty" in joint(spread)[1]["failed"]["C"]

    # The one that failed is tried again, and alone.
    labelled.raised.clear()
    assert call("classify", path, *GIVEN, "--workers", 2, "--out", spread) == 0
    assert labelled.names() == ["C"]


def test_a_tomogram_whose_worker_dies_is_told(
    tmp_path: Path, labelled: Labelled, two_workers: Client
) -> None:
    labelled.raised["B"] = KilledWorker("B", SimpleNamespace(address="tcp://there"), 3)  # type: ignore[arg-type]
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    assert call("classify", path, *GIVEN, "--workers", 2, "--out", tmp_path / "out") == 3
    rows, summary = joint(tmp_path / "out")
    assert set(rows) == {"A"}
    assert "died, several times" in summary["failed"]["B"]
    names = labelled.names()
    assert sorted(names) == ["A", "B", "B"]
    assert names[-1] == "B"  # once more, after the others


def test_regression_a_tomogram_beside_which_workers_died_is_labelled_alone(
    tmp_path: Path, labelled: Labelled, two_workers: Client
) -> None:
    """It was told as failed, since it had waited at workers that were killed."""
    labelled.once["B"] = KilledWorker("B", SimpleNamespace(address="tcp://there"), 3)  # type: ignore[arg-type]
    path = write(tmp_path, [entry(tmp_path, name) for name in "AB"])
    assert call("classify", path, *GIVEN, "--workers", 2, "--out", tmp_path / "out") == 0
    assert joint(tmp_path / "out")[0] == {"A": 2, "B": 3}


def test_a_tomogram_that_another_process_has_labelled_meanwhile(
    tmp_path: Path, labelled: Labelled
) -> None:
    """As when a worker was thought to be dead and was not."""
    path = write(tmp_path, [entry(tmp_path, "A")])
    out = tmp_path / "out"
    assert call("classify", path, *GIVEN, "--out", out) == 0
    plan = Plan(entry(tmp_path, "A"), out / "A", labelled.options[0])
    again = label_tomogram(plan, "cpu")
    assert isinstance(again, dict)
    assert labelled.names() == ["A"]


def test_a_dry_run_says_what_the_rest_takes_once_one_is_done(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, [entry(tmp_path, "A")])
    out = tmp_path / "out"
    given = ("classify", path, *GIVEN, "--out", out)
    assert call(*given, "--dry-run") == 0
    assert "known as soon as one of the tomograms is labelled" in capsys.readouterr().out
    assert call(*given) == 0
    # Four more of the same size, a minute each.
    path = write(tmp_path, [entry(tmp_path, name) for name in "ABCDE"])
    capsys.readouterr()
    assert call(*given, "--dry-run", "--workers", 2) == 0
    told = capsys.readouterr().out
    assert "4 to be labelled: about 2 min" in told
    assert "2 min in each of 2 processes" in told
    assert "more than 500 MB of memory" in told
    assert labelled.names() == ["A"]


def test_a_project_of_relion_gets_an_optimisation_set(tmp_path: Path, labelled: Labelled) -> None:
    """It is read as RELION's own: by this package, and by RELION's programs where there are any."""
    there = tmp_path / "a folder"
    made = truths(2)
    star = write_relion5(there, made)
    path, out = tmp_path / "project.toml", tmp_path / "out"
    assert call("import", star, "--out", path) == 0
    assert read_project(path).tomograms_star == star
    assert call("classify", path, *GIVEN, "--out", out) == 0
    both = out / "optimisation_set.star"
    particles = read_particles(both)
    assert set(particles.tomograms) == {truth.name for truth in made}
    again = import_project(both)
    assert again.tomograms_star == star
    assert len(again.tomograms) == 2
    program = shutil.which("relion_star_printtable")
    if program is not None:
        told = subprocess.run(
            [program, both, "data_", "_rlnTomoParticlesFile"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "particles.star" in told.stdout


def test_regression_the_order_of_structures_numbers_the_classes(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class 1 was one structure in some tomograms, and another one in those labelled later."""
    path, out = write(tmp_path, [entry(tmp_path, "A")]), tmp_path / "out"
    assert call("classify", path, "--structures", "tric,apoferritin", "--out", out) == 0
    labelled.names()
    assert call("classify", path, "--structures", "apoferritin,tric", "--out", out) == 4
    assert "order_of_classes" in capsys.readouterr().err
    assert labelled.names() == []


def test_a_dry_run_ends_as_the_run_would(
    tmp_path: Path, labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path, [entry(tmp_path, "A")]), tmp_path / "out"
    assert call("classify", path, *GIVEN, "--out", out) == 0
    assert call("classify", path, *GIVEN, "--fdr", 0.1, "--out", out, "--dry-run") == 0
    assert "A: to be labelled again" in capsys.readouterr().out
    path = write(tmp_path, [entry(tmp_path, "A"), entry(tmp_path, "B", defocus_um=None)])
    assert call("classify", path, *GIVEN, "--out", out, "--dry-run") == 3
    assert "1 of 2 tomograms" in capsys.readouterr().err
