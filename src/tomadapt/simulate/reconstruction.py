"""Reconstruction: direct Fourier inversion of boxes, weighted back-projection of whole tomograms.

Direct Fourier inversion inserts the tilt images' transforms as central slices, and divides by the
summed weights. Since the tilt axis is y, every ky is reconstructed alone in its (kz, kx) plane,
with the same weights for all ky: the inversion is one sparse matrix for each tilt geometry. For
whole tomograms the same slices get the weights of a particle's box, and are summed in real space,
one plane at a time.
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
"""Summed bilinear weight above which a Fourier voxel counts as measured. A lower threshold would
amplify small, noisy values of voxels at the edge of a slice; EMAN2 uses a similar cut."""


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
        (n³,) indices that reorder a volume from [z, x, y] with its centre at voxel 0 to [z, y, x]
        with its centre at voxel n // 2.
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
            Side in pixels, odd or even. For an even side the unpaired Nyquist row is left out, so
            that volumes are exactly real.
        device
            Where to keep the operator.
        """
        theta = torch.deg2rad(tilt_angles_deg.double().cpu())
        k = torch.fft.fftfreq(n, d=1 / n, dtype=torch.float64)
        reach = (n - 1) // 2  # highest frequency with a partner of opposite sign
        # Point k of a tilt's slice lies at (x, z) in the (kx, kz) plane, in Fourier voxels.
        x = theta.cos()[:, None] * k[None, :]  # (t, n)
        z = theta.sin()[:, None] * k[None, :]  # (t, n)
        column = torch.arange(x.numel()).view_as(x)  # (t, n): the matrix column of each point
        rows, columns, weights = [], [], []
        for dz in (0, 1):
            for dx in (0, 1):
                z0, x0 = z.floor() + dz, x.floor() + dx  # one of the four neighbours, (t, n) each
                weight = (1 - (z - z0).abs()) * (1 - (x - x0).abs())  # bilinear
                keep = (z0.abs() <= reach) & (x0.abs() <= reach) & (weight > 1e-9)
                keep &= (k.abs() <= reach)[None, :]
                row = (z0 % n) * n + (x0 % n)  # the matrix row: [kz, kx], unshifted
                rows.append(row[keep].long())
                columns.append(column[keep])
                weights.append(weight[keep])
        row, col, weight = torch.cat(rows), torch.cat(columns), torch.cat(weights)  # (entries,)
        total = torch.zeros(n * n, dtype=torch.float64).index_add_(0, row, weight)
        measured = total > MEASURED_THRESHOLD  # (n n,)
        keep = measured[row]
        row, col, weight = row[keep], col[keep], weight[keep] / total[row[keep]]
        matrix = torch.sparse_coo_tensor(
            torch.stack([row, col]), weight.float(), (n * n, x.numel()), check_invariants=True
        )
        with warnings.catch_warnings():
            # Torch gives a one-time notice that CSR tensors are in beta.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            csr = matrix.coalesce().to_sparse_csr()
            # MKL needs 32-bit indices; 64-bit ones would be converted again in every product.
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
            (b, n, n, n) float32, [z, y, x], centred on voxel n // 2. They are multiplied by √n, so
            that white noise of variance 1 in the images gives a variance of order 1.
        """
        b, t, n, half = slices.shape
        # Real and imaginary parts of all ky side by side, since the matrix is real.
        columns = torch.view_as_real(slices).view(b, t * n, half * 2)
        spectrum = torch.empty(b, n, n, half, dtype=torch.complex64, device=slices.device)
        planes = torch.view_as_real(spectrum).view(b, n * n, half * 2)  # a view: filled below
        for i in range(b):  # sparse matrices have no batched product, and transposing takes longer
            torch.mm(self.matrix, columns[i], out=planes[i])
        volume = torch.fft.irfftn(spectrum, s=(n, n, n), dim=(1, 2, 3))  # (b, z, x, y)
        volume = volume.flatten(1).index_select(1, self.order).view(b, n, n, n)  # (b, z, y, x)
        scaled: torch.Tensor = volume.mul_(n**0.5)
        return scaled

    def noise_amplitude(self) -> torch.Tensor:
        """Standard deviation of reconstructed white noise over the box, relative to its middle.

        Spreading a slice's points over neighbours in Fourier space attenuates the volume far from
        its centre in real space, across the tilt axis. So does averaging of independent slices.

        Returns
        -------
        Tensor
            (n, n) float32, [z, x], centred on n // 2: standard deviations relative to their mean
            over the central ball of radius n / 8.
        """
        n = self.n
        # Each point of a slice adds independent noise: the inverse transform of its weights.
        weights = self.matrix.cpu().to_dense().T.view(-1, n, n)  # (t n, kz, kx)
        variance = torch.zeros(n, n, dtype=torch.float64)  # [z, x]
        for part in torch.split(weights, 256):
            variance += torch.fft.ifft2(part).abs().double().square().sum(dim=0)
        amplitude = torch.fft.fftshift(variance).sqrt()
        r = torch.arange(n) - n // 2
        middle = amplitude[(r[:, None] ** 2 + r**2).sqrt() <= n / 8].mean()
        relative: torch.Tensor = (amplitude / middle).float()
        return relative


FINE_SAMPLING_RATIO = 4
"""Ratio by which images are sampled finer than pixels across the tilt axis, before they are
interpolated linearly. With the roll-off divided out, aliasing is 2 % at Nyquist."""


def slice_weights(
    tilt_angles_deg: torch.Tensor, k: torch.Tensor, *, thickness: int
) -> torch.Tensor:
    r"""Weight of each tilt's slice, from its overlap with other slices (Harauz & van Heel 1986).

    The transform of an object of D voxels is smooth over 1 / D. So a slice represents a layer of
    this thickness, and slices that overlap share their weight:
    :math:`1 / Σ_j Λ(D |k| \sin|θ_i − θ_j|)` with the triangle function Λ (Optik 73, 146). Where
    slices overlap, the weight grows with ``|k|`` like the ramp of filtered back-projection. Where
    they are farther apart than 1 / D it is 1, as in :class:`DirectFourierInversion` of a box of D
    voxels.

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
    apart = (theta[:, None] - theta[None, :]).sin().abs()  # (t, t)
    distance = thickness * apart[:, :, None] * k.double().cpu().abs()  # (t, t, p), in 1 / D
    shared: torch.Tensor = (1 - distance).clamp_min_(0).sum(dim=1)
    return shared.reciprocal_()


