"""Corrupt files through the command line: one line and a documented exit code, whatever is in them.

Hundreds of mutants of every format that is read, each refused as a user is told (or, where the
damage does no harm, used): no traceback, no wait of ten seconds, no gigabyte of memory, nothing
left behind. They share processes of bounded memory, see ``corrupt_child``; the mutants are in
``corrupt_volumes``, ``corrupt_stores``, ``corrupt_lists`` and ``corrupt_settings``. Several are
regressions: what they found is mended and told in their modules' own tests. Mistakes of users that
are no damage are in ``test_bad_inputs``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h5py")
pytest.importorskip("zarr")

from corrupt_bench import Mutant
from corrupt_child import DEATH, HANG_S, MEMORY_BYTES, MUTANTS

CHILD = Path(__file__).with_name("corrupt_child.py")
WARNING, ERROR, PROGRESS = "tomadapt: warning: ", "tomadapt: error: ", "✓"
CODES = (2, 3, 4, 5)
LONGEST = 2200
OF_PYTHON = re.compile(r"MemoryError|RecursionError|[Uu]nable to allocate|object has no attribute")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")


@dataclass
class Told:
    """What the processes told: outcomes by mutant, and with which mutant one died and how."""

    outcomes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    died: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Outcomes of the mutants whose tests are to be run."""
    here = [item for item in request.session.items if item.path == request.path]
    wanted = {getattr(item, "callspec", None) and item.callspec.params.get("name") for item in here}
    left = [*(name for name in MUTANTS if name in wanted), DEATH]
    folder = tmp_path_factory.mktemp("corrupt")
    result = Told()
    while left:
        (folder / "names.json").write_text(json.dumps(left))
        process = subprocess.run(
            [sys.executable, CHILD, folder, folder / "names.json"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        begun = None
        for line in process.stdout.splitlines():
            content = json.loads(line)
            begun = content.get("begun", begun)
            if "command" in content:
                result.outcomes.setdefault(content["name"], []).append(content)
        assert begun is not None, process.stderr
        if process.returncode:
            result.died[begun] = f"{process.returncode}: {process.stderr[-3000:]}"
        left = left[left.index(begun) + 1 :]
    return result


def complaints(mutant: Mutant, outcome: dict[str, Any]) -> list[str]:
    """What is wrong with an outcome."""
    if isinstance(outcome["code"], str):
        return [outcome["code"]]
    found = _of_doctor(mutant, outcome) if outcome["command"] == "doctor" else _of(mutant, outcome)
    printed = outcome["stdout"] + outcome["stderr"]
    if OF_PYTHON.search(printed):
        found.append("an error of Python's is shown")
    if not all(c.isprintable() or c == "\n" for c in outcome["stderr"]):
        found.append("what steers a terminal is printed")
    if outcome["scratch"]:
        found.append(f"temporary files are left: {outcome['scratch']}")
    if outcome["seconds"] > HANG_S or outcome["peak_mb"] > MEMORY_BYTES / 1e6:
        found.append(f"{outcome['seconds']} s, {outcome['peak_mb']} MB")
    return found


def _of(mutant: Mutant, outcome: dict[str, Any]) -> list[str]:
    """Of a command that reads the file to use it."""
    code, lines = outcome["code"], outcome["stderr"].splitlines()
    others = [line for line in lines if not line.startswith((WARNING, PROGRESS))]
    found = []
    if code == 0:
        if mutant.expected == "refused":
            found.append("it is accepted")
        if others or not outcome["left"]:
            found.append("a success that complains, or writes nothing")
        return found
    if mutant.expected == "accepted":
        found.append("it is refused")
    if code not in CODES:
        found.append(f"exit code {code}")
    if len(others) != 1 or not others[0].startswith(ERROR) or ". Remedy: " not in others[0]:
        found.append("not one line with a remedy")
    if len(outcome["stderr"]) > LONGEST:
        found.append(f"{len(outcome['stderr'])} characters")
    if outcome["left"]:
        found.append(f"files are left: {outcome['left']}")
    return found


def _of_doctor(mutant: Mutant, outcome: dict[str, Any]) -> list[str]:
    """Of the audit, which goes on to the next file whatever is in one."""
    if outcome["code"] not in (0, 1):
        return [f"exit code {outcome['code']}"]
    report = json.loads(outcome["stdout"])["files"][0]
    problems = [f for f in report["findings"] if f["level"] == "problem"]
    found = []
    if mutant.expected == "refused" and mutant.seen and not problems:
        found.append("doctor finds nothing")
    for problem in problems:
        if re.match(r"\w+(Error|Exception): ", problem["text"]):
            found.append(f"a reader's own error: {problem['text']}")
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_corrupt(name: str, told: Told) -> None:
    assert name not in told.died, told.died[name]
    assert told.outcomes[name]
    for outcome in told.outcomes[name]:
        about = f"{outcome['command']}: {outcome['code']}\n{outcome['stderr'][:3000]}"
        assert complaints(MUTANTS[name], outcome) == [], about


def test_a_death_is_told_of_its_mutant(told: Told) -> None:
    assert [*told.died] == [DEATH]


def test_enough_mutants_of_every_format() -> None:
    counts = Counter(mutant.kind for mutant in MUTANTS.values())
    assert sum(counts.values()) >= 200
    assert min(counts.values()) >= 12, counts


GOOD = {
    "command": "pick",
    "code": 3,
    "stdout": "",
    "stderr": f"{ERROR}cannot read it. Remedy: copy it again\n",
    "seconds": 0.1,
    "peak_mb": 1.0,
    "left": [],
    "scratch": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"code": "Traceback …"},
        {"code": 1},
        {"code": 0, "left": ["p.star"]},
        {"left": ["p.star"]},
        {"scratch": ["tmp1"]},
        {"seconds": 11.0},
        {"peak_mb": 2000.0},
        {"stderr": ""},
        {"stderr": GOOD["stderr"] * 2},
        {"stderr": f"{ERROR}cannot read it\n"},
        {"stderr": GOOD["stderr"].replace("it", "\x1b[31mit")},
        {"stderr": GOOD["stderr"].replace("it", "it: MemoryError")},
        {"stderr": GOOD["stderr"].replace("it", "it" * 2000)},
    ],
)
def test_what_is_complained_of(change: dict[str, Any]) -> None:
    mutant = Mutant("MRC", lambda bench: [])
    assert complaints(mutant, GOOD) == []
    assert complaints(mutant, GOOD | change) != []
