"""STAR files, read and written without loss: what is not edited comes back byte for byte.

The dialect is that of RELION (``metadata_table.cpp``, ``nextTokenInSTAR`` in ``strings.cpp``): one
row a line, blocks ``data_NAME`` of loops or of pairs, quotes only around a whole value, comments
from a ``#`` that begins a word. CIF readers do not serve: gemmi loses comments, blank lines and the
``#1`` after a label, and refuses values such as ``data_1/x.mrc`` or ``$x`` and repeated blocks.

``words`` are those of a line, ``tables`` what is read and edited, ``parsing`` makes them of a text,
``files`` reads and writes it.
"""

from tomadapt.io.star.files import read_star, read_text, write_star_document
from tomadapt.io.star.parsing import parse_star
from tomadapt.io.star.tables import StarDocument, StarTable, loop_of
from tomadapt.io.star.words import MAX_COLUMNS, star_value

__all__ = [
    "MAX_COLUMNS",
    "StarDocument",
    "StarTable",
    "loop_of",
    "parse_star",
    "read_star",
    "read_text",
    "star_value",
    "write_star_document",
]
