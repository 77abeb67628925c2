"""Recolouring: the noise takes the target's spectrum, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import (
    Indices,
    LabelledSubtomograms,
    MixableSource,
    SourceDefaults,
    Subtomograms,
)
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.learn.recolouring import recoloured


@dataclass(frozen=True)
class Apart(SourceDefaults):
    """Signal and noise in memory."""

    signal: torch.Tensor
    noise: torch.Tensor
    voxel_size_A: float = 10.0
    acquisition: Acquisition | None = None
    identity: str = "apart"
    snr: float = 1.0

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def box(self) -> int:
        return self.signal.shape[-1]

    @property
    def mixable(self) -> MixableSource:
        return self

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        amplitude = snr.rsqrt()[:, None, None, None]
        return self.signal[np.asarray(indices)] + self.noise[np.asarray(noise_indices)] * amplitude

    def read(self, indices: Indices) -> torch.Tensor:
        return self.mix(indices, indices, torch.full((len(indices),), self.snr))


def coloured(count: int, box: int, slope: float, seed: int) -> torch.Tensor:
    """Noise whose amplitude falls with frequency as exp(−slope · k / Nyquist)."""
    white = torch.randn(count, box, box, box, generator=torch.Generator().manual_seed(seed))
    k, half = torch.fft.fftfreq(box), torch.fft.rfftfreq(box)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + half**2).sqrt() * 2
    spectrum = torch.fft.rfftn(white, dim=(1, 2, 3)) * torch.exp(-slope * radius)
    return torch.fft.irfftn(spectrum, s=(box,) * 3, dim=(1, 2, 3))


def source(box: int, slope: float = 0.0) -> LabelledSubtomograms:
    noise = coloured(40, box, slope, seed=1)
    signal = torch.zeros_like(noise)
    signal[:, box // 2, box // 2, box // 2] = torch.arange(40.0)
    return LabelledSubtomograms(
        Apart(signal, noise / noise.std()), labels=np.arange(40) % 2, class_names=("a", "b")
    )


def target(box: int, slope: float) -> Subtomograms:
    return Subtomograms(ArrayVolumes(coloured(50, box, slope, seed=2).numpy(), 10.0))


def spectrum(cubes: torch.Tensor) -> np.ndarray:
    """Power at whole frequencies along the axes, relative to their mean."""
    power = torch.fft.rfftn(cubes, dim=(1, 2, 3)).abs().square().mean(dim=0).numpy()
    n = cubes.shape[-1] // 2
    axes = np.stack([power[1:n, 0, 0], power[0, 1:n, 0], power[0, 0, 1:n]])
    return axes.mean(axis=0) / axes.mean()


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("slope", [0.0, 1.5])
def test_the_targets_spectrum(box: int, slope: float) -> None:
    data, amplitudes = recoloured(source(box, slope=0.3), target(box, slope), snr=0.5)
    rows, one = np.arange(40), torch.ones(40)
    signal = data.source.mix(rows, rows, one * torch.inf)  # type: ignore[attr-defined]
    noise = data.source.mix(rows, rows, one) - signal  # type: ignore[attr-defined]
    wanted = spectrum(target(box, slope).read(range(50)))
    np.testing.assert_allclose(spectrum(noise), wanted, rtol=0.35, atol=0.02)
    assert np.corrcoef(np.log(spectrum(noise)), np.log(wanted))[0, 1] > (0.98 if slope else -1)
    # The SNR means what it meant: the noise has the variance that it had.
    assert float(noise.var()) == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(signal, data.source.inner.signal)  # type: ignore[attr-defined]
    assert amplitudes.shape == (box // 2 + 1,)


def test_the_part_of_the_spectrum_that_is_noise() -> None:
    share = np.linspace(0.2, 1.0, 13)
    whole = recoloured(source(24), target(24, 1.5), snr=0.5)[1]
    noise = recoloured(source(24), target(24, 1.5), snr=0.5, noise_share=share)[1]
    ratio = (noise / whole)[1:] / np.sqrt(share)[1:]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_labels_and_snr_stay() -> None:
    whole = source(24)
    part = whole.subset([5, 2, 9])
    data, _ = recoloured(part, target(24, 1.0), snr=0.25)
    assert data.labels.tolist() == [1, 0, 1]
    assert data.rows.tolist() == [5, 2, 9]
    cubes = data.source.read(np.array([5]))
    mixed = data.source.mix([5], [5], torch.tensor([0.25]))  # type: ignore[attr-defined]
    torch.testing.assert_close(cubes, mixed)
    assert data.fingerprint != part.fingerprint
    assert data.fingerprint != recoloured(part, target(24, 0.5), snr=0.25)[0].fingerprint


def test_what_cannot_be_recoloured() -> None:
    with pytest.raises(MismatchError, match="24 voxels"):
        recoloured(source(24), target(26, 1.0), snr=1)
    mixed = LabelledSubtomograms(
        target(24, 0.0).source, labels=np.zeros(50, int), class_names=("a",)
    )
    with pytest.raises(ConfigError, match="apart"):
        recoloured(mixed, target(24, 1.0), snr=1)
