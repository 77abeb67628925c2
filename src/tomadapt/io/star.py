"""STAR files, read and written without loss: what is not edited comes back byte for byte.

The dialect is that of RELION (``metadata_table.cpp``, ``nextTokenInSTAR`` in ``strings.cpp``): one
row a line, blocks ``data_NAME`` of loops or of pairs, quotes only around a whole value, comments
from a ``#`` that begins a word. CIF readers do not serve: gemmi loses comments, blank lines and the
``#1`` after a label, and refuses values such as ``data_1/x.mrc`` or ``$x`` and repeated blocks.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.atomic import atomic_path, output_error

MAX_BYTES = 150_000_000
"""Larger text files are refused, so that reading one stays under 1 GB of memory."""

MAX_LINES = 5_000_000

MAX_COLUMNS = 10_000

MAX_BLOCKS = 100_000

_REMEDY = "export the file again, or mend that line"
_WORD = re.compile(r"[^ \t\r]+")
_CLOSING = {quote: re.compile(rf"{quote}(?=[ \t\r]|\Z)") for quote in "'\""}
_SPECIAL = re.compile(r"['\"#]")
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


@dataclass(frozen=True)
class StarTable:
    """A loop or the pairs of a block, with the lines that it was read from.

    Attributes
    ----------
    block
        Name of its block, without ``data_``.
    labels
        Names of the columns, without the underscore.
    head
        Lines from ``loop_`` to the last label; empty for pairs.
    body
        The lines after it, among them blank ones and comments.
    rows
        Which lines of ``body`` hold the rows (of a loop) or the pairs, one for each label.
    first_line
        Line of the file, from 1, at which it begins; 0 where it was not read.
    """

    block: str
    labels: tuple[str, ...]
    head: tuple[str, ...]
    body: tuple[str, ...]
    rows: tuple[int, ...]
    first_line: int = 0

    @property
    def is_loop(self) -> bool:
        """Whether it is a loop, and not pairs."""
        return bool(self.head)

    def __len__(self) -> int:
        """Give the number of rows; pairs are one."""
        return len(self.rows) if self.is_loop else 1

    def __contains__(self, label: str) -> bool:
        """Tell whether there is a column of this name."""
        return label in self._positions

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def line_of(self, row: int) -> int:
        """Line of the file, from 1, on which a row stands (for pairs, on which they begin)."""
        return self.first_line + len(self.head) + (self.rows[row] if self.is_loop else 0)

    def column(self, label: str) -> tuple[str, ...]:
        """Values of a column as they are in the file, without quotes: leading zeros are kept.

        Raises
        ------
        KeyError
            When there is none of this name.
        """
        position = self._positions[label]
        if not self.is_loop:
            return (_tokens(self.body[self.rows[position]])[1].text,)
        return tuple(_values(self.body[line])[position] for line in self.rows)

    def take(self, rows: Sequence[int]) -> StarTable:
        """The same table with some of its rows, in this order; comments among rows stay away.

        What stands before the first and after the last row is kept; where no row is left, comments
        there move before ``loop_``, since starfile takes them for rows.
        """
        if list(rows) == list(range(len(self))):
            return self
        if not self.is_loop:
            return self.as_loop().take(rows)
        return self._with_ended_lines(lambda table: table._taken(rows))

    def _with_ended_lines(self, edit: Callable[[StarTable], StarTable]) -> StarTable:
        """An edit that may move the file's last line, which lacks the end that all others have."""
        lines = (*self.head, *self.body)
        if lines[-1].endswith("\r") or not lines[0].endswith("\r"):
            return edit(self)
        edited = edit(self._with_last_line(lines[-1] + "\r"))
        return edited._with_last_line((*edited.head, *edited.body)[-1].removesuffix("\r"))

    def _with_last_line(self, line: str) -> StarTable:
        if self.body:
            return replace(self, body=(*self.body[:-1], line))
        return replace(self, head=(*self.head[:-1], line))

    def _taken(self, rows: Sequence[int]) -> StarTable:
        first, last = (self.rows[0], self.rows[-1] + 1) if self.rows else (0, 0)
        before, after = self.body[:first], self.body[last:]
        if not len(rows):
            comments = tuple(line for line in (*before, *after) if line.strip())
            blank = tuple(line for line in (*before, *after) if not line.strip())
            return replace(self, head=(*comments, *self.head), body=blank, rows=())
        kept = tuple(self.body[self.rows[row]] for row in rows)
        numbers = tuple(range(first, first + len(kept)))
        return replace(self, body=(*before, *kept, *after), rows=numbers)

    def as_loop(self) -> StarTable:
        """The table as a loop: pairs become its one row, comments of their own line stay."""
        if self.is_loop:
            return self
        loop = loop_of(self.block, {label: self.column(label) for label in self.labels})
        end = "\r" if self.body[self.rows[0]].endswith("\r") else ""
        last = self.rows[-1] + 1
        before = [line for n, line in enumerate(self.body[:last]) if n not in self.rows]
        head = (*before, *(line + end for line in loop.head))
        return replace(loop, head=head, body=(loop.body[0] + end, *self.body[last:]))

    def with_columns(self, columns: Mapping[str, Sequence[str]]) -> StarTable:
        """The table with values in these columns: new ones at its end, old ones in their place.

        Parameters
        ----------
        columns
            Label (without underscore) to one text a row; quotes are added where they are needed.

        Raises
        ------
        ConfigError
            When a label or a value cannot stand in a STAR file, or the numbers of rows differ.
        """
        for label, texts in columns.items():
            writable = label in self or re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", label)
            if not writable or len(texts) != len(self):
                raise ConfigError(
                    f"the column {label!r} cannot be written into a STAR file",
                    expected=f"a name of letters, digits and _ and {len(self)} values",
                    got=f"{len(texts)} values",
                    remedy="give one value for each row",
                )
        if not self.is_loop:
            pairs = {label: texts[0] for label, texts in columns.items()}
            return self._with_ended_lines(lambda table: table._with_pairs(pairs))
        return self._with_ended_lines(lambda table: table._with_texts(columns))

    def _with_texts(self, columns: Mapping[str, Sequence[str]]) -> StarTable:
        body = list(self.body)
        quoted = [[star_value(text) for text in texts] for texts in columns.values()]
        places = [self._positions.get(label) for label in columns]
        for row, line in enumerate(self.rows):
            body[line] = _edited(
                body[line], [(p, texts[row]) for p, texts in zip(places, quoted, strict=True)]
            )
        new = tuple(label for label in columns if label not in self)
        head = (*self.head, *(self._label_line(label, n) for n, label in enumerate(new, start=1)))
        return replace(self, labels=(*self.labels, *new), head=head, body=tuple(body))

    def _label_line(self, label: str, further: int) -> str:
        """A label's line in the manner of the last one: numbered or not, with its line's end."""
        last = self.head[-1]
        number = f" #{len(self.labels) + further}" if "#" in last else ""
        return f"_{label}{number}" + last[len(last.rstrip(" \t\r")) :]

    def _with_pairs(self, pairs: Mapping[str, str]) -> StarTable:
        body, rows = list(self.body), list(self.rows)
        labels = list(self.labels)
        for label, text in pairs.items():
            value = star_value(text)
            if label in self:
                line = rows[self._positions[label]]
                body[line] = _edited(body[line], [(1, value)])
                continue
            after = rows[-1] + 1
            end = "\r" if body[rows[-1]].endswith("\r") else ""
            body.insert(after, f"_{label}   {value}{end}")
            rows.append(after)
            labels.append(label)
        return replace(self, labels=tuple(labels), body=tuple(body), rows=tuple(rows))


