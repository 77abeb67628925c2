"""A reference map's transform at rotated points, and its derivatives by rotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.simulate.projection import sample_transform, template_transform


@dataclass(frozen=True)
class Reference:
    """A density, sampled anywhere in Fourier space.

    Attributes
    ----------
    transforms
        (8, m + 1, m + 1, m // 2 + 1): the density's transform and those of its products with x, y
        and z, each as :func:`~tomadapt.simulate.projection.template_transform` gives it.
    """

    transforms: torch.Tensor

    @classmethod
    def of(
        cls, density: NDArray[np.float32] | torch.Tensor, device: torch.device | str = "cpu"
    ) -> Reference:
        """Prepare a map (d, d, d), [z, y, x], centred on voxel d // 2."""
        density = torch.as_tensor(density, dtype=torch.float32).cpu()
        r = torch.arange(density.shape[0]) - density.shape[0] // 2
        moments = (r[None, None, :], r[None, :, None], r[:, None, None])
        parts = [template_transform(density), *(template_transform(density * x) for x in moments)]
        return cls(torch.cat(parts).to(device))

    def at(self, rotations: torch.Tensor, points: MeasuredPoints) -> torch.Tensor:
        """The reference in given rotations, as the points measure it: (b, p) complex64, no shift.

        Parameters
        ----------
        rotations
            (b, 3, 3) acting on (x, y, z).
        points
            Where it is sampled, and the transfer that it is multiplied by.
        """
        q = (points.k @ rotations)[None]  # R⁻¹ k, row-wise; (1, b, p, 3)
        values = self._sampled(self.transforms[:2], q)[0, 0]
        return values.mul_(points.transfer)

    def with_slopes(
        self, rotations: torch.Tensor, points: MeasuredPoints
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""As :meth:`at`, and its derivatives by rotations about the reference's own axes.

        With :math:`R e^{[ω]_×}` for R the frequency is :math:`q - ω × q`, so that
        :math:`∂\hat T = -ω · (q × ∇\hat T)`; the gradient of a transform is that of −2πi times
        the moments.

        Returns
        -------
        values
            (b, p) complex64.
        slopes
            (b, 3, p) complex64, per radian about x, y and z.
        """
        q = (points.k @ rotations)[None]
        values = self._sampled(self.transforms, q)[0]  # (4, b, p): the map, its x, y, z moments
        values = values * points.transfer
        gradient = values[1:] * (-2j * torch.pi)  # (3, b, p)
        x, y, z = q[0].unbind(-1)
        slopes = torch.stack(
            [
                gradient[1] * z - gradient[2] * y,
                gradient[2] * x - gradient[0] * z,
                gradient[0] * y - gradient[1] * x,
            ],
            dim=1,
        )  # minus q × ∇T, (b, 3, p)
        return values[0], slopes

    @staticmethod
    def _sampled(transforms: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        m = transforms.shape[1] - 1
        x, y, z = (q[..., axis] * m for axis in range(3))
        return sample_transform(transforms, x, y, z)
