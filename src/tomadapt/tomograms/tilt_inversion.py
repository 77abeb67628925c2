"""Direct Fourier inversion of images in any directions that were multiplied by what they weigh.

Each image is a central slice of its particle's transform (Crowther et al. 1970); slices are summed
in three dimensions as they are, and divided by the sum of their squared amplitudes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tomadapt.simulate.reconstruction import MEASURED_THRESHOLD

Doubles = NDArray[np.float64]
Complexes = NDArray[np.complex128]

REGULARISATION = 0.03
"""What is added to the summed squared amplitudes, as a fraction of their mean over what was
measured. It stands for the ratio of noise to signal in a Wiener filter, the same at all
frequencies, and keeps zeros of the contrast transfer from being divided by."""


@dataclass(frozen=True, eq=False)
class SliceInversion:
    """The reconstruction operator of one set of directions.

    Attributes
    ----------
    n
        Side of the images and of the volume.
    matrix
        Sparse (n · n · (n // 2 + 1), t · n · n): from images' transforms [tilt, ky, kx] to sums of
        the volume's [kz, ky, kx ≥ 0], both unshifted.
    """

    n: int
    matrix: csr_array

    @classmethod
    def for_projections(cls, projections: Doubles, n: int) -> SliceInversion:
        """Build the operator: each point of a slice is spread trilinearly over its neighbours.

        Parameters
        ----------
        projections
            (t, 3, 3) from the volume's x, y, z to each image's x, y and its beam.
        n
            Side in pixels, odd or even. Frequencies from Nyquist on are left out, so that volumes
            are exactly real, and corners of the images, so that no direction has more detail.
        """
        reach = (n - 1) // 2
        k = np.fft.fftfreq(n, 1 / n)
        ky, kx = np.meshgrid(k, k, indexing="ij")
        inside = (np.hypot(ky, kx) <= reach).ravel()
        flat = np.stack([kx.ravel()[inside], ky.ravel()[inside]], axis=1)
        # An image's frequency lies where the plane of the image cuts through the volume's.
        points = flat @ projections[:, :2]  # (t, p, 3) x, y, z
        column = np.arange(len(projections))[:, None] * n * n + np.flatnonzero(inside)
        low = np.floor(points).astype(np.int64)
        part = points - low
        half = n // 2 + 1
        rows, columns, weights = [], [], []
        for corner in itertools.product((0, 1), repeat=3):
            weight = np.where(corner, part, 1 - part).prod(axis=2)
            x, y, z = np.moveaxis(low + corner, 2, 0)
            # Points of opposite frequency fill the other half, which irfftn does not ask for.
            keep = (weight > 1e-9) & (x >= 0) & (x <= reach)
            keep &= (np.abs(y) <= reach) & (np.abs(z) <= reach)
            rows.append(((z % n * n + y % n) * half + x)[keep])
            columns.append(column[keep])
            weights.append(weight[keep])
        entries = (np.concatenate(rows), np.concatenate(columns))
        shape = (n * n * half, len(projections) * n * n)
        return cls(n, csr_array((np.concatenate(weights), entries), shape=shape))

    def __call__(
        self, images: NDArray[np.floating], amplitudes: Doubles, *, shift: Doubles | None = None
    ) -> NDArray[np.float32]:
        r"""Reconstruct one particle.

        .. math:: F = \frac{\sum_i w_i I_i}{\sum_i w_i c_i^2 + ε}

        with the trilinear weights w, the stored images' transforms :math:`I = c^2 P` plus noise,
        and ε = :data:`REGULARISATION` times the mean of the sum before it.

        Parameters
        ----------
        images
            (t, n, n), [y, x], already multiplied by the amplitudes, the particle at ``n // 2``.
        amplitudes
            (t, n, n), [ky, kx], unshifted. Images for which all of them are 0 are left out: what
            only they reach counts as not measured, and stays empty.
        shift
            (3,) x, y, z in voxels: where the particle lies from the images' common centre. It
            comes to the volume's.

        Returns
        -------
        ndarray
            (n, n, n) float32, [z, y, x], centred on voxel ``n // 2``; projections of a density
            come back as that density.
        """
        sums, _, regular = self._sums(images, amplitudes)
        return self._volume(sums / regular, shift)

    def whitened(
        self, images: NDArray[np.floating], amplitudes: Doubles, *, shift: Doubles | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        r"""Reconstruct one particle with noise that is equally strong wherever it was measured.

        The noise of :math:`\sum_i w_i I_i` has a variance of about :math:`W = \sum_i w_i c_i^2`, so
        that sum is divided by :math:`\sqrt{W + ε}` alone. The particle is let through by
        :math:`W / \sqrt{W + ε}`: that is what a likelihood needs to know, and dividing by the rest
        would only raise the noise of what was hardly measured.

        Parameters
        ----------
        images, amplitudes, shift
            As for a call.

        Returns
        -------
        volume
            (n, n, n) float32, [z, y, x].
        transfer
            (n, n, n // 2 + 1) float32, [kz, ky, kx ≥ 0], unshifted; 0 where nothing was measured.
        """
        sums, weights, regular = self._sums(images, amplitudes)
        root = np.sqrt(regular)
        shape = (self.n, self.n, self.n // 2 + 1)
        return self._volume(sums / root, shift), (weights / root).reshape(shape).astype(np.float32)

    def _sums(
        self, images: NDArray[np.floating], amplitudes: Doubles
    ) -> tuple[Complexes, Doubles, Doubles]:
        """The summed slices, their summed squared amplitudes, and those plus ε, all flat."""
        spectra = np.fft.fft2(np.fft.ifftshift(images, axes=(1, 2)).astype(np.float64))
        used = np.broadcast_to(amplitudes.any(axis=(1, 2), keepdims=True), amplitudes.shape)
        spectra = np.where(used, spectra, 0)
        stacked = [spectra.real, spectra.imag, np.square(amplitudes), used]
        columns = np.stack([part.ravel() for part in stacked], axis=1, dtype=np.float64)
        real, imaginary, weights, reached = (self.matrix @ columns).T
        measured = reached > MEASURED_THRESHOLD
        regular = weights + REGULARISATION * weights[measured].mean()
        sums = np.where(measured, real + 1j * imaginary, 0)
        return sums, np.where(measured, weights, 0), regular

    def _volume(self, spectrum: Complexes, shift: Doubles | None) -> NDArray[np.float32]:
        n = self.n
        spectrum = spectrum.reshape(n, n, n // 2 + 1)
        if shift is not None and np.any(shift):
            spectrum = spectrum * self._phases(np.asarray(shift))
        volume = np.fft.irfftn(spectrum, s=(n, n, n), axes=(0, 1, 2))
        return np.fft.fftshift(volume).astype(np.float32)

    def _phases(self, shift: Doubles) -> Complexes:
        """What moves a volume back by a shift."""
        turns = 2j * np.pi / self.n * np.asarray(shift)
        k = np.fft.fftfreq(self.n, 1 / self.n)
        x = np.exp(turns[0] * np.arange(self.n // 2 + 1))
        y, z = np.exp(turns[1] * k), np.exp(turns[2] * k)
        return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])
