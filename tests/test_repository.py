"""What is committed: nothing large, and binary files only where they belong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 1_500_000
BINARY_HOMES = ("docs/images/", "results/", "src/tomadapt/structures/data/")


def unwelcome(root: Path, names: list[str]) -> list[str]:
    """The files that should not be committed, with the reason."""
    found = []
    for name in names:
        path = root / name
        if not path.is_file():  # deleted, and not committed yet
            continue
        size = path.stat().st_size
        if size > MOST_BYTES:
            found.append(f"{name}: {size} bytes, more than {MOST_BYTES}")
        with path.open("rb") as file:
            binary = b"\0" in file.read(8000)
        if binary and not name.startswith(BINARY_HOMES):
            found.append(f"{name}: binary, outside {', '.join(BINARY_HOMES)}")
    return found


def test_only_small_text_and_known_binaries_are_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip(f"{ROOT} is no git checkout")
    assert unwelcome(ROOT, listed.stdout.split("\0")[:-1]) == []


def test_large_and_stray_binary_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "wheel.whl").write_bytes(b"PK\0\0")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "log.txt").write_text("x" * (MOST_BYTES + 1))
    named = unwelcome(tmp_path, ["wheel.whl", "results/a.png", "log.txt", "gone"])
    assert [text.split(":")[0] for text in named] == ["wheel.whl", "log.txt"]


def test_the_list_of_slow_tests_names_tests_that_exist() -> None:
    names = [line.split(" ")[1] for line in (ROOT / "tests" / "slow_tests.txt").open()]
    gone = []
    for name in names:
        file, *within = name.strip().split("::")
        text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
        wanted = [f"class {part}" for part in within[:-1]] + [f"def {within[-1]}("]
        if not all(part in text for part in wanted):
            gone.append(name)
    assert not gone, "write the list again: see scripts/slow_tests.py"
    assert len(names) == len(set(names))
