"""A picture of what a learner believed of its task over a trial, step by step: beside films, which
show two of its episodes.

One that says which states pay is drawn as maps, a row for each episode and a map after each step;
others as curves of μ ± σ.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from metarl.noise import Noise
from metarl.report.belief_panel import as_map
from metarl.report.plots import BLUE, GREY, INK, ORANGE, add_band, grid_of, write_png
from metarl.rl.data.collect import Streams
from metarl.rl.data.rounds import rounds
from metarl.rl.types import Act, BatchedEnv, Belief, RLAdapter, Step, Trajectories
from metarl.struct import struct

State = TypeVar("State")

LATENTS_SHOWN = 10


@struct
class BelievedEpisode:
    """What was believed in one world over T steps; the first of T + 1 entries is what was believed
    before them."""

    mean: np.ndarray  # [T + 1, L]
    deviation: np.ndarray  # [T + 1, L]
    # [T + 1, columns, rows] the chance of each state to pay; row 0 is at the bottom
    maps: np.ndarray | None
    places: np.ndarray  # [T + 1, 2] column and row of the state one is in; for maps
    paid: np.ndarray  # [T] bool: the step's reward was above 0
    paying: np.ndarray  # [G, 2] columns and rows of the states that pay; none if nobody can tell


class _Watched(RLAdapter[State]):
    """Acts as another adapter does, and keeps what that believes before and after each step."""

    def __init__(self, adapter: RLAdapter[State]) -> None:
        self._adapter = adapter
        self.beliefs: list[list[Belief]] = []
        """The beliefs of each episode."""

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> State:
        return self._begun(self._adapter.begin(num_tasks, episodes_per_task, noise))

    def act(self, state: State, obs: Tensor, noise: Noise | None) -> Act:
        return self._adapter.act(state, obs, noise)

    def observe(self, state: State, obs: Tensor, act: Act, step: Step) -> State:
        after = self._adapter.observe(state, obs, act, step)
        self._keep(after)
        return after

    def update(self, state: State, data: Trajectories, noise: Noise | None = None) -> State:
        return self._begun(self._adapter.update(state, data, noise))

    def _begun(self, state: State) -> State:
        self.beliefs.append([])
        self._keep(state)
        return state

    def _keep(self, state: State) -> None:
        belief = self._adapter.belief(state)
        assert belief is not None, "it has one in every state, or in none"
        self.beliefs[-1].append(belief)


@torch.no_grad()
def belief_pngs(
    paths: Mapping[int, Path],
    env: BatchedEnv,
    adapter: RLAdapter[Any],
    tasks: Any,
    streams: Streams,
    *,
    num_tasks: int,
    num_updates: int,
    titles: Sequence[str],
    device: torch.device | str = "cpu",
    deterministic: bool = False,
) -> None:
    """Plays a trial on each of N tasks with an adapter that has a belief, and draws some of them.

    Args:
      paths: number of a task -> where its picture goes.
      env: num_tasks * E worlds; of each task the first is drawn. tasks: leaves [num_tasks, ...].
      titles: of all tasks.
      deterministic: take the policy's most likely actions.
    Raises: OSError if a file can't be written.
    """
    watched: _Watched[Any] = _Watched(adapter)
    played = rounds(
        *(env, watched, tasks, streams),
        num_tasks=num_tasks,
        num_updates=num_updates,
        device=device,
        deterministic=deterministic,
    )
    trajectories = [each.episodes for each in played]
    paying = env.paying_states(tasks) if hasattr(env, "paying_states") else None
    for task, path in paths.items():
        pays = np.zeros(0, int) if paying is None else paying[task].nonzero()[:, 0].cpu().numpy()
        world = task * (env.num_worlds // num_tasks)
        episodes = [
            _of_world(beliefs, episode, task, world, env, pays)
            for beliefs, episode in zip(watched.beliefs, trajectories, strict=True)
        ]
        belief_png(path, episodes, title=titles[task])


def _of_world(
    beliefs: Sequence[Belief],
    episode: Trajectories,
    task: int,
    world: int,
    env: BatchedEnv,
    paying: np.ndarray,
) -> BelievedEpisode:
    length = int(episode.mask[task, 0].sum())
    known = beliefs[: length + 1]
    maps = [as_map(belief, world, env) for belief in known]
    states = episode.obs[task, 0, : length + 1].argmax(-1).cpu().numpy()
    rows = 1 if maps[0] is None else maps[0].shape[1]
    return BelievedEpisode(
        mean=np.stack([belief.mean[world].cpu().numpy() for belief in known]),
        deviation=np.stack([belief.deviation[world].cpu().numpy() for belief in known]),
        maps=None if maps[0] is None else np.stack(maps),  # type: ignore[arg-type]
        places=_on_map(states, rows),
        paid=(episode.reward[task, 0, :length] > 0).cpu().numpy(),
        paying=_on_map(paying, rows),
    )


def _on_map(states: np.ndarray, rows: int) -> np.ndarray:
    return np.stack([states // rows, states % rows], axis=1)


def belief_png(path: Path, episodes: Sequence[BelievedEpisode], *, title: str) -> None:
    """Raises: OSError if `path` can't be written."""
    if episodes[0].maps is None:
        _curves_png(path, episodes, title)
    else:
        _maps_png(path, episodes, title)


