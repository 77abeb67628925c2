"""What experiments change on purpose."""

import numpy as np
import pytest

from tomadapt.experiments.altered import bent


def rod(n=41):
    """A rod along z, wider along y than along x: the hinge is y."""
    z, y, x = np.indices((n, n, n)) - n // 2
    inside = (np.abs(z) <= 14) & (np.abs(y) <= 4) & (np.abs(x) <= 2)
    return inside.astype(np.float32)


def test_not_bent_is_the_same():
    np.testing.assert_allclose(bent(rod(), 0.0), rod(), atol=1e-6)


@pytest.mark.parametrize("degrees", [10.0, 30.0])
def test_one_half_stays_and_the_other_is_turned_by_the_angle(degrees):
    found = bent(rod(), degrees)
    n = len(found)
    kept = [(found[:20] == rod()[:20]).mean(), (found[21:] == rod()[21:]).mean()]
    assert max(kept) > 0.99 > min(kept)
    moved = found[21:] if kept[0] > kept[1] else found[:20][::-1]
    ends = moved[3:8]  # slices 4 to 8 above the hinge
    _, y, x = np.indices(ends.shape) - n // 2
    across = (ends * x).sum(axis=(1, 2)) / ends.sum(axis=(1, 2))
    slope = np.polyfit(np.arange(5), across, 1)[0]
    assert np.rad2deg(np.arctan(abs(slope))) == pytest.approx(degrees, abs=1.0)
    assert np.abs((ends * y).sum() / ends.sum()) < 1e-3
    assert found.sum() == pytest.approx(rod().sum(), rel=0.05)
