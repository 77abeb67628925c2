"""Direct Fourier inversion: tilt images inserted as central slices, divided by their weights.

The tilt axis is y, so every ky is reconstructed alone in the (kz, kx) plane and by the same
weights: the whole inversion is one sparse matrix for each tilt geometry.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

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
            csr = matrix.coalesce().to_sparse_csr().to(device)
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