@dataclass(frozen=True)
class StarDocument:
    """A STAR file.

    Attributes
    ----------
    parts
        In the order of the file: its tables, and the lines (text) that stand between them.
    """

    parts: tuple[str | StarTable, ...]

    @property
    def tables(self) -> tuple[StarTable, ...]:
        """All tables, in the order of the file."""
        return tuple(part for part in self.parts if isinstance(part, StarTable))

    def table(self, block: str) -> StarTable | None:
        """The first table of the block of this name, or None."""
        return next((table for table in self.tables if table.block == block), None)

    def replaced(self, old: StarTable, new: StarTable) -> StarDocument:
        """The document with one of its tables exchanged."""
        return StarDocument(tuple(new if part is old else part for part in self.parts))

    def with_pairs(self, block: str, pairs: Mapping[str, str]) -> StarDocument:
        """The document with pairs of label and value in a block of their own, the last if new."""
        old = self.table(block)
        if old is not None:
            return self.replaced(old, old.with_columns({k: [v] for k, v in pairs.items()}))
        first = self.parts[0] if self.parts else ""
        crlf = (first if isinstance(first, str) else first.head[0]).endswith("\r")
        end = "\r" if crlf else ""
        body = tuple(f"_{label} {star_value(value)}{end}" for label, value in pairs.items())
        table = StarTable(block, tuple(pairs), (), body, tuple(range(len(body))))
        parts = self.parts
        last = parts[-1] if parts else None
        if last == "":  # what stands behind the file's last line end
            parts = parts[:-1]
        elif isinstance(last, StarTable) and last.body and last.body[-1] == "":
            parts = (*parts[:-1], replace(last, body=last.body[:-1]))
        elif isinstance(last, StarTable) and end:
            parts = (*parts[:-1], last._with_last_line((*last.head, *last.body)[-1] + end))
        return StarDocument((*parts, end, f"data_{block}{end}", end, table, ""))

    def text(self) -> str:
        """The file's text: what was read and not edited is as it was."""
        lines: list[str] = []
        for part in self.parts:
            lines += [part] if isinstance(part, str) else [*part.head, *part.body]
        return "\n".join(lines)


