"""The text of a STAR file taken apart: each line ends up in exactly one part."""

from __future__ import annotations

from collections.abc import Iterator

from tomadapt.errors import InputError
from tomadapt.io.star.tables import StarDocument, StarTable
from tomadapt.io.star.words import MAX_COLUMNS, SPECIAL, WORD, Token, TooManyWordsError, tokens_of

MAX_BLOCKS = 100_000

_REMEDY = "export the file again, or mend that line"


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
            word = line.lstrip(" \t")[:5].lower()
            if SPECIAL.search(line) or word.startswith(("data_", "loop_", "_")):
                tokens = self._checked_tokens(self.at)
                if tokens and (_is_block(tokens) or _is_loop(tokens) or _is_label(tokens)):
                    break
                count = len(tokens)
            elif len(line) > 2 * MAX_COLUMNS:
                count = len(self._checked_tokens(self.at))
            else:
                count = len(WORD.findall(line))
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
            return tokens_of(line)
        except TooManyWordsError:
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
    # Keywords may be in capitals (IUCr, CIF syntax 1.1, 2.8).
    return len(tokens) == 1 and not tokens[0].quoted and tokens[0].text[:5].lower() == "data_"


def _is_loop(tokens: list[Token]) -> bool:
    return len(tokens) == 1 and not tokens[0].quoted and tokens[0].text.lower() == "loop_"


def _is_label(tokens: list[Token]) -> bool:
    return not tokens[0].quoted and tokens[0].text.startswith("_")
