"""An audit: each file by what it is, lists of particles against the tomograms given with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomadapt.doctor.cubes import subtomogram_findings
from tomadapt.doctor.findings import Audit, Finding, Report, problem, words_of
from tomadapt.doctor.kinds import Format, format_of, is_tomogram
from tomadapt.doctor.lists import (
    Companions,
    list_findings,
    tomogram_list_findings,
)
from tomadapt.doctor.machine import machine_findings
from tomadapt.doctor.models import configuration_findings, model_findings
from tomadapt.doctor.placed import KnownTomogram
from tomadapt.doctor.structures import structure_findings
from tomadapt.doctor.volumes import tomogram_findings
from tomadapt.errors import TomadaptError

_KINDS: dict[Format, str] = {
    "model": "model",
    "structure": "structure",
    "toml": "configuration",
    "tomograms": "tomogram list",
    "list": "particle list",
}
_FINDINGS: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "model": model_findings,
    "structure": structure_findings,
    "configuration": configuration_findings,
    "tomogram list": tomogram_list_findings,
}


def examine(paths: Sequence[Path | str] = ()) -> Audit:
    """Look at files and the machine; nothing is written, and no error is raised for a bad file.

    Parameters
    ----------
    paths
        Tomograms, stacks, folders and sets of subtomograms, lists of particles, models and
        configurations. Of voxels only samples are read, but stacks of up to 2²⁷ voxels wholly.

    Returns
    -------
    Audit
        A report a path, in their order. What cannot be read has a problem ``readable`` with the
        reader's words.
    """
    files = [_told_apart(Path(path)) for path in paths]
    reports = {i: _report(file) for i, file in enumerate(files) if file.kind != "particle list"}
    given = Companions(
        tuple(filter(None, map(_known_tomogram, reports.values()))),
        next((file.path for file in files if file.kind == "tomogram list"), None),
    )
    for i, file in enumerate(files):
        if i not in reports:
            reports[i] = _report(file, given)
    machine = Report("machine", "machine", _collected(machine_findings()))
    return Audit(machine, tuple(reports[i] for i in range(len(files))))


@dataclass(frozen=True)
class _File:
    """A path and what it is, or why that could not be found out."""

    path: Path
    kind: str = "unknown"
    format: Format = "list"
    failed: tuple[Finding, ...] = ()


def _told_apart(path: Path) -> _File:
    try:
        # A pipe or a device may never end.
        if not (path.is_file() or path.is_dir()):
            what = f"{path} is no file or folder" if path.exists() else f"nothing at {path}"
            return _File(path, failed=(problem("readable", what, remedy="check the path"),))
        format_ = format_of(path)
        kind = _KINDS.get(format_, "subtomograms")
        if kind == "subtomograms" and is_tomogram(path, format_):
            kind = "tomogram"
    except Exception as error:  # see _collected
        return _File(path, failed=(_unreadable(error),))
    return _File(path, kind, format_)


def _report(file: _File, given: Companions | None = None) -> Report:
    findings = file.failed or _collected(_findings(file, given or Companions()))
    return Report(str(file.path), file.kind, findings)


def _findings(file: _File, given: Companions) -> Iterator[Finding]:
    if file.kind in _FINDINGS:
        return _FINDINGS[file.kind](file.path)
    if file.kind == "particle list":
        return list_findings(file.path, given)
    if file.kind == "tomogram":
        return tomogram_findings(file.path, file.format)
    return subtomogram_findings(file.path, file.format)


def _collected(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """All findings up to an error, which becomes the last."""
    found = []
    try:
        for finding in findings:
            found.append(finding)
    # Damage makes libraries raise anything, and must not hide what is said of the other files.
    except Exception as error:
        found.append(_unreadable(error))
    return tuple(found)


def _unreadable(error: Exception) -> Finding:
    if not isinstance(error, TomadaptError):
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return problem("readable", text, remedy="check that the file is whole and may be read")
    text, remedy = words_of(error)
    return problem("readable", text, remedy=remedy or "check the file")


def _known_tomogram(report: Report) -> KnownTomogram | None:
    shape, name = report.value("shape"), report.value("name")
    if report.kind != "tomogram" or shape is None:
        return None
    nz, ny, nx = shape
    path = str(Path(report.subject).absolute())
    size_A = report.value("voxel_size")
    return KnownTomogram(name, (nz, ny, nx), math.nan if size_A is None else size_A, path)