@dataclass(frozen=True)
class SlabInversion:
    """The reconstruction operator of one tilt geometry for a volume of any shape and size.

    The Fourier grid of a whole tomogram is so fine that slices miss most of its points at high
    frequencies, and :class:`DirectFourierInversion` on it would lose the particles' signal there.
    Here slices get the weights of a particle's box, and are summed in real space (weighted
    back-projection). So nothing is wrapped around to the opposite side, and only one plane is in
    memory at a time.

    Attributes
    ----------
    shape
        (nz, ny, nx) of the volume; the tilt axis passes through voxel n // 2 along z and x.
    tilts
        (t,) radians, float64.
    n
        Side of the periodic tilt images, at least ``2 reach`` and ``ny``. It needs a margin for
        particles beyond the volume and for the filter, which spreads signal by about the thickness;
        otherwise they are wrapped around to the opposite side.
    filters
        (t, n) float32: factors of the images' frequencies across the tilt axis.
    reach
        Distance from the tilt axis, in pixels, up to which images are needed.
    """

    shape: tuple[int, int, int]
    tilts: torch.Tensor
    n: int
    filters: torch.Tensor
    reach: int

    @staticmethod
    def reach_of(tilt_angles_deg: torch.Tensor, shape: tuple[int, int, int]) -> int:
        """Largest distance of the volume's projections from the tilt axis, in pixels."""
        theta = torch.deg2rad(tilt_angles_deg.double().cpu())
        # The first voxel is at least as far from the axis as the last.
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
            Thickness of the objects to be reconstructed, in voxels; see :func:`slice_weights`.
        device
            Where to keep the operator.

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
        # Compensates the roll-off sinc² of linear interpolation, and the larger divisor of the
        # inverse transform of finely sampled images.
        weights = weights / torch.sinc(k / FINE_SAMPLING_RATIO).square() * FINE_SAMPLING_RATIO
        if n % 2 == 0:
            weights[:, n // 2] = 0  # the unpaired Nyquist row
        tilts = torch.deg2rad(tilt_angles_deg.double()).to(device)
        return cls(shape, tilts, n, weights.float().to(device), reach)

    @property
    def rows(self) -> int:
        """Number of samples of a filtered image across the tilt axis."""
        return 2 * self.reach * FINE_SAMPLING_RATIO

    def __call__(
        self,
        half_transforms: Iterable[torch.Tensor],
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Reconstruct a volume; images and planes are processed one at a time.

        Parameters
        ----------
        half_transforms
            One (n, n // 2 + 1) complex for each tilt, in order: [kx, ky], phases referred to the
            image's centre.
        progress
            Called with 1 after each tilt and each plane.

        Returns
        -------
        (nz, ny, nx) float32, [z, y, x], in the unit of the projected density.
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
        positive, negative = (n + 1) // 2, n // 2  # numbers of frequencies ≥ 0 and < 0
        # Zero-padding the transform samples the image more finely, (ratio · n, n // 2 + 1).
        fine = half_transform.new_zeros(FINE_SAMPLING_RATIO * n, half_transform.shape[1])
        fine[:positive] = half_transform[:positive] * self.filters[tilt, :positive, None]
        fine[-negative:] = half_transform[-negative:] * self.filters[tilt, -negative:, None]
        along_x = torch.fft.ifft(fine, dim=0)  # [x, ky], centre at index 0
        half = self.rows // 2
        kept = torch.cat([along_x[-half:], along_x[:half]])  # (rows, n // 2 + 1), centre at half
        image: torch.Tensor = torch.fft.irfft(kept, n=n, dim=1)  # (rows, n), [x, y]
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
        # Where each voxel of the plane is projected to in each image.
        in_image = x[:, None] * self.tilts.cos() + (z - nz // 2) * self.tilts.sin()  # (nx, t)
        sample = (in_image + self.reach) * FINE_SAMPLING_RATIO
        lower = sample.floor()
        upper_weight = (sample - lower).float()
        # The rows of all images form one table: row i of image t is row i + t · rows of it.
        first = lower.long() + torch.arange(len(self.tilts), device=x.device) * self.rows
        # embedding_bag sums rows with weights: here two neighbouring rows of each of t images,
        # for nx voxels at once, each with all ny values along y: (nx, ny).
        plane: torch.Tensor = embedding_bag(
            torch.stack([first, first + 1], dim=-1).flatten(1),
            images.view(-1, ny),
            per_sample_weights=torch.stack([1 - upper_weight, upper_weight], dim=-1).flatten(1),
            mode="sum",
        )
        return plane.T
