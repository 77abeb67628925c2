"""The weighted sum of particles in Fourier space, divided by the summed transfer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tomadapt.recover.fourier import MeasuredPoints


@dataclass
class FourierSum:
    r"""What particles say of a structure, gathered in the structure's own frame.

    With :math:`X = W \hat T(R^{-1}k) e^{-2πi k·s} + ` noise of power P, the sums
    :math:`Σ w W X e^{2πi k·s} / P` and :math:`Σ w W^2 / P` are taken at :math:`R^{-1}k`; their
    quotient is the structure's least-squares estimate. A wedge is a W of 0: it adds to neither.

    Attributes
    ----------
    n
        Side of the volume in voxels.
    numerator
        (n · n · (n // 2 + 2), 2) float32: real and imaginary parts on a grid [kz, ky, kx ≥ 0].
    denominator
        The same grid, float32.
    """

    n: int
    numerator: torch.Tensor
    denominator: torch.Tensor

    @classmethod
    def empty(cls, n: int, device: torch.device | str = "cpu") -> FourierSum:
        """Nothing summed yet."""
        size = n * n * (n // 2 + 2)
        return cls(n, torch.zeros(size, 2, device=device), torch.zeros(size, device=device))

    def add(
        self,
        x: torch.Tensor,
        rotations: torch.Tensor,
        shifts: torch.Tensor,
        weights: torch.Tensor,
        points: MeasuredPoints,
        power: torch.Tensor,
    ) -> None:
        """Add particles in some poses.

        Parameters
        ----------
        x
            (b, p) transforms at the points.
        rotations, shifts
            (b, 3, 3) and (b, 3) voxels.
        weights
            (b,) of the poses.
        points
            Where the particles were measured.
        power
            (n // 2,) of their noise in shells.
        """
        n, half = self.n, self.n // 2 + 2
        share = points.multiplicity / power[points.shell]
        back = x * points.phases(-shifts) * (points.transfer * share)  # (b, p)
        weight = (points.transfer.square() * share) * weights[:, None]
        back = back * weights[:, None]
        q = points.k @ rotations * n  # (b, p, 3) Fourier voxels
        folded = torch.where(q[..., 0] < 0, -1.0, 1.0)
        q = q * folded[..., None]
        value = torch.stack([back.real, back.imag * folded], dim=-1).view(-1, 2)
        weight = weight.reshape(-1)
        lower = q.floor()
        beyond = (q - lower).view(-1, 3)
        lower = lower.long().view(-1, 3)
        for corner in range(8):
            up = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=x.device)
            share_here = torch.where(up.bool(), beyond, 1 - beyond).prod(dim=1)
            kx, ky, kz = (lower + up).unbind(-1)
            row = ((kz % n) * n + ky % n) * half + kx
            self.numerator.index_add_(0, row, value * share_here[:, None])
            self.denominator.index_add_(0, row, weight * share_here)

    def __add__(self, other: FourierSum) -> FourierSum:
        """What two parts say together."""
        return FourierSum(
            self.n, self.numerator + other.numerator, self.denominator + other.denominator
        )

    def volume(self, ssnr: torch.Tensor | None = None, *, threshold: float = 0.02) -> torch.Tensor:
        """The structure, (n, n, n) float32 [z, y, x].

        Parameters
        ----------
        ssnr
            (n // 2,) spectral signal-to-noise ratio of this sum in shells, to which it is shrunk
            (Wiener); not shrunk when None.
        threshold
            A point whose summed transfer is below this fraction of its shell's mean was hardly
            measured: it is taken as if it had been by this much, which draws it to zero.
        """
        n, half = self.n, self.n // 2 + 1
        numerator = torch.view_as_complex(self.numerator).view(n, n, half + 1)[..., :half].clone()
        denominator = self.denominator.view(n, n, half + 1)[..., :half].clone()
        # The plane kx = 0 has got what lies on its one side only; the other side is its mirror.
        plane, weight = numerator[..., 0], denominator[..., 0]
        numerator[..., 0] = plane + _mirrored(plane).conj()
        denominator[..., 0] = weight + _mirrored(weight)
        f = torch.fft.fftfreq(n, 1 / n, device=numerator.device)
        x = torch.arange(half, device=f.device)
        shell = (f[:, None, None] ** 2 + f[:, None] ** 2 + x**2).sqrt().round().long()
        inside = shell < n // 2
        flat = shell[inside]
        count = torch.zeros(n // 2, device=f.device).index_add_(
            0, flat, torch.ones_like(flat).float()
        )
        mean = torch.zeros_like(count).index_add_(0, flat, denominator[inside]) / count.clamp_min(1)
        floor = mean * threshold
        spectrum = torch.zeros_like(numerator)
        d = denominator[inside]
        value = numerator[inside] / torch.maximum(d, floor[flat]).clamp_min(1e-30)
        if ssnr is not None:
            relative = d / mean[flat].clamp_min(1e-30) * ssnr[flat]
            value = value * (relative / (relative + 1))
        spectrum[inside] = value
        spectrum[0, 0, 0] = 0
        volume = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=(n, n, n)))
        r = (torch.arange(n, device=f.device) - n // 2) / n
        rolloff = torch.sinc(r).square()  # of linear interpolation
        corrected: torch.Tensor = volume / (rolloff[:, None, None] * rolloff[:, None] * rolloff)
        return corrected


def _mirrored(plane: torch.Tensor) -> torch.Tensor:
    """(n, n) at −k instead of k."""
    return plane.flip(0, 1).roll((1, 1), (0, 1))