def loop_of(block: str, columns: Mapping[str, Sequence[str]]) -> StarTable:
    """A new loop from columns of texts, quoted where they need it; a blank line ends it."""
    head = ("loop_", *(f"_{label} #{n}" for n, label in enumerate(columns, start=1)))
    quoted = [[star_value(text) for text in texts] for texts in columns.values()]
    body = tuple("  ".join(row) for row in zip(*quoted, strict=True))
    return StarTable(block, tuple(columns), head, (*body, ""), tuple(range(len(body))))


def star_value(text: str) -> str:
    """A value as it stands in a file: quoted where it is empty or would be taken for other things.

    Raises
    ------
    ConfigError
        When it has line ends, or quotes of both kinds where it needs some.
    """
    # A # within a word begins no comment here or in RELION, but it does in starfile.
    plain = text and not re.search(r"[\s\x00#]", text) and text[0] not in "'\"_;"
    if plain and not text.startswith(("data_", "loop_")):
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


def nearest_value(text: str) -> str:
    """The text itself where a STAR file can hold it, or else the nearest that it can.

    Line ends become spaces; where quotes of both kinds end words, double ones become single.
    """
    line = _LINE_ENDS.sub(" ", text)
    return line if _quote_for(line) else line.replace('"', "'")


def read_text(path: Path | str, *, kind: str = "STAR file") -> str:
    """Read a text file of bounded size; line ends stay as they are.

    Raises
    ------
    InputError
        When it is missing, no regular file, a link to itself, too large, empty, binary, or no
        UTF-8; the last two name line and column.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, kind, "a folder or device")
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 1e6:.0f} MB"
            raise _unreadable(path, f"{kind} of at most {MAX_BYTES / 1e6:.0f} MB", size)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, kind, getattr(error, "strerror", None) or str(error)) from error
    if not content.strip():
        raise _unreadable(path, kind, "an empty file")
    if (lines := content.count(b"\n")) > MAX_LINES:
        raise _unreadable(path, f"{kind} of at most {MAX_LINES} lines", str(lines))
    if (zero := content.find(b"\0")) >= 0:
        raise _unreadable(path, kind, f"binary data at {_place(content, zero)}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        where = _place(content, error.start)
        raise _unreadable(path, f"{kind} in UTF-8", f"other bytes at {where}") from error


def _place(content: bytes, position: int) -> str:
    line = content.count(b"\n", 0, position) + 1
    column = position - content.rfind(b"\n", 0, position)
    return f"line {line}, column {column}"


def _unreadable(path: Path, expected: str, got: str) -> InputError:
    return InputError(
        f"cannot read {path}", expected=f"a {expected}", got=got, remedy="check or copy it again"
    )


def read_star(path: Path | str) -> StarDocument:
    """Read a STAR file.

    Raises
    ------
    InputError
        As :func:`read_text` and :func:`parse_star`.
    """
    return parse_star(read_text(path), name=str(path))


def parse_star(text: str, *, name: str = "the STAR file") -> StarDocument:
    """Parse the text of a STAR file.

    Parameters
    ----------
    text
        Content.
    name
        What errors call it.

    Raises
    ------
    InputError
        When a line is not of STAR's form: text outside a block, a loop without labels, a row with
        another number of values than labels, an open quote, a label twice. Line and column are
        named.
    """
    return _Parser(text.split("\n"), name).document()


def write_star_document(path: Path | str, document: StarDocument) -> None:
    """Write a document, whole or not at all.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    content = document.text().encode("utf-8")
    try:
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(content)  # bytes, so that no platform changes the line ends
    except OSError as error:
        raise output_error(path, error) from error


