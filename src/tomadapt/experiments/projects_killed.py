"""A project labelled while its processes are killed: the labels are those of an undisturbed run.

First the whole command is killed five times at random moments, and started again; then the workers
of a command with two of them, ten times. Not in the paper.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from tomadapt.classify.project import classify_project
from tomadapt.experiments.grid import commit
from tomadapt.experiments.projects import (
    CLASSES,
    OWN,
    SNRS,
    labelled_folder,
    options_of,
    planted_project,
    project_of,
)
from tomadapt.experiments.records import Results, Row
from tomadapt.experiments.scales import Setting
from tomadapt.experiments.tables import titled_table
from tomadapt.project import TomogramEntry, write_project

COLUMNS = ("case", "killed", "tomograms", "same", "minutes")
STARTING_S, LATER_S = 8.0, 60.0
"""A kill comes at a random moment of this stretch after the last one, in s; with several workers
the stretch ends so many times earlier."""


def run(setting: Setting) -> list[Path]:
    """Label it undisturbed, if ``projects`` has not; then with kills; compare every file."""
    entries = planted_project(setting, SNRS[0])
    project = project_of(entries, setting.store)
    classify_project(project, labelled_folder(setting, SNRS[0], OWN), options_of)
    path = setting.store / f"projects-{setting.scale.name}-{SNRS[0]:g}.toml"
    path.unlink(missing_ok=True)
    write_project(path, project)
    results = Results.of(setting, "projects_killed", partial(titled_table, "Killed", COLUMNS))
    smoke = setting.scale.name == "smoke"
    for case, workers, kills in (("the command", 1, 5), ("its workers", 2, 10)):
        begun, out = time.perf_counter(), labelled_folder(setting, SNRS[0], f"killed {workers}")
        shutil.rmtree(out, ignore_errors=True)  # what is done there would not be killed again
        killed = _labelled_with_kills(path, out, workers, 1 if smoke else kills)
        minutes = (time.perf_counter() - begun) / 60
        results.add(_row(case, setting, entries, out) | {"killed": killed, "minutes": minutes})
    return results.files


def _labelled_with_kills(project: Path, out: Path, workers: int, kills: int) -> int:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "tomadapt",
        "classify",
        project,
        "--out",
        out,
    ]
    command += ["--structures", ",".join(CLASSES), "--fdr", "0.05", "--workers", str(workers)]
    rng, killed = np.random.default_rng(workers), 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        time.sleep(rng.uniform(STARTING_S, LATER_S / workers))
        if killed == kills or process.poll() is not None:
            process.wait()
        elif workers == 1:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed, process = killed + 1, subprocess.Popen(command)
        else:
            below = psutil.Process(process.pid).children(recursive=True)
            busy = max(below, key=lambda child: child.memory_info().rss, default=None)
            if busy is not None:
                os.kill(busy.pid, signal.SIGKILL)
                killed += 1
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return killed


def _row(case: str, setting: Setting, entries: Sequence[TomogramEntry], out: Path) -> Row:
    undisturbed = labelled_folder(setting, SNRS[0], OWN)
    files = [f"{entry.name}/{kind}.star" for entry in entries for kind in ("particles", "rejected")]
    same = sum((out / file).read_bytes() == (undisturbed / file).read_bytes() for file in files)
    return {
        "case": case,
        "tomograms": len(entries),
        "same": f"{same} of {len(files)} lists",
        "commit": commit(),
    }
