"""Runs commands on corrupt files in one process of bounded memory, an outcome a line to stdout.

Started by ``test_corrupt_inputs``. A process a file would cost seconds each, so all of them share
one, which may take a gigabyte more than its imports did. A line is written before and after each
mutant: where the process dies or hangs, the last line says on which.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corrupt_bench import Bench, good_files
from corrupt_lists import LISTS
from corrupt_settings import SETTINGS
from corrupt_stores import STORES
from corrupt_volumes import VOLUMES

MUTANTS = VOLUMES | STORES | LISTS | SETTINGS
HANG_S = 10.0
DEAD_S = 30.0
"""After so long in compiled code, which no alarm interrupts, the process ends itself."""
MEMORY_BYTES = 2**30
RECORD = "stages.json"
"""How long stages of ``classify`` took; no result, and kept through failures to be gone on with."""
DEATH = "the process dies"
"""No mutant: shows that a death is told of the one that it comes with."""


class TimedOut(BaseException):
    """No ``except Exception`` may take it for a damaged file."""


def alarm(*_: object) -> None:
    raise TimedOut


def prepare() -> None:
    """Leave out what each call would do again and what is not about files."""
    import typer

    from tomadapt.cli import app
    from tomadapt.doctor import audit

    command = typer.main.get_command(app)
    sys.modules["tomadapt.cli.app"].app = command
    audit.machine_findings = lambda: iter(())


def status_kb(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0


def call(arguments: list[str]) -> int | str:
    """Run a command; gives its exit code, or the traceback where it has none."""
    from tomadapt.cli import main

    sys.argv = ["tomadapt", *arguments]
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    faulthandler.dump_traceback_later(DEAD_S, exit=True, file=sys.__stderr__)
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except TimedOut:
        return f"more than {HANG_S:g} s\n{traceback.format_exc()}"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return 0


def outcome(arguments: list[str], out: Path, scratch: Path) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before_kb, started = status_kb("VmRSS"), time.perf_counter()
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        code = call(arguments)
    return {
        "command": arguments[0],
        "code": code,
        "stdout": printed.getvalue(),
        "stderr": complained.getvalue(),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_mb": round((status_kb("VmHWM") - before_kb) / 1024, 1),
        "left": sorted(
            str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir() and p.name != RECORD
        ),
        "scratch": sorted(p.name for p in scratch.iterdir()),
    }


def outcomes(name: str, good: Path, place: Path) -> Iterator[dict[str, Any]]:
    """Make a mutant and run its commands, each with a folder of its own for what it writes."""
    scratch = place / "scratch"
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)
    for number, arguments in enumerate(MUTANTS[name].make(Bench(place, good))):
        out = place / f"out{number}"
        named = [str(argument).replace("OUT", str(out)) for argument in arguments]
        yield {"name": name, **outcome(named, out, scratch)}


def main() -> None:
    folder, names = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    lines = os.fdopen(os.dup(1), "w", buffering=1)

    def tell(content: dict[str, Any]) -> None:
        lines.write(json.dumps(content) + "\n")

    signal.signal(signal.SIGALRM, alarm)
    prepare()
    warnings.simplefilter("default")
    good = folder / "good"
    if not good.exists():
        good_files(good)
    tempfile.tempdir = str(folder)
    # What a first use imports and allocates belongs to the imports.
    for name in ("good mrc", "good hdf", "good zarr", "good star", "good model", "good toml"):
        for result in outcomes(name, good, folder / f"warm {name}"):
            tell(result | {"name": "warm-up"})
    taken = status_kb("VmSize") * 1024
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES,) * 2)
    for number, name in enumerate(names):
        tell({"begun": name})
        if name == DEATH:
            os.abort()
        for result in outcomes(name, good, folder / f"{os.getpid()}-{number}"):
            tell(result)
    tell({"finished": True, "imports_mb": taken // 2**20})


if __name__ == "__main__":
    main()