def _curves_png(path: Path, episodes: Sequence[BelievedEpisode], title: str) -> None:
    mean = np.concatenate([episode.mean for episode in episodes])[:, :LATENTS_SHOWN]
    deviation = np.concatenate([episode.deviation for episode in episodes])[:, :LATENTS_SHOWN]
    starts = np.cumsum([len(episode.mean) for episode in episodes])[:-1]
    num, steps = mean.shape[1], np.arange(len(mean))
    with grid_of(num, 1, size=(8.0, 0.9 + 1.1 * num), title=title) as (figure, axes):
        for index, place in enumerate(axes):
            low, high = mean[:, index] - deviation[:, index], mean[:, index] + deviation[:, index]
            add_band(place, steps, low, high, BLUE)
            place.plot(steps, mean[:, index], color=BLUE)
            place.set_ylabel(f"latent {index + 1}")
            place.margins(x=0)
            for start in starts:
                place.axvline(start, color=GREY, lw=1, ls=":")
            if index < num - 1:
                place.tick_params(labelbottom=False)
        axes[-1].set_xlabel("step of the trial; dotted: a new episode; μ and μ ± σ")
    write_png(path, figure)


def _maps_png(path: Path, episodes: Sequence[BelievedEpisode], title: str) -> None:
    num_maps = max(len(episode.mean) for episode in episodes)
    size = (0.62 * num_maps + 1.2, 0.8 * len(episodes) + 0.9)
    with grid_of(len(episodes), num_maps, size=size, title=title) as (figure, axes):
        figure.supxlabel(
            "belief after each step; the dot is the agent, a star where it was paid"
            + ("; the frame is what pays in truth" if len(episodes[0].paying) else ""),
            fontsize=10,
        )
        for number, episode in enumerate(episodes):
            row = axes[number * num_maps : (number + 1) * num_maps]
            for step, place in enumerate(row):
                place.set_axis_off()
                if step < len(episode.mean):
                    _draw_map(place, episode, step)
                    place.set_title(f"{step}", fontsize=7, loc="center", fontweight="normal", pad=2)
            row[0].text(
                *(-0.12, 0.5, f"ep. {number + 1}"),
                transform=row[0].transAxes,
                rotation=90,
                fontsize=8,
                ha="center",
                va="center",
            )
        bar = figure.colorbar(axes[0].images[0], ax=axes, fraction=0.012, pad=0.01)
        bar.set_ticks([chance**0.5 for chance in _CHANCES], labels=[f"{c:g}" for c in _CHANCES])
        bar.set_label("a state's chance to pay")
    write_png(path, figure)


_CHANCES = (0, 0.05, 0.25, 0.5, 1)  # named beside the colours of the maps


def _draw_map(place: Axes, episode: BelievedEpisode, step: int) -> None:
    assert episode.maps is not None
    root = np.sqrt(episode.maps[step].T)  # so that a chance of 1/21 is seen
    place.imshow(root, origin="lower", vmin=0, vmax=1, cmap="viridis")
    paid = step > 0 and episode.paid[step - 1]
    marker, size, color = ("*", 8, INK) if paid else ("o", 4, ORANGE)
    place.plot(*episode.places[step], marker, ms=size, color=color, mec="white", mew=0.6)
    for column, row in episode.paying:
        place.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, ec=ORANGE, fill=False, lw=1.2))
