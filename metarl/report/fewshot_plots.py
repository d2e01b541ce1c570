"""Pictures of a few-shot evaluation: tasks with the answers to their questions, and fitted curves
after a few updates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from metarl.fewshot.types import Episodes
from metarl.files import write_atomically
from metarl.report.plots import BLUE, GREEN, GREY, ORANGE

_RIGHT, _WRONG = GREEN, ORANGE
QUESTIONS = 10  # shown of each task


def answers_png(path: Path, episodes: Episodes, logits: Tensor, *, title: str) -> None:
    """A row for each task: one support picture of each class with its label, then questions framed
    green where the answer is right and orange where it is wrong, with the class that was answered
    (and the right one).

    Args: episodes: pictures, leaves [N, B, ...]; logits: [N, B, W] on the query.
    Raises: OSError if `path` can't be written.
    """
    num_tasks, ways = len(logits), logits.shape[-1]
    questions = min(QUESTIONS, logits.shape[1])
    with matplotlib.rc_context({"font.size": 9}):
        columns = ways + 1 + questions
        figure = Figure(
            figsize=(0.62 * columns + 0.3, 0.86 * num_tasks + 0.8), dpi=150, layout="constrained"
        )
        FigureCanvasAgg(figure)
        grid = figure.subplots(num_tasks, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for task in range(num_tasks):
            labels, row = episodes.support.y[task], grid[task]
            for k in range(ways):
                first = int((labels == k).nonzero()[0])
                _picture(row[k], episodes.support.x[task, first], _name(k), GREY)
            for question in range(questions):
                right, given = (
                    int(episodes.query.y[task, question]),
                    int(logits[task, question].argmax()),
                )
                text = _name(given) if given == right else f"{_name(given)} ({_name(right)})"
                _picture(
                    row[ways + 1 + question],
                    episodes.query.x[task, question],
                    text,
                    _RIGHT if given == right else _WRONG,
                )
        figure.suptitle(
            f"{title}\none support picture of each class | questions with the answer (and the "
            "right one)",
            fontsize=10,
            x=0.01,
            ha="left",
        )
        write_atomically(path, lambda file: figure.savefig(file, format="png"))


def curves_png(
    path: Path,
    x: Tensor,
    truth: Tensor,
    support_x: Tensor,
    support_y: Tensor,
    fitted: Mapping[int, Tensor],
    *,
    title: str,
) -> None:
    """A panel for each task: the true curve, the points one adapts on, and what is fitted after
    some numbers of updates.

    Args:
      x, truth: [N, B], x in increasing order; support_x, support_y: [N, S].
      fitted: number of updates -> [N, B].
    Raises: OSError if `path` can't be written.
    """
    num_tasks = len(x)
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(3.1 * num_tasks + 0.4, 3.0), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, num_tasks, sharex=True, squeeze=False)[0]
        for task, axes in enumerate(panels):
            axes.plot(x[task], truth[task], color="#202124", lw=1.2, label="truth")
            for (count, values), (color, dashes) in zip(fitted.items(), _styles(), strict=False):
                axes.plot(
                    x[task],
                    values[task],
                    color=color,
                    ls=dashes,
                    lw=1.6,
                    label=f"after {count} update{'' if count == 1 else 's'}",
                )
            axes.plot(
                support_x[task], support_y[task], "^", color=ORANGE, ms=6, label="support", zorder=4
            )
            axes.grid(color="#E3E5E8")
            axes.set_xlabel("x")
        panels[0].set_ylabel("y")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", frameon=False)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        write_atomically(path, lambda file: figure.savefig(file, format="png"))


def _styles() -> Sequence[tuple[str, object]]:
    return (GREY, ":"), (BLUE, "--"), (GREEN, "-"), (BLUE, "-.")


def _name(label: int) -> str:
    return chr(ord("A") + label) if label < 26 else str(label)


def _picture(axes: Axes, pixels: Tensor, text: str, color: str) -> None:
    """[C, H, W] in 0..1 with a frame and a caption in this colour; one channel is ink on paper."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    shown = np.asarray(pixels.cpu().to(torch.float32))
    if len(shown) == 3:
        axes.imshow(shown.transpose(1, 2, 0))
    else:
        axes.imshow(1 - shown[0], cmap="gray", vmin=0, vmax=1)
    for spine in axes.spines.values():
        spine.set_color(color)
        spine.set_linewidth(2)
    axes.set_title(text, color=color, fontsize=9, pad=2)
