"""Files of projects with words exchanged: an import ends well, or with an error that says why."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import project_writers as made
import pytest

from tomadapt.errors import TomadaptError
from tomadapt.project import import_project, read_project, write_project

WORDS = (
    *(b"nan", b"inf", b"-1e400", b"", b"\x00", b"\xff", b"1_0", b"[", b"<", b'"', b"None"),
    *(b"99999999999999999999", b"-5", b"0", b"1e30", b"{}", b"null", b"\n\n", b"data_x\n"),
)
WRITERS = (
    *(made.write_relion5, made.write_relion4, made.write_warp, made.write_imod),
    *(made.write_aretomo, made.write_portal),
)
BETWEEN = (b" ", b"\n", b'"', b"<", b">", b"\t")


def with_a_word_exchanged(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(max(1, len(content)))
    start = max(content.rfind(mark, 0, at) for mark in BETWEEN) + 1
    ends = [end for mark in BETWEEN if (end := content.find(mark, at)) >= 0]
    return content[:start] + draw.choice(WORDS) + content[min(ends, default=len(content)) :]


@pytest.mark.parametrize("writer", WRITERS)
def test_no_damage_is_a_traceback(
    tmp_path: Path, writer: Callable[[Path, Sequence[made.Truth]], Path]
) -> None:
    draw = random.Random(7)
    writer(tmp_path / "p", made.truths(2))
    files = sorted(path for path in (tmp_path / "p").rglob("*") if path.is_file())
    told, errors = 0, []
    for number in range(25):
        path = draw.choice(files)
        whole = path.read_bytes()
        path.write_bytes(with_a_word_exchanged(whole, draw))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                project = import_project(tmp_path / "p")
            out = tmp_path / f"{number}.toml"
            write_project(out, project)
            assert read_project(out) == project
            told += any(e.unreadable or e.contradictions for e in project.tomograms)
        except TomadaptError as error:
            errors.append(str(error))
        path.write_bytes(whole)
    assert all("expected " in error or "got " in error for error in errors)
    assert told + len(errors) >= 1
