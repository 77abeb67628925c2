"""Give a source's noise the power spectrum of a target, before a model is trained on it.

Most of a subtomogram's power is noise. Detectors, ice, neighbours and reconstruction programs shape
its spectrum, while simulated noise is shaped by the optics alone. A network would learn from this
difference. The signal stays as it was simulated. (Filtering the target instead would also change
the signal of its particles.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import (
    Indices,
    LabelledSubtomograms,
    MixableSource,
    SourceDefaults,
    Subtomograms,
)
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.fsc import shell_numbers

_SAMPLED_PARTICLES = 400
"""About how many particles the power is measured on, spread over all of them."""
_BATCH = 32


@dataclass(frozen=True)
class RecolouredVolumes(SourceDefaults):
    """A simulated source whose noise is multiplied with a filter in Fourier space.

    Attributes
    ----------
    inner
        The source.
    amplitudes
        (d, d, d // 2 + 1) float32, unshifted; the filter keeps the noise's variance.
    snr
        The SNR at which :meth:`read` mixes signal and noise.
    """

    inner: MixableSource
    amplitudes: torch.Tensor
    snr: float

    def __len__(self) -> int:
        """Give the number of cubes."""
        return len(self.inner)

    @property
    def box(self) -> int:
        """Side in voxels."""
        return self.inner.box

    @property
    def voxel_size_A(self) -> float:
        """Voxel size in Å."""
        return self.inner.voxel_size_A

    @property
    def mixable(self) -> MixableSource:
        """The source itself."""
        return self

    @property
    def acquisition(self) -> Acquisition | None:
        """The acquisition that was simulated."""
        return self.inner.acquisition

    @property
    def identity(self) -> str:
        """The source's, the filter's along one axis, and the SNR."""
        return f"{self.inner.identity} {self.amplitudes[0, 0].tolist()} {self.snr}"

    def mix(self, indices: Indices, noise_indices: Indices, snr: torch.Tensor) -> torch.Tensor:
        """As :class:`~tomadapt.data.subtomograms.MixableSource` says, the noise recoloured."""
        signal = self.inner.mix(indices, indices, torch.full_like(snr, torch.inf))
        noise = self.inner.mix(indices, noise_indices, torch.ones_like(snr)).sub_(signal)
        spectrum = torch.fft.rfftn(noise, dim=(1, 2, 3)).mul_(self.amplitudes)
        noise = torch.fft.irfftn(spectrum, s=noise.shape[1:], dim=(1, 2, 3))
        return signal.add_(noise.mul_(snr.rsqrt()[:, None, None, None]))

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32, density positive, at this source's SNR."""
        return self.mix(indices, indices, torch.full((len(indices),), self.snr))


def recoloured(
    source: LabelledSubtomograms,
    target: Subtomograms,
    *,
    snr: float,
    noise_share: NDArray[np.float64] | None = None,
) -> tuple[LabelledSubtomograms, NDArray[np.float64]]:
    """A source whose noise has the mean power spectrum of a target, shell by shell.

    Parameters
    ----------
    source
        Simulated particles, whose signal and noise are kept apart.
    target
        Particles of the same box.
    snr
        SNR at which the source is read by default.
    noise_share
        (d // 2 + 1,) the part of the target's power in each shell that is noise. All of it when
        None, since most of it is.

    Returns
    -------
    source
        The same particles and labels.
    amplitudes
        (d // 2 + 1,) factor of the noise in each shell.

    Raises
    ------
    ConfigError
        When signal and noise of the source are not kept apart.
    MismatchError
        When the boxes differ.
    """
    if source.box != target.box:
        raise MismatchError(
            "noise of another box cannot be recoloured",
            expected=f"{source.box} voxels (source)",
            got=f"{target.box} voxels (target)",
            remedy="extract the target with the source's box",
        )
    inner = source.source.mixable
    if inner is None:
        raise ConfigError(
            "the source does not keep signal and noise apart",
            expected="a simulated set",
            remedy="train without recolouring its noise",
        )
    found, wanted = _noise_power(inner, source.rows), _power(target)
    wanted *= 1.0 if noise_share is None else noise_share
    amplitudes = np.sqrt(wanted / np.maximum(found, np.finfo(float).tiny))
    amplitudes[0] = amplitudes[1]  # cubes have mean 0
    shell = shell_numbers(source.box, half=True)
    # Shells beyond Nyquist hold no power in either; they get the factor of the last shell.
    whole = amplitudes[np.minimum(shell, len(amplitudes) - 1)]
    voxels = np.bincount(np.minimum(shell, len(found) - 1).ravel(), _twice(source.box).ravel())
    scale = np.sqrt((voxels * found).sum() / (voxels * found * amplitudes**2).sum())
    volumes = RecolouredVolumes(inner, torch.from_numpy((whole * scale).astype(np.float32)), snr)
    labels = np.zeros(len(inner), dtype=np.int64)
    labels[source.rows] = source.labels
    data = LabelledSubtomograms(volumes, source.rows, labels=labels, class_names=source.class_names)
    return data, amplitudes * scale


def own_snr(data: Subtomograms) -> float:
    """The SNR at which particles are read; 1 for a source without a stated SNR."""
    return 1.0 if data.snr is None else data.snr


def _twice(d: int) -> NDArray[np.float64]:
    """(d, d, d // 2 + 1): how many frequencies each stored one stands for."""
    count = np.full((d, d, d // 2 + 1), 2.0)
    count[..., 0] = 1
    if d % 2 == 0:
        count[..., -1] = 1
    return count


def _shell_means(cubes: torch.Tensor) -> NDArray[np.float64]:
    """(d // 2 + 1,) mean power in shells of cubes (b, d, d, d)."""
    d = cubes.shape[-1]
    shell, weight = shell_numbers(d, half=True), _twice(d)
    power = torch.fft.rfftn(cubes, dim=(1, 2, 3)).abs().square().mean(dim=0).numpy()
    inside = shell <= d // 2
    sums = np.bincount(shell[inside], (power * weight)[inside], minlength=d // 2 + 1)
    return np.asarray(sums / np.bincount(shell[inside], weight[inside], minlength=d // 2 + 1))


def _some(count: int) -> list[NDArray[np.int64]]:
    rows = np.arange(0, count, max(1, count // _SAMPLED_PARTICLES))
    return np.array_split(rows, -(-len(rows) // _BATCH))


def _power(data: Subtomograms) -> NDArray[np.float64]:
    """Mean power in shells up to Nyquist, of cubes with mean 0 and deviation 1."""
    parts = [_shell_means(data.read(rows)) for rows in _some(len(data))]
    return np.asarray(np.mean(parts, axis=0))


def _noise_power(source: MixableSource, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean power of a source's unit noise alone."""
    parts = []
    for places in _some(len(rows)):
        here, one = rows[places], torch.ones(len(places))
        noise = source.mix(here, here, one) - source.mix(here, here, one * torch.inf)
        parts.append(_shell_means(noise))
    return np.asarray(np.mean(parts, axis=0))
