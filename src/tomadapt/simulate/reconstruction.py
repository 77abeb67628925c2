"""Direct Fourier inversion: tilt images inserted as central slices, divided by their weights.

The tilt axis is y, so every ky is reconstructed alone in the (kz, kx) plane and by the same
weights: the whole inversion is one sparse matrix for each tilt geometry. For whole tomograms the
same slices, with the weights of a particle's box, are summed in real space plane by plane.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from tomadapt.errors import ConfigError

MEASURED_THRESHOLD = 0.1
"""Summed bilinear weight above which a Fourier voxel counts as measured. Lower values let voxels
through that a slice only brushes, and amplify what little it says; EMAN2 uses a similar cut."""


@dataclass(frozen=True)
class DirectFourierInversion:
    """The reconstruction operator of one tilt geometry.

    Attributes
    ----------
    n
        Side of the images and of the volume.
    matrix
        Sparse (n·n, t·n): from slices [tilt, kx] to the plane [kz, kx], weights divided out.
    measured
        (n, n) bool, [kz, kx] unshifted: the part of Fourier space that the tilts reached.
    order
        (n³,) indices that take [z, x, y] with the centre at 0 to [z, y, x] with it at n // 2.
    """

    n: int
    matrix: torch.Tensor
    measured: torch.Tensor
    order: torch.Tensor

    @classmethod
    def for_tilts(
        cls, tilt_angles_deg: torch.Tensor, n: int, device: torch.device | str = "cpu"
    ) -> DirectFourierInversion:
        """Build the operator: each slice point is spread bilinearly over its four neighbours.

        Parameters
        ----------
        tilt_angles_deg
            (t,) degrees about y.
        n
            Side in pixels, odd or even. The unpaired Nyquist row of an even side is left out, so
            that volumes are exactly real.
        device
            Where the operator shall live.
        """
        theta = torch.deg2rad(tilt_angles_deg.double().cpu())
        k = torch.fft.fftfreq(n, d=1 / n, dtype=torch.float64)
        reach = (n - 1) // 2  # highest frequency with a partner of opposite sign
        x = theta.cos()[:, None] * k[None, :]  # (t, n) in Fourier voxels
        z = theta.sin()[:, None] * k[None, :]
        column = torch.arange(x.numel()).view_as(x)
        rows, columns, weights = [], [], []
        for dz in (0, 1):
            for dx in (0, 1):
                z0, x0 = z.floor() + dz, x.floor() + dx
                weight = (1 - (z - z0).abs()) * (1 - (x - x0).abs())
                keep = (z0.abs() <= reach) & (x0.abs() <= reach) & (weight > 1e-9)
                keep &= (k.abs() <= reach)[None, :]
                row = (z0 % n) * n + (x0 % n)
                rows.append(row[keep].long())
                columns.append(column[keep])
                weights.append(weight[keep])
        row, col, weight = torch.cat(rows), torch.cat(columns), torch.cat(weights)
        total = torch.zeros(n * n, dtype=torch.float64).index_add_(0, row, weight)
        measured = total > MEASURED_THRESHOLD
        keep = measured[row]
        row, col, weight = row[keep], col[keep], weight[keep] / total[row[keep]]
        matrix = torch.sparse_coo_tensor(
            torch.stack([row, col]), weight.float(), (n * n, x.numel()), check_invariants=True
        )
        with warnings.catch_warnings():
            # A one-time notice that CSR tensors are in beta.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            csr = matrix.coalesce().to_sparse_csr()
            # MKL multiplies with 32-bit indices: others would be converted for every product.
            csr = torch.sparse_csr_tensor(
                csr.crow_indices().int(),
                csr.col_indices().int(),
                csr.values(),
                csr.shape,
                check_invariants=True,
            ).to(device)
        stored = torch.arange(n**3).view(n, n, n)  # [z, x, y]
        order = torch.fft.fftshift(stored.transpose(1, 2)).flatten()
        return cls(n, csr, measured.view(n, n).to(device), order.to(device))

    def __call__(self, slices: torch.Tensor) -> torch.Tensor:
        """Reconstruct volumes.

        Parameters
        ----------
        slices
            (b, t, n, n // 2 + 1) complex: half-transforms [kx, ky] of the tilt images, phases
            referred to the images' centres.

        Returns
        -------
        Tensor
            (b, n, n, n) float32, [z, y, x], centred on voxel n // 2. Scaled by √n so that unit
            white noise in the images comes out of order one.
        """
        b, t, n, half = slices.shape
        columns = torch.view_as_real(slices).view(b, t * n, half * 2)
        spectrum = torch.empty(b, n, n, half, dtype=torch.complex64, device=slices.device)
        planes = torch.view_as_real(spectrum).view(b, n * n, half * 2)
        for i in range(b):  # a sparse matrix has no batched product; one each beats transposing
            torch.mm(self.matrix, columns[i], out=planes[i])
        volume = torch.fft.irfftn(spectrum, s=(n, n, n), dim=(1, 2, 3))  # (b, z, x, y)
        volume = volume.flatten(1).index_select(1, self.order).view(b, n, n, n)  # (b, z, y, x)
        scaled: torch.Tensor = volume.mul_(n**0.5)
        return scaled

    def noise_amplitude(self) -> torch.Tensor:
        """Where in the box white noise of the images comes out stronger or weaker.

        Spreading a slice's points over neighbours in Fourier space weakens what is far from the
        centre in real space, across the tilt axis; averaging independent slices does so too.

        Returns
        -------
        Tensor
            (n, n) float32, [z, x], centred on n // 2: standard deviations relative to their mean
            over the central ball of radius n / 8.
        """
        n = self.n
        weights = self.matrix.cpu().to_dense().T.view(-1, n, n)  # a slice point's share, [kz, kx]
        variance = torch.zeros(n, n, dtype=torch.float64)
        for part in torch.split(weights, 256):
            variance += torch.fft.ifft2(part).abs().double().square().sum(dim=0)
        amplitude = torch.fft.fftshift(variance).sqrt()
        r = torch.arange(n) - n // 2
        middle = amplitude[(r[:, None] ** 2 + r**2).sqrt() <= n / 8].mean()
        relative: torch.Tensor = (amplitude / middle).float()
        return relative


FINE_SAMPLING_RATIO = 4
"""How much finer than pixels images are sampled across the tilt axis before they are interpolated
linearly; with the roll-off divided out, what aliases is 2 % at Nyquist."""


def slice_weights(
    tilt_angles_deg: torch.Tensor, k: torch.Tensor, *, thickness: int
) -> torch.Tensor:
    r"""Weight of each tilt's slice where slices of an object of this thickness overlap.

    The transform of an object of D voxels is smooth over 1 / D, so that a slice speaks for a layer
    of this thickness and shares it with the others that reach into it:
    :math:`1 / Σ_j Λ(D |k| \sin|θ_i − θ_j|)` with the triangle Λ (Harauz & van Heel 1986, Optik 73,
    146). Where slices overlap it grows with ``|k|`` as the ramp of filtered back-projection does;
    where they are farther apart than 1 / D it is 1, as in :class:`DirectFourierInversion` of a box
    of D voxels.

    Parameters
    ----------
    tilt_angles_deg
        (t,) degrees about y.
    k
        (p,) frequencies across the tilt axis in cycles per voxel.
    thickness
        D in voxels.

    Returns
    -------
    Tensor
        (t, p) float64, from 1 / t to 1.
    """
    theta = torch.deg2rad(tilt_angles_deg.double().cpu())
    apart = (theta[:, None] - theta[None, :]).sin().abs()
    distance = thickness * apart[:, :, None] * k.double().cpu().abs()
    shared: torch.Tensor = (1 - distance).clamp_min_(0).sum(dim=1)
    return shared.reciprocal_()


@dataclass(frozen=True)
class SlabInversion:
    """The reconstruction operator of one tilt geometry for a volume of any shape and size.

    A grid of a whole tomogram's frequencies is so fine that slices leave most of it unmeasured, and
    :class:`DirectFourierInversion` on it would lose what particles have at high frequencies. Here
    slices have the weights of a particle's box, and their sum is taken in real space (weighted
    back-projection): nothing comes back on the other side, and one plane is in memory at a time.

    Attributes
    ----------
    shape
        (nz, ny, nx) of the volume; the tilt axis passes voxel n // 2 along z and x.
    tilts
        (t,) radians, float64.
    n
        Side of the periodic tilt images: ``2 reach`` and ``ny`` at least. What the images hold
        beyond the volume, and what the filter spreads by some thickness, comes back on the other
        side where ``n`` has no room for it.
    filters
        (t, n) float32: what the images' frequencies are multiplied by across the tilt axis.
    reach
        How far from the tilt axis, in pixels, images are needed.
    """

    shape: tuple[int, int, int]
    tilts: torch.Tensor
    n: int
    filters: torch.Tensor
    reach: int

    @staticmethod
    def reach_of(tilt_angles_deg: torch.Tensor, shape: tuple[int, int, int]) -> int:
        """How far from the tilt axis the volume's projections reach, in pixels."""
        theta = torch.deg2rad(tilt_angles_deg.double().cpu())
        # The first voxel is farther from the axis than the last, or as far.
        farthest = shape[2] // 2 * theta.cos().abs() + shape[0] // 2 * theta.sin().abs()
        return math.ceil(float(farthest.max())) + 1

    @classmethod
    def for_tilts(
        cls,
        tilt_angles_deg: torch.Tensor,
        shape: tuple[int, int, int],
        *,
        n: int,
        thickness: int,
        device: torch.device | str = "cpu",
    ) -> SlabInversion:
        """Prepare the filters.

        Parameters
        ----------
        tilt_angles_deg
            (t,) degrees about y.
        shape
            (nz, ny, nx) voxels, odd or even.
        n
            Side of the tilt images, odd or even.
        thickness
            Of the objects to be reconstructed, in voxels; see :func:`slice_weights`.
        device
            Where the operator shall live.

        Raises
        ------
        ConfigError
            When the images do not cover the volume's projections.
        """
        reach = cls.reach_of(tilt_angles_deg, shape)
        if n < max(2 * reach, shape[1]):
            raise ConfigError(
                "tilt images are too small for the volume to be reconstructed",
                expected=f"a side of at least {max(2 * reach, shape[1])} pixels",
                got=n,
                remedy="make images of the whole volume",
            )
        k = torch.fft.fftfreq(n, dtype=torch.float64)
        weights = slice_weights(tilt_angles_deg, k, thickness=thickness) / thickness
        # Linear interpolation rolls off with sinc², the longer inverse transform divides by more.
        weights = weights / torch.sinc(k / FINE_SAMPLING_RATIO).square() * FINE_SAMPLING_RATIO
        if n % 2 == 0:
            weights[:, n // 2] = 0  # the unpaired Nyquist row
        tilts = torch.deg2rad(tilt_angles_deg.double()).to(device)
        return cls(shape, tilts, n, weights.float().to(device), reach)

    @property
    def rows(self) -> int:
        """Samples of a filtered image across the tilt axis."""
        return 2 * self.reach * FINE_SAMPLING_RATIO

    def __call__(
        self,
        half_transforms: Iterable[torch.Tensor],
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Reconstruct a volume: of the images' transforms and of the volume, one part at a time.

        Parameters
        ----------
        half_transforms
            One (n, n // 2 + 1) complex for each tilt, in order: [kx, ky], phases referred to the
            image's centre.
        progress
            Told of each tilt and of each plane.

        Returns
        -------
        (nz, ny, nx) float32, [z, y, x]: projections of a density come back as that density.
        """
        tilts, (nz, ny, _) = len(self.tilts), self.shape
        images = torch.empty(tilts, self.rows, ny, device=self.tilts.device)
        for tilt, half_transform in zip(range(tilts), half_transforms, strict=True):
            images[tilt] = self.filtered(tilt, half_transform)
            progress(1)
        volume = np.empty(self.shape, np.float32)
        for z in range(nz):
            volume[z] = self.plane(images, z).cpu().numpy()
            progress(1)
        return volume

    def filtered(self, tilt: int, half_transform: torch.Tensor) -> torch.Tensor:
        """Filter one tilt's image and sample it finely across the tilt axis.

        Parameters
        ----------
        tilt
            Its index.
        half_transform
            (n, n // 2 + 1) complex, [kx, ky], phases referred to the centre.

        Returns
        -------
        Tensor
            (rows, ny) float32, [x, y].
        """
        n, ny = self.n, self.shape[1]
        positive, negative = (n + 1) // 2, n // 2
        fine = half_transform.new_zeros(FINE_SAMPLING_RATIO * n, half_transform.shape[1])
        fine[:positive] = half_transform[:positive] * self.filters[tilt, :positive, None]
        fine[-negative:] = half_transform[-negative:] * self.filters[tilt, -negative:, None]
        along_x = torch.fft.ifft(fine, dim=0)
        half = self.rows // 2
        kept = torch.cat([along_x[-half:], along_x[:half]])
        image: torch.Tensor = torch.fft.irfft(kept, n=n, dim=1)
        columns = (torch.arange(ny, device=image.device) - ny // 2) % n
        return image[:, columns]

    def plane(self, images: torch.Tensor, z: int) -> torch.Tensor:
        """One plane of the volume.

        Parameters
        ----------
        images
            (t, rows, ny) from :meth:`filtered`, contiguous.
        z
            Its index.

        Returns
        -------
        Tensor
            (ny, nx) float32.
        """
        nz, ny, nx = self.shape
        x = torch.arange(nx, device=self.tilts.device) - nx // 2
        in_image = x[:, None] * self.tilts.cos() + (z - nz // 2) * self.tilts.sin()  # (nx, t)
        sample = (in_image + self.reach) * FINE_SAMPLING_RATIO
        lower = sample.floor()
        upper_weight = (sample - lower).float()
        first = lower.long() + torch.arange(len(self.tilts), device=x.device) * self.rows
        # A bag is a weighted sum of rows: here of two neighbours of each tilt.
        plane: torch.Tensor = embedding_bag(
            torch.stack([first, first + 1], dim=-1).flatten(1),
            images.view(-1, ny),
            per_sample_weights=torch.stack([1 - upper_weight, upper_weight], dim=-1).flatten(1),
            mode="sum",
        )
        return plane.T
