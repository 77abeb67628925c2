"""Surfaces of maps whose surface is known."""

import numpy as np
import pytest

from tomadapt.errors import InputError
from tomadapt.report.isosurfaces import draw_isosurfaces, interactive_view, isosurface


def ellipsoid(n: int) -> np.ndarray:
    """Density exp(−r²/2) in units of semi-axes 4, 6 and 8 voxels along x, y and z."""
    r = np.arange(n) - n // 2
    z, y, x = np.meshgrid(r, r, r, indexing="ij")
    return np.exp(-((x / 4) ** 2 + (y / 6) ** 2 + (z / 8) ** 2) / 2).astype(np.float32)


@pytest.mark.parametrize("n", [32, 33])
def test_vertices_lie_on_the_ellipsoid(n):
    mesh = isosurface(ellipsoid(n), voxel_size_A=5.0, level=float(np.exp(-0.5)))
    x, y, z = (mesh.vertices_A / 5.0).T
    radius = np.sqrt((x / 4) ** 2 + (y / 6) ** 2 + (z / 8) ** 2)
    np.testing.assert_allclose(radius, 1.0, atol=0.03)
    assert np.abs(mesh.vertices_A).max(axis=0) == pytest.approx([20, 30, 40], rel=0.02)


def test_faces_look_outwards():
    mesh = isosurface(ellipsoid(32), voxel_size_A=5.0)
    a, b, c = mesh.vertices_A[mesh.faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    assert np.mean(np.sum(normal * (a + b + c), axis=1) > 0) > 0.99


def test_the_level_is_three_deviations_above_the_mean():
    volume = ellipsoid(32)
    mesh = isosurface(volume, voxel_size_A=5.0)
    assert mesh.level == pytest.approx(volume.mean() + 3 * volume.std())


def test_a_surface_is_closed_at_the_box():
    mesh = isosurface(ellipsoid(20), voxel_size_A=1.0, level=0.2)  # z reaches beyond the box
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()


def test_flat_maps_are_refused():
    with pytest.raises(InputError, match="no surface"):
        isosurface(np.zeros((8, 8, 8), np.float32), voxel_size_A=1.0)


def test_pictures_and_a_view_that_loads_nothing():
    mesh = isosurface(ellipsoid(24), voxel_size_A=5.0)
    figure = draw_isosurfaces({"one": mesh, "two": mesh})
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    html = interactive_view({"one": mesh, "<b>": mesh})
    assert 'id="surfaces"' in html
    assert "<script src" not in html
    assert html == interactive_view({"one": mesh, "<b>": mesh})
