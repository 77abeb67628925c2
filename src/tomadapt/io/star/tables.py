"""Tables of a STAR file with the lines they were read from, and documents of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tomadapt.errors import ConfigError
from tomadapt.io.star.words import edited_line, star_value, tokens_of, values_of


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

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"row {row + 1} (line {self.line_of(row)})"

    def column(self, label: str) -> tuple[str, ...]:
        """Values of a column as they are in the file, without quotes: leading zeros are kept.

        Raises
        ------
        KeyError
            When there is none of this name.
        """
        position = self._positions[label]
        if not self.is_loop:
            return (tokens_of(self.body[self.rows[position]])[1].text,)
        return tuple(values_of(self.body[line])[position] for line in self.rows)

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
            body[line] = edited_line(
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
                body[line] = edited_line(body[line], [(1, value)])
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
        """The first table of the block of this name, if need be in other capitals, or None."""
        for same in (str, str.lower):
            for table in self.tables:
                if same(table.block) == same(block):
                    return table
        return None

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
