"""Files are whole or not there."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tomadapt.errors import OutputError
from tomadapt.runs.atomic import atomic_path, output_folder, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_new_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npy"
        np.save(temporary, np.arange(3))
        assert not path.exists()
    assert names(tmp_path) == ["a.npy"]
    assert np.load(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_crash_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, fault: type[BaseException], old: str | None
) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of it")
            raise fault

    with pytest.raises(fault):
        write()
    assert names(tmp_path) == ([] if old is None else ["a.txt"])
    assert old is None or path.read_text() == old


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "Å")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Å"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.txt"), atomic_path(tmp_path / "a.txt"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_so(tmp_path: Path, code: int) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(code, "it is full")

    with pytest.raises(OutputError, match=r"no space left while writing .*a\.txt.*it is full"):
        write()
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_an_array_that_is_cut_short_says_so(tmp_path: Path) -> None:
    """Regression: numpy's own error has no number, and was taken for one of permissions."""
    code = (
        "import resource, numpy as np\n"
        "from pathlib import Path\n"
        "from tomadapt.errors import OutputError\n"
        "from tomadapt.runs.atomic import atomic_path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with atomic_path(Path('a.npy')) as temporary:\n"
        "        np.save(temporary, np.zeros(100_000))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no space left while writing a.npy; expected room on the disk")
    assert names(tmp_path) == []


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected a writable place; got No such file"):
        write_text(tmp_path / "none" / "a.txt", "")


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": 1, "a": [1.5, None]}
    assert text.index('"b"') < text.index('"a"')
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").read_text() == text


class TestOutputFolder:
    def test_is_made_with_its_parents_and_left_empty(self, tmp_path: Path) -> None:
        folder = output_folder(tmp_path / "a" / "b", needed_bytes=1)
        assert folder.is_dir()
        assert names(folder) == []
        assert output_folder(folder) == folder

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="one of its parent folders"):
            output_folder(tmp_path / "file" / "out")
        with pytest.raises(OutputError, match="a file of that name"):
            output_folder(tmp_path / "file")

    def test_too_little_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
        output_folder(tmp_path, needed_bytes=2_000_000)
        with pytest.raises(OutputError, match="expected 3 MB free; got 2 MB"):
            output_folder(tmp_path, needed_bytes=3_000_000)
