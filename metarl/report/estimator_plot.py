"""The picture of the estimator lab: how far the mean of n meta-gradient estimates is from the exact
one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metarl.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, figure_of, write_png

_LOOKS = {
    "first_order": (GREY, ":", "first-order"),
    "reinforce": (ORANGE, (0, (4, 1.5)), "reinforce"),
    "lvc": (GREEN, "-.", "LVC"),
    "dice": (BLUE, "-", "DiCE"),
    "e_maml": (PURPLE, (0, (1, 1)), "E-MAML"),
}


def estimators_png(
    path: Path, panels: Mapping[str, Mapping[str, Sequence[float]]], sizes: Sequence[int]
) -> None:
    """What is unbiased goes down with 1/√n, what is biased stays at its bias.

    Args: panels: title -> estimator -> error for each n of `sizes`, as `errors_of_means` gives it.
    Raises: OSError if `path` can't be written.
    """
    title = "Error of the mean of n meta-gradient estimates, in shares of the exact one"
    with figure_of(panels=len(panels), title=title) as (figure, axes):
        for place, (name, curves) in zip(axes, panels.items(), strict=True):
            for estimator, errors in curves.items():
                color, dashes, label = _LOOKS[estimator]
                place.loglog(sizes, errors, color=color, ls=dashes, label=label)
            place.set_title(name, pad=10)
            place.set_xlabel("n")
            place.legend(loc="lower left")
    write_png(path, figure)
