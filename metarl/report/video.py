"""Films how a learner adapts: plays episodes before and after side by side, and writes H.264 that
plays everywhere.

Pictures come from the environment's own `render`. They are written as they are made, so that long
videos need no memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from metarl.errors import UserError
from metarl.files import make_folder, replacing
from metarl.noise import Noise
from metarl.report.belief_panel import BeliefSoFar, as_map, beside
from metarl.report.panels import UNITS, Curve, Gauge, Shot, frame, grid
from metarl.rl.data.collect import Streams
from metarl.rl.types import BatchedEnv, Belief, RLAdapter, Step
from metarl.run.seeding import Generators
from metarl.struct import map_tensors, replace

State = TypeVar("State")

# Frames a second, frames a second, s; where a step takes no physical time
SLOWEST, FASTEST, EPISODE = (
    2.0,
    20.0,
    5.0,
)
HAPPENS = ("success", "found")  # terms of a step that are 1 while a task is solved


def adaptation_video(
    paths: Sequence[Path],
    adapter: RLAdapter[State],
    states: Mapping[str, State],
    envs: Sequence[BatchedEnv],
    tasks: Any,
    *,
    worlds: Sequence[int],
    labels: Sequence[str],
    seed: int,
    device: torch.device | str = "cpu",
    grid_path: Path | None = None,
    width: int = 480,
    height: int = 360,
    deterministic: bool = False,
) -> None:
    """One video for each of `worlds`: the adapter in each of its states at the same task from the
    same start, side by side.

    Args:
      paths: where each world's video goes.
      states: title -> state, for instance {"before adaptation": ..., "after 1 update": ...}.
      envs: one for each state, because they are stepped in turn; all made alike, with the worlds
        that the states are of.
      tasks: leaves [W, ...]; labels: what each of `worlds` is to do, as `TaskDistribution.describe`
        says it.
      seed: of starts and policy noise, the same for all states.
      grid_path: where a video of all of them goes, if any.
      deterministic: take the policy's most likely actions.
    Raises: UserError if nothing can be drawn here (no GL library); OSError if a file can't be
    written.
    """
    if len({id(env) for env in envs}) != len(states):
        raise ValueError(
            f"got {len({id(env) for env in envs})} environments; expected one of its own for each "
            f"of {len(states)} states"
        )
    if not len(paths) == len(labels) == len(worlds):
        raise ValueError(
            f"got {len(paths)} paths and {len(labels)} labels for {len(worlds)} worlds; expected "
            "one each"
        )
    scenes = {}
    for (title, state), env in zip(states.items(), envs, strict=True):
        generators = Generators(seed)
        streams = Streams(
            tasks=generators("video/tasks"),
            reset=Noise(generators("video/reset")),
            policy=Noise(generators("video/policy", device), device=device),
        )
        scenes[title] = play(
            env,
            adapter,
            state,
            tasks,
            streams,
            worlds=worlds,
            width=width,
            height=height,
            device=device,
            deterministic=deterministic,
        )
    film(
        scenes,
        paths,
        grid_path,
        labels=labels,
        gauges=[target_gauges(tasks, world) for world in worlds],
        frames_per_second=frames_per_second(envs[0]),
        num_steps=envs[0].spec.horizon,
    )


@torch.no_grad()
def play(
    env: BatchedEnv,
    adapter: RLAdapter[State],
    state: State,
    tasks: Any,
    streams: Streams,
    *,
    worlds: Sequence[int],
    width: int,
    height: int,
    device: torch.device | str = "cpu",
    deterministic: bool = False,
) -> Iterator[list[Shot]]:
    """Plays one episode in every world and yields, after each control step, a shot of each of
    `worlds`.

    A world whose episode has ended keeps its last shot, marked `over`; when all of `worlds` have
    ended, so does the play. The terms of `HAPPENS` tell whether it has happened in the episode
    until then.
    What the adapter measures of its steps is drawn as curves, and what it believes of the task
    beside the picture; what `EnvSpec.changes` tells is marked in both, and said from that step on.

    Args: tasks: leaves [W, ...]; deterministic: see `adaptation_video`.
    Raises: UserError if the environment can't draw here.
    """
    if deterministic:
        state = adapter.most_likely(state)
    noise = None if deterministic else streams.policy
    env.set_tasks(tasks)
    obs = env.reset(streams.reset.starts(env)).to(device)
    over, reward_so_far = [False] * len(worlds), [0.0] * len(worlds)
    happened: list[set[str]] = [set() for _ in worlds]
    measured: list[dict[str, list[float]]] = [{} for _ in worlds]
    beliefs = [adapter.belief(state)]
    # A user's own distance may be in any unit.
    units = UNITS if env.spec.made_by is None else {}
    changes = env.spec.changes
    shots: list[Shot] = [None] * len(worlds)  # type: ignore[list-item]  # filled in the first step
    for t in range(env.spec.horizon):
        act = adapter.act(state, obs, noise)
        step: Step = map_tensors(lambda x: x.to(device), env.step(act.action))
        of_step = adapter.measure(state, obs, act, step)
        state = adapter.observe(state, obs, act, step)
        beliefs.append(adapter.belief(state))
        obs = step.next_obs
        for i, world in enumerate(worlds):
            if over[i]:
                shots[i] = replace(shots[i], over=True)
                continue
            over[i] = bool(step.terminated[world] | step.truncated[world])
            reward_so_far[i] += step.reward[world].item()
            for name, values in of_step.items():
                measured[i].setdefault(name, []).append(values[world].item())
            terms = {name: values[world].item() for name, values in step.terms.items()}
            happened[i].update(name for name in HAPPENS if terms.get(name, 0.0) > 0)
            picture = _picture(env, world, width, height)
            believed = _believed(beliefs, world, env)
            shots[i] = Shot(
                picture=picture if believed is None else beside(picture, believed),
                moment=_moment(env, t + 1),
                reward_so_far=reward_so_far[i],
                terms=terms | {name: name in happened[i] for name in HAPPENS if name in terms},
                over=False,
                curves={
                    name: Curve(values=tuple(values), num_steps=env.spec.horizon)
                    for name, values in measured[i].items()
                },
                units=units,
                changes=changes,
                num_steps=t + 1,
            )
        yield list(shots)
        if all(over):
            return


def film(
    scenes: Mapping[str, Iterator[list[Shot]]],
    paths: Sequence[Path],
    grid_path: Path | None,
    *,
    labels: Sequence[str],
    gauges: Sequence[Mapping[str, Gauge]],
    frames_per_second: float,
    num_steps: int,
) -> None:
    """Writes what the scenes show, one video for each world with all scenes side by side, and
    perhaps one of all worlds.

    Args:
      scenes: title -> a shot of each world at a time, as `play` yields; the longest decides the
        length.
      num_steps: how many steps a scene may have at most, for the progress bar.
    Raises: OSError if a file can't be written. Then, as after Ctrl-C, none of the files is there.
    """
    with (
        ExitStack() as files,
        # disable=None: none where stderr is no terminal.
        tqdm(total=num_steps, desc="filming", unit="step", dynamic_ncols=True, disable=None) as bar,
    ):
        writers = [files.enter_context(_mp4(path, frames_per_second)) for path in paths]
        write_grid = (
            files.enter_context(_mp4(grid_path, frames_per_second))
            if grid_path is not None
            else None
        )
        for moment in _together(list(scenes.values())):
            pictures = [
                frame(
                    dict(zip(scenes, shots, strict=True)),
                    task=label,
                    gauges=gauge,
                    tasks=tuple(labels),
                )
                for *shots, label, gauge in zip(*moment, labels, gauges, strict=True)
            ]
            for write, picture in zip(writers, pictures, strict=True):
                write(picture)
            if write_grid is not None:
                write_grid(grid(pictures))
            bar.update()


def target_gauges(tasks: Any, world: int) -> dict[str, Gauge]:
    """A gauge for each target a task has: its field `target_velocity` is the target of the step's
    term `velocity`.

    All worlds get the same range, so that videos can be compared: from −½ to 1½ times the largest
    target.
    """
    gauges = {}
    for name, values in vars(tasks).items():
        if name.startswith("target_") and values.ndim == 1:
            reach = max(values.abs().max().item(), 1e-6)
            low = -0.5 * reach if values.min() >= 0 else -1.5 * reach
            gauges[name.removeprefix("target_")] = Gauge(
                target=values[world].item(), low=low, high=1.5 * reach
            )
    return gauges


def frames_per_second(env: BatchedEnv) -> float:
    """One picture for each control step: at the speed of the world, if it has physical time, or as
    its metadata say; else fast enough for an episode to be over soon and slow enough for its steps
    to be followed."""
    if env.control_step is not None:
        return 1 / env.control_step
    if env.render_fps is not None:
        return env.render_fps
    return min(FASTEST, max(SLOWEST, env.spec.horizon / EPISODE))


def _moment(env: BatchedEnv, num_steps: int) -> str:
    seconds = env.control_step
    return f"step {num_steps}" if seconds is None else f"{num_steps * seconds:.2f} s"


def _picture(env: BatchedEnv, world: int, width: int, height: int) -> np.ndarray:
    try:
        return env.render(world, width=width, height=height)
    # what `render` raises where no GL library is found; it names the package to install
    except RuntimeError as error:
        raise UserError(str(error)) from error


def _believed(beliefs: Sequence[Belief | None], world: int, env: BatchedEnv) -> BeliefSoFar | None:
    """Returns the belief in one world so far, from what was believed before an episode and after
    each step."""
    known = [belief for belief in beliefs if belief is not None]
    if not known:
        return None
    return BeliefSoFar(
        mean=np.stack([belief.mean[world].cpu().numpy() for belief in known]),
        deviation=np.stack([belief.deviation[world].cpu().numpy() for belief in known]),
        num_steps=env.spec.horizon,
        chances=as_map(known[-1], world, env),
        marked=tuple(env.spec.changes.values()),
    )


def _together(scenes: Sequence[Iterator[list[Shot]]]) -> Iterator[list[list[Shot]]]:
    """The scenes in step, each staying at its end until all have ended."""
    present = [next(scene) for scene in scenes]
    moved = True
    while moved:
        yield present
        following = [next(scene, None) for scene in scenes]
        moved = any(shots is not None for shots in following)
        present = [
            _over(old) if new is None else new for old, new in zip(present, following, strict=True)
        ]


def _over(shots: list[Shot]) -> list[Shot]:
    return [replace(shot, over=True) for shot in shots]


@contextmanager
def _mp4(path: Path, frames_per_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that appends a frame [H, W, 3] uint8; the file has its name only when it is
    whole."""
    make_folder(path.parent)
    options = [
        "-f",
        "mp4",
        "-crf",
        "20",
        "-preset",
        "veryfast",
        "-threads",
        "1",
        "-movflags",
        "+faststart",
    ]
    import imageio_ffmpeg  # Here, for without films nothing needs it.

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:  # Its package brings none for this system.
        raise UserError(
            "a video needs the program ffmpeg: install it, or name it by IMAGEIO_FFMPEG_EXE"
        ) from error
    writer: Any = None
    with replacing(path) as temporary:
        temporary.touch()  # so that a folder one can't write to is an OSError, not ffmpeg's log

        def write(picture: np.ndarray) -> None:
            nonlocal writer
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(temporary),
                    (picture.shape[1], picture.shape[0]),
                    fps=frames_per_second,
                    codec="libx264",
                    pix_fmt_out="yuv420p",
                    quality=None,
                    macro_block_size=2,
                    output_params=options,
                    ffmpeg_log_level="error",  # a warning says that few pictures tell no rate
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(picture))

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()
