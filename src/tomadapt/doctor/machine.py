"""The machine: processors, memory, disk, GPUs, and the packages that are installed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from tomadapt.doctor.findings import Finding, note, ok, problem

GB = 1e9
_LITTLE_MEMORY = 4 * GB
_LITTLE_DISK, _NO_DISK = 10 * GB, 1 * GB
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_FORMATS = {"h5py": "HDF5", "zarr": "OME-Zarr"}


def machine_findings() -> Iterator[Finding]:
    """Everything about the machine that decides what can be run on it."""
    where = f"{platform.system()} {platform.machine()}"
    yield ok("python", f"Python {platform.python_version()} on {where}", platform.python_version())
    yield _cpu()
    yield _memory()
    yield _disk()
    yield from _torch()
    yield from _packages()


def _cpu() -> Finding:
    # Those that this process may use: a job of a cluster has fewer than its machine.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return ok("cpu_cores", f"{cores} CPU cores", cores)


def _memory() -> Finding:
    """Memory of the machine, or what a container or job may use of it."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (page * os.sysconf(f"SC_{kind}PHYS_PAGES") for kind in ("", "AV"))
    except (AttributeError, ValueError, OSError):  # not on Windows; macOS has no SC_AVPHYS_PAGES
        return note("memory", "how much memory there is could not be found out")
    with contextlib.suppress(OSError, ValueError):  # no such file, or `max`
        total = min(total, int(_CGROUP_MEMORY.read_text()))
    free = max(min(free, total), min(_available(), total))
    text = f"{total / GB:.1f} GB of memory, {free / GB:.1f} GB of them free"
    value = {"total_bytes": total, "free_bytes": free}
    if total < _LITTLE_MEMORY:
        return note("memory", text, value, remedy="train on a machine with more than 4 GB")
    return ok("memory", text, value)


def _available() -> int:
    """What could be had without swapping in bytes, caches counted; 0 where Linux does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    text = f"{free / GB:.1f} GB of disk free in this folder"
    if free < _NO_DISK:
        return problem("disk", text, free, remedy="free some space, or work in another folder")
    if free < _LITTLE_DISK:
        return note("disk", text, free, remedy="sets of simulated particles take some 10 GB")
    return ok("disk", text, free)


def _torch() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    yield ok("torch", f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}")
    yield ok("threads", f"torch uses {threads} CPU threads", threads)
    if not torch.cuda.is_available():
        if _NVIDIA_DRIVER.exists():
            remedy = "install a build of torch for this driver, see https://pytorch.org"
            yield note(
                "gpus", "an NVIDIA driver is there, but torch sees no GPU", [], remedy=remedy
            )
        else:
            yield note("gpus", "no GPU that torch can use: training takes longer", [])
        return
    devices = [_gpu(torch, index) for index in range(torch.cuda.device_count())]
    broken = [device for device in devices if device["error"]]
    text = "; ".join(
        f"{device['name']}, {device['total_bytes'] / GB:.0f} GB, "
        f"{'with' if device['bf16'] else 'without'} bf16"
        + (f": {device['error']}" if device["error"] else "")
        for device in devices
    )
    if broken:
        remedy = "install a build of torch for this GPU, see https://pytorch.org, or --device cpu"
        yield problem("gpus", text, devices, remedy=remedy)
    else:
        yield ok("gpus", text, devices)


def _gpu(torch: Any, index: int) -> dict[str, Any]:
    """What a GPU is, and whether it computes: a driver may be there that cannot."""
    properties = torch.cuda.get_device_properties(index)
    device = {
        "name": properties.name,
        "total_bytes": properties.total_memory,
        "free_bytes": None,
        "bf16": False,
        "error": None,
    }
    try:
        with torch.cuda.device(index):
            device["bf16"] = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        device["free_bytes"] = torch.cuda.mem_get_info(index)[0]
        torch.ones(1, device=f"cuda:{index}").add_(1).item()
    except RuntimeError as error:
        device["error"] = str(error).splitlines()[0]
    return device


def _packages() -> Iterator[Finding]:
    """Versions of what this package needs, as its own metadata name it, and of the extras."""
    needed = requires("tomadapt") or []
    names = [_name(line) for line in needed if "extra ==" not in line]
    found = {name: _version(name) for name in ("tomadapt", *names)}
    missing = [name for name, number in found.items() if number is None]
    text = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    if missing:
        remedy = "install tomadapt again: pip install tomadapt"
        text = f"not installed: {', '.join(missing)}; {text}"
        yield problem("packages", text, found, remedy=remedy)
    else:
        yield ok("packages", text, found)
    formats = {name: _version(name) for name in _FORMATS}
    absent = [f"{_FORMATS[name]} ({name})" for name, number in formats.items() if number is None]
    if absent:
        text = f"files of {' and '.join(absent)} cannot be read"
        yield note("formats", text, formats, remedy="pip install 'tomadapt[formats]'")
    else:
        there = [f"{_FORMATS[name]} ({name} {number})" for name, number in formats.items()]
        yield ok("formats", f"optional formats: {', '.join(there)}", formats)


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0] if found else requirement


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
