"""The picture of the estimator lab: how far the mean of n meta-gradient estimates is from the exact
one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metarl.report.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    figure_of,
    legend_below,
    named_in,
    write_png,
)

_LOOKS = {
    "first_order": (GREY, ":"),
    "reinforce": (ORANGE, (0, (4, 1.5))),
    "lvc": (GREEN, "-."),
    "dice": (BLUE, "-"),
    "e_maml": (PURPLE, (0, (1, 1))),
}


def estimators_png(
    path: Path, panels: Mapping[str, Mapping[str, Sequence[float]]], sizes: Sequence[int]
) -> None:
    """What is unbiased goes down with 1/√n, what is biased stays at its bias.

    Args: panels: title -> estimator -> error for each n of `sizes`, as `errors_of_means` gives it.
    Raises: OSError if `path` can't be written.
    """
    title = "Error of the mean of n meta-gradient estimates"
    every = [error for curves in panels.values() for errors in curves.values() for error in errors]
    with figure_of(panels=len(panels), title=title) as (figure, axes):
        fall = [max(every) * (sizes[0] / n) ** 0.5 for n in sizes]
        for place, (name, curves) in zip(axes, panels.items(), strict=True):
            place.loglog(sizes, fall, color=INK, lw=1, alpha=0.5, label="falls as 1/√n")
            for estimator, errors in curves.items():
                color, dashes = _LOOKS[estimator]
                place.loglog(sizes, errors, color=color, ls=dashes, label=estimator)
            place.set_title(name, pad=10)
            place.set_xlabel("n, estimates in the mean")
            place.set_ylim(min(every) / 1.5, max(every) * 1.5)  # the same in all panels
            place.set_ylabel("error, in norms\nof the exact one")
        lines = named_in(axes)
        legend_below(figure, list(lines.values()), list(lines))
    write_png(path, figure)
