"""WarpTools' XML: lists of numbers, grids and parameters.

Sources: warpem/warp (commit e321344), ``WarpLib/TiltSeries/TiltSeries.cs`` (``SaveMeta``: a number
a line), ``CubicGrid.cs`` (``Save``), ``WarpBase.cs`` and ``XMLHelper.cs`` (``Param`` with ``Name``
and ``Value``).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import numbers
from tomadapt.project.reading import require_finite, text_of

Doubles = NDArray[np.float64]


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without entities of its own, of bounded size.

    Raises
    ------
    InputError
        When it is damaged, or declares entities: they could grow without end.
    """
    text = text_of(path, kind="XML file")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise damaged(path, "a document type, which WarpTools never writes")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, got: str) -> InputError:
    """The error for an XML file."""
    return InputError(
        f"{path} is damaged", expected="XML of WarpTools", got=got, remedy="copy it again"
    )


def numbers_of(root: ElementTree.Element, tag: str, path: Path) -> Doubles | None:
    """The numbers of an element, a line each."""
    element = root.find(tag)
    words = (element.text or "").split() if element is not None else []
    if not words:
        return None
    values = numbers(words, what=tag, path=path, place=lambda row: f"{tag}, line {row + 1}")
    require_finite(values, path, tag)
    return values


def grid_of(root: ElementTree.Element, tag: str, path: Path) -> Doubles | None:
    """(depth,) of a grid the mean over x and y for each z: one node a tilt, or one for all."""
    element = root.find(tag)
    if element is None:
        return None
    try:
        depth = int(element.get("Depth", "1"))
        nodes = [
            (int(node.get("Z", "0")), float(node.get("Value", "nan")))
            for node in element.iter("Node")
        ]
    except ValueError as error:
        raise damaged(path, f"in {tag} {error}") from None
    if not nodes:
        return None
    if {z for z, _ in nodes} != set(range(depth)):
        raise damaged(path, f"{tag} of depth {depth} with {len(nodes)} nodes")
    values = np.array([np.mean([v for z, v in nodes if z == at]) for at in range(depth)])
    require_finite(values, path, tag)
    return values


def params_of(element: ElementTree.Element | None) -> dict[str, str]:
    """Name → value of the ``Param`` elements of a section."""
    if element is None:
        return {}
    return {p.get("Name", ""): p.get("Value", "") for p in element.findall("Param")}
