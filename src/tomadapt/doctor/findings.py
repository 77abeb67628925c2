"""What an audit says: findings with a level, those of one file, and all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tomadapt.errors import TomadaptError

Level = Literal["ok", "note", "warning", "problem"]
FORMAT = "tomadapt-doctor-2"


@dataclass(frozen=True)
class Finding:
    """One observation.

    Attributes
    ----------
    key
        What it is about; programs find it by this. Unique within a report.
    level
        ``ok``; ``note``: to be known, or to be stated in a command; ``warning``: likely wrong, the
        commands warn of it; ``problem``: to be mended.
    text
        In words.
    value
        The same for programs: numbers, texts, lists and mappings of these, or None.
    remedy
        What to do; every problem has one.
    """

    key: str
    level: Level
    text: str
    value: Any = None
    remedy: str | None = None


def ok(key: str, text: str, value: Any = None) -> Finding:
    """An observation that asks for nothing."""
    return Finding(key, "ok", text, value)


def note(key: str, text: str, value: Any = None, *, remedy: str | None = None) -> Finding:
    """An observation to be known."""
    return Finding(key, "note", text, value, remedy)


def warning(key: str, text: str, value: Any = None, *, remedy: str | None = None) -> Finding:
    """An observation that the commands warn of: they go on, and what they give may be wrong."""
    return Finding(key, "warning", text, value, remedy)


def problem(key: str, text: str, value: Any = None, *, remedy: str) -> Finding:
    """An observation that has to be mended."""
    return Finding(key, "problem", text, value, remedy)


def words_of(error: TomadaptError) -> tuple[str, str]:
    """What an error says, and its remedy apart."""
    text, _, remedy = str(error).partition(". Remedy: ")
    return text, remedy


@dataclass(frozen=True)
class Report:
    """What was found about a file, or about the machine.

    Attributes
    ----------
    subject
        The path as it was given, or ``machine``.
    kind
        ``machine``, ``tomogram``, ``subtomograms``, ``particle list``, ``tomogram list``,
        ``model``, ``structure``, ``configuration`` or ``unknown``.
    findings
        In the order in which they were made.
    """

    subject: str
    kind: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many."""
        return sum(finding.level == "problem" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many."""
        return sum(finding.level == "warning" for finding in self.findings)

    def value(self, key: str) -> Any:
        """The value of a finding, None where it was not made."""
        return next((f.value for f in self.findings if f.key == key), None)


@dataclass(frozen=True)
class Audit:
    """The machine and the files, these in the order in which they were given."""

    machine: Report
    files: tuple[Report, ...]

    @property
    def problems(self) -> int:
        """How many in all."""
        return self.machine.problems + sum(report.problems for report in self.files)

    @property
    def warnings(self) -> int:
        """How many in all."""
        return self.machine.warnings + sum(report.warnings for report in self.files)

    def as_json(self) -> dict[str, Any]:
        """Of plain types for :mod:`json`; what is no finite number is None."""
        reports = (self.machine, *self.files)
        machine, *files = [
            {
                "subject": report.subject,
                "kind": report.kind,
                "problems": report.problems,
                "warnings": report.warnings,
                "findings": [_plain(vars(finding)) for finding in report.findings],
            }
            for report in reports
        ]
        return {
            "format": FORMAT,
            "problems": self.problems,
            "warnings": self.warnings,
            "machine": machine,
            "files": files,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
