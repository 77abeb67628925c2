"""The words of a line of a STAR file, and values as they stand in one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tomadapt.errors import ConfigError

MAX_COLUMNS = 10_000

WORD = re.compile(r"[^ \t\r]+")
SPECIAL = re.compile(r"['\"#]")
"""What needs more than splitting at white space."""
_CLOSING = {quote: re.compile(rf"{quote}(?=[ \t\r]|\Z)") for quote in "'\""}
_LINE_ENDS = re.compile(r"\r\n|[\n\r\x00\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Token:
    """One word of a line.

    Attributes
    ----------
    text
        Its value, without quotes.
    start, end
        Where it stands in the line, with its quotes.
    quoted
        Whether it has any.
    """

    text: str
    start: int
    end: int
    quoted: bool = False


class TooManyWordsError(Exception):
    """A line has more words than columns may be."""


def tokens_of(line: str) -> list[Token]:
    """The words of a line up to a comment.

    A quote that stays open raises ValueError, more words than columns may be TooManyWordsError.
    """
    found: list[Token] = []
    position = 0
    while match := WORD.search(line, position):
        if len(found) > MAX_COLUMNS:  # a line of millions of words would fill the memory
            raise TooManyWordsError
        start, quote = match.start(), match.group()[0]
        if quote == "#":
            break
        if quote not in "'\"":
            position = match.end()
            found.append(Token(match.group(), start, position))
            continue
        # A quote within a value does not end it; one before white space or the line's end does.
        closing = _CLOSING[quote].search(line, start + 1)
        if closing is None:
            raise ValueError(start)
        position = closing.end()
        found.append(Token(line[start + 1 : position - 1], start, position, quoted=True))
    return found


def values_of(line: str) -> list[str]:
    """The words' texts alone, raising as :func:`tokens_of`."""
    # Most lines have neither quotes nor comments.
    if SPECIAL.search(line):
        return [token.text for token in tokens_of(line)]
    return WORD.findall(line)


def edited_line(line: str, edits: list[tuple[int | None, str]]) -> str:
    """The line with values exchanged at their positions, or (None) added after the last one."""
    tokens = tokens_of(line)
    added = "".join(f"  {text}" for position, text in edits if position is None)
    end = tokens[-1].end if tokens else 0
    line = line[:end] + added + line[end:]
    for position, text in sorted((e for e in edits if e[0] is not None), reverse=True):
        token = tokens[position]  # type: ignore[index]
        line = line[: token.start] + text + line[token.end :]
    return line


def star_value(text: str) -> str:
    """A value as it stands in a file: quoted where it is empty or would be taken for other things.

    Raises
    ------
    ConfigError
        When it has line ends, or quotes of both kinds where it needs some.
    """
    # A # within a word begins no comment here or in RELION, but it does in starfile.
    plain = text and not re.search(r"[\s\x00#]", text) and text[0] not in "'\"_;"
    if plain and not text.lower().startswith(("data_", "loop_")):
        return text
    quote = _quote_for(text)
    if quote is None or _LINE_ENDS.search(text):
        raise ConfigError(
            "a value cannot be written into a STAR file",
            expected="one line without both kinds of quotes at the ends of words",
            got=repr(text[:80]),
            remedy="change the name",
        )
    return f"{quote}{text}{quote}"


def _quote_for(text: str) -> str | None:
    """A quote that the text does not close: one that it has not, or has only within words."""
    free = [quote for quote in "\"'" if quote not in text]
    within = [quote for quote in "\"'" if not re.search(rf"{quote}([ \t\r]|$)", text)]
    return next(iter(free + within), None)
