"""JSON objects that this package wrote, read back with errors that say what to do."""

from __future__ import annotations

import json
from typing import Any

from tomadapt.errors import InputError


def json_object(text: str, *, what: str, remedy: str) -> dict[str, Any]:
    """Parse a JSON object.

    Parameters
    ----------
    text
        What should be one.
    what
        The file, or the line of it, for the error.
    remedy
        What to do where it is none.

    Raises
    ------
    InputError
        When the text is no JSON, or something else than an object.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"it is a {type(content).__name__}")
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        raise InputError(
            f"{what} is damaged",
            expected="a JSON object",
            got="values nested too deep" if deep else str(error),
            remedy=remedy,
        ) from error
    return content
