"""Rivals: mirror images have the other hand; shapes have their sizes; proteins are compact."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from planted_cubes import BOX, STRUCTURES, VOXEL_A, balls, wanted
from scipy import ndimage

from tomadapt.judge.rivals import (
    SHELL_THICKNESS_A,
    Hypothesis,
    mirror_image,
    mirrors,
    proteins,
    shapes,
)

FINE_A = 5.0
COMPACT = ("sphere of", "shell of", "ellipsoid of")


@cache
def fine() -> dict[str, Hypothesis]:
    return {h.name: h for h in shapes(60, FINE_A)}


@cache
def usual() -> tuple[Hypothesis, ...]:
    return tuple(proteins(BOX, VOXEL_A))


@pytest.mark.parametrize("box", [20, 21])
class TestMirrorImages:
    def test_twice_is_the_identity(self, box: int) -> None:
        density = np.random.default_rng(0).normal(size=(box,) * 3).astype(np.float32)
        np.testing.assert_array_equal(mirror_image(mirror_image(density)), density)
        assert not np.array_equal(mirror_image(density), density)

    @pytest.mark.parametrize("name", STRUCTURES)
    def test_x_is_reversed_about_the_centre(self, box: int, name: str) -> None:
        parts = STRUCTURES[name]
        reversed_x = tuple((-x, y, z, sigma, weight) for x, y, z, sigma, weight in parts)
        got = mirror_image(balls(parts, box=box))
        np.testing.assert_allclose(got, balls(reversed_x, box=box), atol=2e-3)

    def test_the_centre_stays(self, box: int) -> None:
        density = np.zeros((box,) * 3, np.float32)
        density[box // 2, box // 2, box // 2] = 1
        np.testing.assert_array_equal(mirror_image(density), density)


def test_each_structure_has_its_mirror_image() -> None:
    found = mirrors(wanted("alpha", "beta"))
    assert [(h.of, h.kind) for h in found] == [("alpha", "mirror"), ("beta", "mirror")]
    assert len({h.name for h in found}) == 2
    np.testing.assert_array_equal(found[1].density, mirror_image(wanted("beta")[0].density))


class TestShapes:
    @pytest.mark.parametrize(("box", "voxel_A"), [(20, 16.0), (21, 20.0), (16, 10.0), (32, 10.0)])
    def test_finite_unique_and_inside(self, box: int, voxel_A: float) -> None:
        found = shapes(box, voxel_A)
        assert len({h.name for h in found}) == len(found)
        for h in found:
            assert h.density.shape == (box, box, box)
            assert h.density.dtype == np.float32
            assert np.isfinite(h.density).all()
            assert h.density.max() > 0.3
            if h.name.startswith(COMPACT):
                faces = np.concatenate([h.density[[0, -1]].ravel(), h.density[:, [0, -1]].ravel()])
                assert faces.max() < 0.1, h.name

    def test_what_is_larger_than_half_a_box_is_left_out(self) -> None:
        names = {h.name for h in shapes(16, 10.0)}
        assert "sphere of 60 Å" in names
        assert not names & {"sphere of 80 Å", "shell of 70 Å", "tube", "ellipsoid of 60 × 132 Å"}
        assert "flat membrane" in names
        assert "sphere of 80 Å" in {h.name for h in shapes(24, 10.0)}

    @pytest.mark.parametrize("radius_A", [45.0, 80.0, 130.0])
    def test_a_sphere_has_its_volume(self, radius_A: float) -> None:
        volume = fine()[f"sphere of {radius_A:g} Å"].density.sum() * FINE_A**3
        assert volume == pytest.approx(4 / 3 * np.pi * radius_A**3, rel=0.03)

    def test_an_ellipsoid_has_its_volume_and_length(self) -> None:
        density = fine()["ellipsoid of 60 × 132 Å"].density
        volume = density.sum() * FINE_A**3
        assert volume == pytest.approx(4 / 3 * np.pi * 60**2 * 132, rel=0.05)
        length, width = density[:, 30, 30].sum() * FINE_A, density[30, 30].sum() * FINE_A
        assert length == pytest.approx(264, rel=0.05)
        assert width == pytest.approx(120, rel=0.05)

    def test_a_shell_is_hollow(self) -> None:
        line = fine()["shell of 100 Å"].density[30, 30, 30:]
        assert line[0] < 0.01
        assert line.sum() * FINE_A == pytest.approx(SHELL_THICKNESS_A, rel=0.05)
        assert line.argmax() * FINE_A == pytest.approx(100 - SHELL_THICKNESS_A / 2, abs=FINE_A)

    @pytest.mark.parametrize("curvature_A", [None, 120.0, 350.0])
    def test_a_membrane_has_two_leaflets(self, curvature_A: float | None) -> None:
        name = "flat membrane" if curvature_A is None else f"membrane of {curvature_A:g} Å radius"
        density = fine()[name].density
        line = density[:, 30, 30]
        peaks = np.flatnonzero((line[1:-1] > line[:-2]) & (line[1:-1] > line[2:])) + 1
        np.testing.assert_array_equal((peaks - 30) * FINE_A, [-20.0, 20.0])
        side = density[:, 30, 42]  # 60 Å away
        sinks = 0 if curvature_A is None else curvature_A - (curvature_A**2 - 60.0**2) ** 0.5
        middle = (side * (np.arange(60) - 30)).sum() / side.sum() * FINE_A
        assert middle == pytest.approx(-sinks, abs=2 + 0.1 * sinks)

    def test_a_filament_runs_along_z(self) -> None:
        density = fine()["filament of 60 Å"].density
        assert density[45, 30, 30] > 0.3  # 75 Å up
        assert density[30, 45, 30] < 0.01
        np.testing.assert_allclose(density, density.transpose(0, 2, 1), atol=1e-6)

    def test_kinds(self) -> None:
        kinds = {h.kind for h in fine().values()}
        assert kinds == {"sphere", "shell", "membrane", "filament", "edge"}


class TestProteins:
    def test_centred_finite_and_unique(self) -> None:
        assert len({h.name for h in usual()}) == len(usual()) >= 15
        for h in usual():
            assert h.kind == "protein"
            assert h.density.shape == (BOX, BOX, BOX)
            assert np.isfinite(h.density).all()
            centre = np.array(ndimage.center_of_mass(h.density.clip(0)))
            assert np.abs(centre - BOX // 2).max() < 0.3, h.name

    def test_a_seed_gives_the_same_pieces_and_another_gives_others(self) -> None:
        same, other = proteins(BOX, VOXEL_A), proteins(BOX, VOXEL_A, seed=5)
        changed = 0
        for a, b, c in zip(usual(), same, other, strict=True):
            np.testing.assert_array_equal(a.density, b.density)
            changed += not np.allclose(a.density, c.density, atol=0.02)
            assert ("piece" in a.name) or np.array_equal(a.density, c.density)
        assert changed >= 8

    def test_pieces_have_about_their_mass(self) -> None:
        """Of pieces of one structure, 700 kDa have more than twice the density of 150."""
        mass = {h.name: float(h.density.sum()) for h in usual()}
        for whole, small, large in (
            ("spliceosome", 150, 700),
            ("ribosome_80s", 150, 700),
            ("tric", 100, 450),
        ):
            ratio = mass[f"protein piece {whole}/{large} kDa"]
            ratio /= mass[f"protein piece {whole}/{small} kDa"]
            assert 0.6 * large / small < ratio < 1.7 * large / small

    def test_what_does_not_fit_is_left_out(self) -> None:
        names = {h.name for h in proteins(12, 10.0)}
        assert "protein ribosome_80s" not in names
        assert "protein ribosome_80s" in {h.name for h in usual()}
