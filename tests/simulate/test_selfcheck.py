"""The self-check passes on sound physics, and each of its checks fails on broken physics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import tomadapt.simulate.simulator as simulator_module
from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition, tilt_range
from tomadapt.simulate import optics, selfcheck
from tomadapt.simulate.reconstruction import DirectFourierInversion
from tomadapt.simulate.selfcheck import Check
from tomadapt.simulate.simulator import Simulator

OF_OPTICS = ["check_snr", "check_thon_rings", "check_parseval"]
OF_GEOMETRY = [
    "check_empty_wedge",
    "check_full_signal",
    "check_reconstruction",
    "check_projection",
    "check_pose",
]
COARSE = BATCH_A.model_copy(update={"tilt_angles_deg": tilt_range(-60, 60, 4)})
"""Fewer tilts suffice in the small box of the tests that break physics."""


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def run(name: str, acquisition: Acquisition = COARSE, *, box: int = 24) -> Check:
    check: Callable[..., Check] = getattr(selfcheck, name)
    return check(acquisition, box=box, voxel_size_A=9.2, seed=0)


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("name", OF_OPTICS)
@pytest.mark.parametrize("acquisition", [BATCH_A, BATCH_B], ids=lambda a: a.name)
def test_checks_of_optics_pass(acquisition: Acquisition, name: str, box: int) -> None:
    check = run(name, acquisition, box=box)
    assert check.passed, check


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("name", OF_GEOMETRY)
def test_checks_of_geometry_pass(name: str, box: int) -> None:
    check = run(name, BATCH_A, box=box)
    assert check.passed, check


def test_geometry_is_checked_without_optics_so_once_for_both_batches() -> None:
    a, b = (
        selfcheck._without_optics(acquisition).model_dump(exclude={"name"})
        for acquisition in (BATCH_A, BATCH_B)
    )
    assert a == b


def test_all_checks_are_run_and_pass_on_a_lopsided_tilt_range() -> None:
    # In the smallest box the pose check once gave false alarms: 5° was too little to be seen.
    lopsided = BATCH_B.model_copy(update={"tilt_angles_deg": tilt_range(-50, 70, 3)})
    checks = selfcheck.run_checks(lopsided, box=24, voxel_size_A=9.2)
    assert ["check_" + check.name for check in checks] == [
        *OF_OPTICS[:2],
        *OF_GEOMETRY,
        OF_OPTICS[2],
    ]
    assert [check for check in checks if not check.passed] == []


def test_nan_and_values_beyond_the_bounds_do_not_pass() -> None:
    assert Check("", "", 1.0, 1.0, 2.0).passed
    for measured in (float("nan"), 0.99, 2.01, float("inf")):
        assert not Check("", "", measured, 1.0, 2.0).passed


def test_a_ctf_without_zeros_has_nothing_to_check() -> None:
    """Regression: an acquisition whose first zero lies beyond Nyquist failed the self-check."""
    check = run("check_thon_rings", Acquisition(defocus_um=0.5))
    assert check.passed
    assert "nothing to check" in check.claim


# --- physics broken on purpose

Patch = pytest.MonkeyPatch


def noise_too_strong(patch: Patch) -> None:
    draw = simulator_module.draw_noise
    patch.setattr(simulator_module, "draw_noise", lambda *a, **k: 1.2 * draw(*a, **k))


def signal_too_strong(patch: Patch) -> None:
    original = Simulator.tilt_images

    def louder(self: Simulator, *args: Any) -> simulator_module.TiltImages:
        images = original(self, *args)
        return simulator_module.TiltImages(
            1.2 * images.signal, images.noise, images.variance_ratio, images.scale
        )

    patch.setattr(Simulator, "tilt_images", louder)


def wrong_defocus(patch: Patch) -> None:
    right = optics.contrast_transfer

    def wrong(acquisition: Acquisition, **grid: Any) -> torch.Tensor:
        defocus = 1.1 * acquisition.defocus_um
        return right(acquisition.model_copy(update={"defocus_um": defocus}), **grid)

    patch.setattr(optics, "contrast_transfer", wrong)


def no_ctf(patch: Patch) -> None:
    patch.setattr(optics, "contrast_transfer", lambda _, *, n, pixel_size_A: torch.ones(n, n))


def wedge_filled(patch: Patch) -> None:
    right = DirectFourierInversion.__call__

    def filled(self: DirectFourierInversion, slices: torch.Tensor) -> torch.Tensor:
        volume = right(self, slices)
        grain = torch.randn(volume.shape, generator=torch.Generator().manual_seed(0))
        return volume + 0.02 * volume.std() * grain

    patch.setattr(DirectFourierInversion, "__call__", filled)


def wedge_on_the_other_axis(patch: Patch) -> None:
    right = DirectFourierInversion.__call__
    patch.setattr(
        DirectFourierInversion,
        "__call__",
        lambda self, slices: right(self, slices).transpose(1, 3).contiguous(),
    )


def tilts_stretched(patch: Patch) -> None:
    right = DirectFourierInversion.for_tilts
    patch.setattr(
        DirectFourierInversion,
        "for_tilts",
        staticmethod(lambda tilts, *a, **k: right(1.2 * tilts, *a, **k)),
    )


def weights_not_divided_out(patch: Patch) -> None:
    right = DirectFourierInversion.__call__

    def envelope(self: DirectFourierInversion, slices: torch.Tensor) -> torch.Tensor:
        # Without weighting, |k| is as often sampled as its circle is short: 1 / |k|.
        n = self.n
        k = torch.fft.fftfreq(n, 1 / n)
        weight = torch.hypot(k[:, None], k[None, :]).clamp_min(1)[:, None, :]
        return torch.fft.ifftn(
            torch.fft.fftn(right(self, slices), dim=(1, 2, 3)) / weight, dim=(1, 2, 3)
        ).real

    patch.setattr(DirectFourierInversion, "__call__", envelope)


def slices_with(change: Callable[..., tuple[torch.Tensor, ...]]) -> Callable[[Patch], None]:
    """Central slices of changed (rotations, shifts, tilts)."""

    def apply(patch: Patch) -> None:
        right = simulator_module.central_slices

        def wrong(
            transform: torch.Tensor,
            rotations: torch.Tensor,
            shifts: torch.Tensor,
            tilts: torch.Tensor,
            grid: Any,
        ) -> torch.Tensor:
            return right(transform, *change(rotations, shifts, tilts), grid)

        patch.setattr(simulator_module, "central_slices", wrong)

    return apply


rotation_transposed = slices_with(lambda r, s, t: (r.mT.contiguous(), s, t))
tilt_sign_flipped = slices_with(lambda r, s, t: (r, s, -t))
shift_reversed = slices_with(lambda r, s, t: (r, -s, t))
shift_forgotten = slices_with(lambda r, s, t: (r, 0 * s, t))


def mass_lost(patch: Patch) -> None:
    right = simulator_module.template_transform
    patch.setattr(simulator_module, "template_transform", lambda d: 0.95 * right(d))


def half_plane_counted_once(patch: Patch) -> None:
    right = Simulator.slice_variance
    patch.setattr(Simulator, "slice_variance", lambda self, s: 0.5 * right(self, s))


@pytest.mark.parametrize(
    ("name", "breakages"),
    [
        ("check_snr", [noise_too_strong, signal_too_strong]),
        ("check_thon_rings", [wrong_defocus, no_ctf]),
        ("check_empty_wedge", [wedge_filled, wedge_on_the_other_axis, tilts_stretched]),
        ("check_full_signal", [weights_not_divided_out]),
        (
            "check_reconstruction",
            [rotation_transposed, tilt_sign_flipped, shift_reversed, tilts_stretched],
        ),
        (
            "check_projection",
            [rotation_transposed, tilt_sign_flipped, shift_reversed, shift_forgotten],
        ),
        ("check_pose", [rotation_transposed]),
        ("check_parseval", [mass_lost, half_plane_counted_once]),
    ],
)
def test_each_check_fails_on_broken_physics(
    name: str, breakages: list[Callable[[Patch], None]]
) -> None:
    assert run(name).passed
    for breakage in breakages:
        with pytest.MonkeyPatch.context() as patch:
            breakage(patch)
            check = run(name)
        assert not check.passed, (breakage.__name__, check)
