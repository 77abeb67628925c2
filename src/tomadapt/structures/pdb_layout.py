"""The columns of PDB records: what shifted them is put right, or the line is named.

Readers take each field from its columns. A program that writes a serial of six digits where there
is room for five shifts all that follows, and a coordinate is read without its last digit, or with
one of its neighbour's.

Source: Protein Data Bank Contents Guide 3.3, ATOM.
"""

from __future__ import annotations

import re

_COORDINATES = (slice(30, 38), slice(38, 46), slice(46, 54))
_OCCUPANCY = slice(54, 60)
_NUMBER = re.compile(rb" *[+-]?(?:\d+\.?\d*|\.\d+) *")
_SHIFTS = (1, 2, 3, -1, -2)
_SHOWN = 60


def with_right_columns(content: bytes) -> bytes:
    """A PDB file whose atom records have their coordinates in columns 31 to 54.

    Parameters
    ----------
    content
        The file.

    Returns
    -------
    The same, but where a serial of more than five digits shifted a record, its last five digits.

    Raises
    ------
    ValueError
        Coordinates are no numbers, or are in other columns for another reason; the line is named.
    """
    lines = content.split(b"\n")
    for index, line in enumerate(lines):
        if not line.startswith((b"ATOM  ", b"HETATM")) or _fits(line, 0):
            continue
        shift = next((by for by in _SHIFTS if _fits(line, by)), None)
        if shift is None:
            raise ValueError(f"coordinates are not numbers in line {index + 1}: {_shown(line)}")
        serial = line[6 : 11 + max(shift, 0)].strip()
        if shift < 0 or not (serial.isdigit() and len(serial) > 5):
            raise ValueError(
                f"coordinates are {abs(shift)} column{'' if abs(shift) == 1 else 's'} too far "
                f"{'right' if shift > 0 else 'left'} in line {index + 1}: {_shown(line)}"
            )
        lines[index] = line[:6] + serial[-5:] + line[11 + shift :]
    return b"\n".join(lines)


def _fits(line: bytes, shift: int) -> bool:
    """Whether coordinates are in their columns, moved to the right by so many."""
    before, after = 29 + shift, 54 + shift
    fields = [line[field.start + shift : field.stop + shift] for field in _COORDINATES]
    if not all(_NUMBER.fullmatch(field.rstrip(b"\r")) for field in fields):
        return False
    # A digit on either side belongs to a number that was cut, or is an occupancy of 100.00, which
    # fills its columns.
    beside = [line[before : before + 1]]
    if shift or not _NUMBER.fullmatch(line[_OCCUPANCY]):
        beside.append(line[after : after + 1])
    return all(character in (b" ", b"", b"\r") for character in beside)


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN].decode("latin-1").rstrip())
