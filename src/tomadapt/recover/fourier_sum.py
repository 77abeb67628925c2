"""Weighted average of particles in Fourier space, with a missing wedge and a CTF each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tomadapt.recover.fourier import MeasuredPoints


@dataclass
class FourierSum:
    r"""Sums over particles from which a structure is estimated, in the structure's own frame.

    A particle of pose (R, s) has the transform
    :math:`X(k) = W \hat T(R^{-1}k) e^{-2πi k·s} + ` noise of power P, with the transfer W. The sums
    :math:`Σ w W X e^{2πi k·s} / P` and :math:`Σ w W^2 / P` are gathered at :math:`R^{-1}k`; their
    quotient is the structure's weighted least-squares estimate. In the missing wedge W is 0, so a
    particle adds to neither sum there.

    Attributes
    ----------
    n
        Side of the volume in voxels.
    numerator
        (n · n · (n // 2 + 2), 2) float32: real and imaginary parts on a grid [kz, ky, kx ≥ 0]
        with one column more than a half-transform has, which interpolation needs.
    denominator
        The same grid, float32.
    """

    n: int
    numerator: torch.Tensor
    denominator: torch.Tensor

    @classmethod
    def empty(cls, n: int, device: torch.device | str = "cpu") -> FourierSum:
        """A sum of no particles."""
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
            (b,) weights of the poses.
        points
            Where the particles were measured.
        power
            (n // 2,) power of their noise in shells.
        """
        n, half = self.n, self.n // 2 + 2
        inverse_power = points.multiplicity / power[points.shell]  # (p,)
        terms = x * points.phases(-shifts) * (points.transfer * inverse_power)  # (b, p)
        weight = (points.transfer.square() * inverse_power) * weights[:, None]  # (b, p)
        terms = terms * weights[:, None]
        q = points.k @ rotations * n  # R⁻¹ k row by row, (b, p, 3) in Fourier voxels
        # Only kx ≥ 0 is stored: a point with kx < 0 goes to −q, with the conjugate value.
        sign = torch.where(q[..., 0] < 0, -1.0, 1.0)  # (b, p)
        q = q * sign[..., None]
        value = torch.stack([terms.real, terms.imag * sign], dim=-1).view(-1, 2)  # (b p, 2)
        weight = weight.reshape(-1)  # (b p,)
        lower = q.floor()
        fraction = (q - lower).view(-1, 3)  # (b p, 3)
        lower = lower.long().view(-1, 3)
        # Each point is spread over the eight grid points around it (trilinear interpolation).
        for corner in range(8):
            up = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=x.device)
            share = torch.where(up.bool(), fraction, 1 - fraction).prod(dim=1)  # (b p,)
            kx, ky, kz = (lower + up).unbind(-1)
            row = ((kz % n) * n + ky % n) * half + kx
            self.numerator.index_add_(0, row, value * share[:, None])
            self.denominator.index_add_(0, row, weight * share)

    def __add__(self, other: FourierSum) -> FourierSum:
        """The sum over the particles of both."""
        return FourierSum(
            self.n, self.numerator + other.numerator, self.denominator + other.denominator
        )

    def volume(self, ssnr: torch.Tensor | None = None, *, threshold: float = 0.02) -> torch.Tensor:
        """The structure, (n, n, n) float32 [z, y, x].

        Parameters
        ----------
        ssnr
            (n // 2,) spectral signal-to-noise ratio of this sum in shells, for a Wiener filter; no
            filter when None.
        threshold
            A point whose denominator is below this fraction of its shell's mean was hardly
            measured. This fraction is then used as the denominator, which draws the point to zero.
        """
        n, half = self.n, self.n // 2 + 1
        # The extra column is dropped: it lies beyond Nyquist. (n, n, half) each.
        numerator = torch.view_as_complex(self.numerator).view(n, n, half + 1)[..., :half].clone()
        denominator = self.denominator.view(n, n, half + 1)[..., :half].clone()
        # On the plane kx = 0 each point and its opposite are both stored, but a particle's value
        # went to only one of them: add the conjugate of the opposite point.
        plane, weight = numerator[..., 0], denominator[..., 0]
        numerator[..., 0] = plane + _mirrored(plane).conj()
        denominator[..., 0] = weight + _mirrored(weight)
        f = torch.fft.fftfreq(n, 1 / n, device=numerator.device)
        x = torch.arange(half, device=f.device)
        shell = (f[:, None, None] ** 2 + f[:, None] ** 2 + x**2).sqrt().round().long()
        inside = shell < n // 2  # (n, n, half)
        flat = shell[inside]  # (q,)
        count = torch.zeros(n // 2, device=f.device).index_add_(
            0, flat, torch.ones_like(flat).float()
        )
        mean = torch.zeros_like(count).index_add_(0, flat, denominator[inside]) / count.clamp_min(1)
        floor = mean * threshold  # (n // 2,)
        spectrum = torch.zeros_like(numerator)
        d = denominator[inside]
        value = numerator[inside] / torch.maximum(d, floor[flat]).clamp_min(1e-30)
        if ssnr is not None:
            relative = d / mean[flat].clamp_min(1e-30) * ssnr[flat]  # SSNR of each point
            value = value * (relative / (relative + 1))
        spectrum[inside] = value
        spectrum[0, 0, 0] = 0
        volume = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=(n, n, n)))
        r = (torch.arange(n, device=f.device) - n // 2) / n
        # Linear interpolation in Fourier space multiplied the volume by sinc² along each axis.
        rolloff = torch.sinc(r).square()
        corrected: torch.Tensor = volume / (rolloff[:, None, None] * rolloff[:, None] * rolloff)
        return corrected


def _mirrored(plane: torch.Tensor) -> torch.Tensor:
    """(n, n) at −k instead of k."""
    return plane.flip(0, 1).roll((1, 1), (0, 1))
