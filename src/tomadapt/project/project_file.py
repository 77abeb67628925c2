"""The table of a project as a TOML file that a person can read and edit."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tomadapt.errors import ConfigError, OutputError
from tomadapt.project.model import UNITS, Project, TomogramEntry, told
from tomadapt.project.reading import text_of
from tomadapt.runs.atomic import write_text

DIGEST = "as_imported"
_WIDTH = 100
_HEAD = """\
# A table of tomograms, written by `tomadapt import`. Edit what is wrong: this file counts, and an
# import never replaces it once it was edited. What no file says stands behind `# missing`: take the
# two words away and write the value. Units are in the names; defocus is positive for underfocus;
# lists of tilts are in the order of tilt_angles_deg.
"""


def write_project(path: Path | str, project: Project) -> None:
    """Write a project, whole or not at all; a file that a person has edited is never replaced.

    Paths below the file's folder are written relative to it.

    Raises
    ------
    OutputError
        When the file is there already and was edited, or cannot be written.
    """
    path = Path(path).absolute()
    if path.exists() and not _is_as_imported(path):
        raise OutputError(
            f"{path} is there already, and was edited since its import",
            expected="a new file, or one that an import wrote and nobody changed",
            got="another file",
            remedy="name another --out, or move that file away",
        )
    text = project_text(project, path.parent)
    write_text(path, text)


def read_project(path: Path | str) -> Project:
    """Read a project file; paths in it are relative to its folder.

    Raises
    ------
    InputError
        When it is missing or no text.
    ConfigError
        When it is no TOML, or a key or a value cannot be used.
    """
    path = Path(path).absolute()
    text = text_of(path, kind="project file")
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no TOML",
            expected="a project file of `tomadapt import`",
            got=str(error),
            remedy="mend that line",
        ) from None
    content.pop(DIGEST, None)
    try:
        project = Project.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"{path} has a key or a value that cannot be used",
            expected="what `tomadapt import` writes",
            got=_with_name(told(error), content),
            remedy="mend it",
        ) from None
    entries = tuple(_moved(entry, lambda p: path.parent / p) for entry in project.tomograms)
    star = project.tomograms_star
    moved = {
        "folder": path.parent / project.folder,
        "tomograms_star": None if star is None else path.parent / star,
        "tomograms": entries,
    }
    return project.model_copy(update=moved)


def project_text(project: Project, folder: Path) -> str:
    """The text of a project file that lies in a folder."""
    body = _body(project, folder)
    digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f'{_HEAD}{DIGEST} = "{digest}"  # a digest of what follows\n{body}'


def _is_as_imported(path: Path) -> bool:
    """Whether a file is just as an import wrote it."""
    head, _, rest = path.read_text("utf-8", errors="replace").partition(f"{DIGEST} = ")
    line, _, body = rest.partition("\n")
    digest = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return bool(rest) and line.startswith(f'"{digest}"') and head == _HEAD


def _body(project: Project, folder: Path) -> str:
    lines = [f"ecosystem = {_value(project.ecosystem)}"]
    lines.append(f"folder = {_value(_relative(project.folder, folder))}")
    if project.tomograms_star is not None:
        lines.append(f"tomograms_star = {_value(_relative(project.tomograms_star, folder))}")
    lines += _keyed("notes", project.notes)
    for entry in project.tomograms:
        shown = _moved(entry, lambda path: Path(_relative(path, folder)))
        lines += ["", "[[tomograms]]", f"name = {_value(entry.name)}"]
        for field, unit in UNITS.items():
            value = getattr(shown, field)
            if value is None:
                lines.append(f"# missing {field} =   # {unit}")
                continue
            comment = entry.sources.get(field, "")
            lines += _keyed(field, value, comment=comment)
        lines += _keyed("other_volumes", shown.other_volumes)
        lines += _keyed("contradictions", entry.contradictions)
        lines += _keyed("unreadable", entry.unreadable)
        lines += _keyed("notes", entry.notes)
        if entry.sources:
            lines += ["", "[tomograms.sources]"]
            lines += [f"{key} = {_value(value)}" for key, value in entry.sources.items()]
    return "\n".join(lines) + "\n"


def _keyed(key: str, value: Any, *, comment: str = "") -> list[str]:
    """The lines of a key; empty lists are left out, and long ones broken."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return []
        items = [_value(item) for item in value]
        line = f"{key} = [{', '.join(items)}]"
        if len(line) <= _WIDTH:
            return [_commented(line, comment)]
        lines, current = [_commented(f"{key} = [", comment)], "   "
        for item in items:
            if len(current) + len(item) + 2 > _WIDTH and current.strip():
                lines.append(current)
                current = "   "
            current += f" {item},"
        return [*lines, current, "]"]
    return [_commented(f"{key} = {_value(value)}", comment)]


def _commented(line: str, comment: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in comment)
    return f"{line}  # {clean}" if clean else line


def _value(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # TOML has JSON's escapes, but wants DEL escaped, too.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _relative(path: Path, folder: Path) -> str:
    """A path as it is written: relative to the file's folder where it lies below it."""
    absolute = Path(os.path.normpath(path.absolute()))
    try:
        return absolute.relative_to(folder).as_posix()
    except ValueError:
        return absolute.as_posix()


def _moved(entry: TomogramEntry, move: Any) -> TomogramEntry:
    """The entry with other paths."""
    return entry.model_copy(
        update={
            "volume": None if entry.volume is None else move(entry.volume),
            "other_volumes": tuple(move(path) for path in entry.other_volumes),
        }
    )


def _with_name(text: str, content: dict[str, Any]) -> str:
    """A fault with the tomogram's name in place of its number."""
    first, _, rest = text.partition(".")
    number, _, field = rest.partition(".")
    try:
        name = content[first][int(number)]["name"]
    except (KeyError, ValueError, TypeError, IndexError):
        return text
    return f"{name}: {field}" if field else text
