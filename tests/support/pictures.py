"""Two pictures that should show the same."""

import numpy as np


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    """Asks less than equal bytes: OpenGL in software promises none from two of its contexts, and
    once in some thousand pictures under load they weren't. A body elsewhere is a mean of 5 or more.
    """
    assert one.shape == other.shape
    apart = np.abs(one.astype(int) - other.astype(int))
    told = f"{(apart > 0).any(-1).sum()} pixels differ, by up to {apart.max()} of 255"
    assert apart.mean() < 0.5, f"{told}, {apart.mean():.3} in the mean"
