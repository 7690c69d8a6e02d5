"""Confidence interval of the difference of two accuracies on the same images."""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Rights = npt.NDArray[np.bool_]

Z = 1.959964
"""Quantile of the normal distribution for 95 %."""


def paired_interval(ours: Rights, theirs: Rights) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of ``ours`` minus that of ``theirs``, as fractions.

    Tango's score interval, which also holds for few images and where both are correct on the same ones: Statistics in
    Medicine 17 (1998), 891-908.

    Args:
        ours: Whether each image is classified correctly, (N,).
        theirs: The same by the other network.
    """
    images, gained, lost = len(ours), int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    found = (gained - lost) / images

    def excess(difference: float) -> float:
        return abs(_score(difference, images, gained, lost)) - Z

    low = -1.0 if excess(-1) < 0 or found == -1 else brentq(excess, -1, found)
    high = 1.0 if excess(1) < 0 or found == 1 else brentq(excess, found, 1)
    return low, high


def _score(difference: float, images: int, gained: int, lost: int) -> float:
    """Return how many standard errors the counts lie from a difference, under the likeliest shares that have it."""
    linear = difference * (2 * images - gained + lost) - gained - lost
    constant = -lost * difference * (1 - difference)
    share = (math.sqrt(max(0.0, linear**2 - 8 * images * constant)) - linear) / (4 * images)  # of images that are lost
    variance = images * (2 * share + difference * (1 - difference))
    distance = gained - lost - images * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0
