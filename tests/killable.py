"""The command line in processes of their own, to be killed.

A new interpreter would import PyTorch and others for seconds each time. These processes are forked
from one that has imported them, and has no threads and no state of the tests.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from command_line import call

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tomadapt.experiments.table1", "tomadapt.workflows.run", __name__])


def start(*arguments: object, log: Path) -> ForkServerProcess:
    """Begin a command with one thread; what it prints goes to the end of ``log``."""
    process = _FORKS.Process(target=_run, args=(log, *map(str, arguments)))
    process.start()
    return process


def _run(log: Path, *arguments: str) -> None:
    import torch

    torch.set_num_threads(1)
    with log.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    raise SystemExit(call(*arguments))