class _TooManyWordsError(Exception):
    pass


def _tokens(line: str) -> list[Token]:
    """The words of a line up to a comment.

    A quote that stays open raises ValueError, more words than columns may be _TooManyWordsError.
    """
    found: list[Token] = []
    position = 0
    while match := _WORD.search(line, position):
        if len(found) > MAX_COLUMNS:  # a line of millions of words would fill the memory
            raise _TooManyWordsError
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


def _values(line: str) -> list[str]:
    # Most lines have neither quotes nor comments.
    if _SPECIAL.search(line):
        return [token.text for token in _tokens(line)]
    return _WORD.findall(line)


def _edited(line: str, edits: list[tuple[int | None, str]]) -> str:
    """The line with values exchanged at their positions, or (None) added after the last one."""
    tokens = _tokens(line)
    added = "".join(f"  {text}" for position, text in edits if position is None)
    end = tokens[-1].end if tokens else 0
    line = line[:end] + added + line[end:]
    for position, text in sorted((e for e in edits if e[0] is not None), reverse=True):
        token = tokens[position]  # type: ignore[index]
        line = line[: token.start] + text + line[token.end :]
    return line


class _Parser:
    """Goes through the lines once; each of them ends up in exactly one part."""

    def __init__(self, lines: list[str], name: str) -> None:
        self.lines = lines
        self.name = name
        self.at = 0
        self.block: str | None = None
        self.blocks = 0

    def document(self) -> StarDocument:
        return StarDocument(tuple(self._parts()))

    def _parts(self) -> Iterator[str | StarTable]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            tokens = self._checked_tokens(self.at)
            if not tokens:
                self.at += 1
                yield line
            elif _is_block(tokens):
                self.block = tokens[0].text[5:]
                self.blocks += 1
                if self.blocks > MAX_BLOCKS:
                    raise self._error(tokens[0], "more blocks", f"at most {MAX_BLOCKS}")
                self.at += 1
                yield line
            elif self.block is None:
                raise self._error(
                    tokens[0], "text before the first block", "a line data_NAME before it"
                )
            elif _is_loop(tokens):
                yield self._loop()
            elif _is_label(tokens):
                yield self._pairs()
            else:
                raise self._error(tokens[0], "a value without a label", "loop_ or a label first")
        if self.block is None:
            raise InputError(
                f"{self.name} is no STAR file",
                expected="at least one line data_NAME",
                got="none",
                remedy=_REMEDY,
            )

    def _loop(self) -> StarTable:
        first = self.at
        self.at += 1
        labels, last = dict[str, None](), first
        while self.at < len(self.lines):
            tokens = self._checked_tokens(self.at)
            if tokens and not _is_label(tokens):
                break
            if tokens:
                if len(tokens) > 1:
                    raise self._error(tokens[1], "a value after a loop's label", "nothing")
                labels[self._new_label(tokens[0], labels)] = None
                last = self.at
            self.at += 1
        if not labels:
            self.at = first
            raise self._error(None, "a loop without labels", "labels after loop_")
        # Blank lines and comments after the last label belong to the body.
        self.at = last + 1
        rows = self._rows(len(labels))
        head = tuple(self.lines[first : last + 1])
        body = tuple(self.lines[last + 1 : self.at])
        return StarTable(str(self.block), tuple(labels), head, body, rows, first + 1)

    def _rows(self, width: int) -> tuple[int, ...]:
        start, rows = self.at, []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if _SPECIAL.search(line) or line.lstrip(" \t").startswith(("data_", "loop_", "_")):
                tokens = self._checked_tokens(self.at)
                if tokens and (_is_block(tokens) or _is_loop(tokens) or _is_label(tokens)):
                    break
                count = len(tokens)
            elif len(line) > 2 * MAX_COLUMNS:
                count = len(self._checked_tokens(self.at))
            else:
                count = len(_WORD.findall(line))
            if count:
                if count != width:
                    place = "values in the row; the file may be cut off"
                    raise self._error(None, f"{count} {place}", f"{width}, one for each label")
                rows.append(self.at - start)
            self.at += 1
        return tuple(rows)

    def _pairs(self) -> StarTable:
        first, labels, rows = self.at, dict[str, None](), list[int]()
        while self.at < len(self.lines):
            tokens = self._checked_tokens(self.at)
            if tokens and not _is_label(tokens):
                break
            if tokens:
                if len(tokens) != 2:
                    odd = tokens[2] if len(tokens) > 2 else tokens[0]
                    got = f"{len(tokens) - 1} values of the label {tokens[0].text[:80]}"
                    raise self._error(odd, got, "one")
                labels[self._new_label(tokens[0], labels)] = None
                rows.append(self.at - first)
            self.at += 1
        body = tuple(self.lines[first : self.at])
        return StarTable(str(self.block), tuple(labels), (), body, tuple(rows), first + 1)

    def _new_label(self, token: Token, labels: dict[str, None]) -> str:
        label = token.text[1:]
        if label in labels or not label:
            raise self._error(token, f"the label {token.text[:80]} twice or empty", "each once")
        if len(labels) >= MAX_COLUMNS:
            raise self._error(token, "too many labels", f"at most {MAX_COLUMNS}")
        return label

    def _checked_tokens(self, number: int) -> list[Token]:
        line = self.lines[number]
        if number == 0:
            line = line.replace("\ufeff", " ", 1)  # a byte-order mark stays in the file
        try:
            return _tokens(line)
        except _TooManyWordsError:
            raise self._error(None, "more words", f"at most {MAX_COLUMNS} in a line") from None
        except ValueError as error:
            position = int(error.args[0])
            open_quote = Token(line[position:], position, len(line))
            raise self._error(open_quote, "an open quote", "its end on the same line") from error

    def _error(self, token: Token | None, got: str, expected: str) -> InputError:
        column = token.start + 1 if token else 1
        return InputError(
            f"{self.name}, line {self.at + 1}, column {column}, is not of STAR's form",
            expected=expected,
            got=got,
            remedy=_REMEDY,
        )


def _is_block(tokens: list[Token]) -> bool:
    # Alone on its line: a row may well begin with a path such as data_1/x.mrc.
    return len(tokens) == 1 and not tokens[0].quoted and tokens[0].text.startswith("data_")


def _is_loop(tokens: list[Token]) -> bool:
    return len(tokens) == 1 and not tokens[0].quoted and tokens[0].text == "loop_"


def _is_label(tokens: list[Token]) -> bool:
    return not tokens[0].quoted and tokens[0].text.startswith("_")
