"""Isosurfaces of recovered maps: meshes, pictures of them, and a view that can be turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.report.style import shorten, styled

LEVEL_SIGMAS = 3.0
"""Standard deviations above the mean at which a surface is drawn, as map viewers do at first."""


@dataclass(frozen=True)
class Mesh:
    """A closed surface.

    Attributes
    ----------
    vertices_A
        (v, 3) x, y, z in Å from the box's centre.
    faces
        (f, 3) indices of vertices, counter-clockwise from outside.
    level
        The density at the surface.
    """

    vertices_A: NDArray[np.float32]
    faces: NDArray[np.int64]
    level: float


def isosurface(
    volume: NDArray[np.float32], *, voxel_size_A: float, level: float | None = None
) -> Mesh:
    """The surface where a map has a given density (marching cubes, Lewiner et al. 2003).

    Parameters
    ----------
    volume
        (n, n, n), [z, y, x], centre at n // 2.
    voxel_size_A
        Å.
    level
        Three standard deviations above the mean when None.

    Raises
    ------
    InputError
        When the map is flat, or never reaches the level.
    """
    from skimage.measure import marching_cubes

    at = float(volume.mean() + LEVEL_SIGMAS * volume.std()) if level is None else level
    if not float(volume.min()) < at < float(volume.max()):
        raise InputError(
            "the map has no surface",
            expected=f"densities on both sides of {at:.3g}",
            got=f"{float(volume.min()):.3g} to {float(volume.max()):.3g}",
            remedy="choose another level",
        )
    # A border of the least density closes surfaces that reach the box's faces.
    padded = np.pad(volume, 1, constant_values=float(volume.min()))
    zyx, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        padded, at, gradient_direction="ascent"
    )
    xyz = (zyx[:, ::-1] - 1 - len(volume) // 2) * voxel_size_A
    return Mesh(xyz.astype(np.float32), faces[:, ::-1].astype(np.int64), at)


@styled
def draw_isosurfaces(meshes: Mapping[str, Mesh]) -> Figure:
    """Draw shaded surfaces side by side, all at one scale."""
    columns = min(4, len(meshes))
    rows = -(-len(meshes) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.3 * rows), layout="constrained")
    reach = max(float(np.abs(mesh.vertices_A).max()) for mesh in meshes.values())
    light = LightSource(azdeg=315, altdeg=45)
    for place, (name, mesh) in enumerate(meshes.items(), start=1):
        axes = figure.add_subplot(rows, columns, place, projection="3d")
        surface = Poly3DCollection(
            mesh.vertices_A[mesh.faces],
            facecolors="#7fb2d8",
            linewidths=0,
            shade=True,
            lightsource=light,
        )
        axes.add_collection3d(surface)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
        axes.set_box_aspect((1, 1, 1))
        axes.set_axis_off()
        axes.set_title(shorten(name, 28))
    return figure


def interactive_view(meshes: Mapping[str, Mesh]) -> str:
    """HTML of a view that can be turned, with a menu of the surfaces; it loads nothing."""
    import plotly.graph_objects as go

    traces = []
    for place, (name, mesh) in enumerate(meshes.items()):
        x, y, z = np.round(mesh.vertices_A, 1).T
        i, j, k = mesh.faces.astype(np.int32).T
        traces.append(
            go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, name=name, color="#7fb2d8", visible=place == 0)
        )
    figure = go.Figure(traces)
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [{"visible": [other == name for other in meshes]}],
        }
        for name in meshes
    ]
    figure.update_layout(
        scene={"aspectmode": "data"},
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        height=560,
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.08}],
    )
    html: str = figure.to_html(full_html=False, include_plotlyjs=True, div_id="surfaces")
    return html
