"""Writes docs/environments.md: all environments, from the docstrings of their modules and from
their specs.

    python docs/environments.py             # the text, and missing pictures in docs/pictures/
    python docs/environments.py --pictures  # all pictures anew

Every module of an environment needs tables that begin with `| obs |` and `| action |` (in its
docstring or in that of the file with the environment's class) and a paragraph that begins with
`Source`.
"""

import dataclasses
import functools
import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import envs  # noqa: E402
from envs.mujoco.env import MujocoEnv  # noqa: E402
from metarl.cli.benchmarks.parity import EXCEPTIONS, TOLERANCE  # noqa: E402
from metarl.files import write_atomically, write_text  # noqa: E402
from metarl.gymnasium_plugin import gym_id  # noqa: E402
from metarl.noise import Noise  # noqa: E402

PAGE = ROOT / "docs/environments.md"
PICTURES = ROOT / "docs/pictures"
SPEEDS = ROOT / "results/benchmarks_sim.jsonl"
PARITY = ROOT / "results/parity_warp.jsonl"
FORM = "envs/mujoco/half_cheetah.py"

HEAD = """\
# Environments

Made by `python docs/environments.py` from the docstrings in envs/ and from each environment's
`spec`. A result belongs to an environment of this list and its spec hash: it changes with
everything that defines the problem. *T* is the time limit in control steps. Tasks: how many there
are for training (∞: a new one each time) and how many are held out for the test by default.

With `env.shows_task=true` (in Python `envs.make(..., shows_task=True)`) each of them is an
oracle's: behind the observation stand the fields of the world's task one after the other, each from
−1 to 1 over the prior's range. It has a spec hash of its own, and the same tasks for training and
test.

[Gymnasium](gymnasium.md) knows them, too, by the ids below. *A task* has these fields, each a number
or numbers of this shape.
"""

SPEED_HEAD = """\
## Speed

Control steps of all worlds together in a second, measured by `python scripts/benchmark.py sim
env=<name>`; shares are medians over interleaved rounds. *Physics*: the batched simulator, as a
share of two raw C loops over `mj_step` on as many threads. One plays each world to its end, and its
threads never wait. The other's threads wait after every control step until all worlds have taken
it, as they must for whoever chooses the next actions, and as the simulator's do: a core that is
slow for a moment delays both alike. *Outside physics*: observation, reward and bookkeeping, as a
share of an environment's step: some twenty torch operations, each of which physics has pushed out
of the caches. half_cheetah's `_maml` variants take one physics step a control step, where the
others take five: hence the large share outside. The machine's own speed differed by a tenth from
round to round, as rows of environments with the same physics show, and is about half of that behind
the README's row: read the shares, not the steps. walker2d_rand_params_pearl was measured here and below
with four physics steps a control step; it has five since.
"""


DEVIATION_HEAD = """\
## MuJoCo Warp

How far `sim=warp` is from MuJoCo's C engine, in which the problems are defined, measured by
`python scripts/benchmark.py parity env=<name>` on Warp's CPU device in eight worlds: the largest
difference of a number of qpos (m or rad) and of the reward, from the same float32 starts and under
the same random actions. *One step*: a control step, from all states of the C engine's trajectory;
it is held to the tolerance. *20 steps*: at their end, in brackets the median world. Chaos makes
much of little there, as the C engine itself shows from starts that differ by float32's rounding
(*C engine rounded*). No flag of termination or divergence differed.

The tolerance is {qpos:g} in qpos and {reward:g} in reward: float32 has 7 digits, so a length near
1 m is off by 1e-7, and the stiff contacts of a control step make 10 to 100 times that of it.
"""


def page() -> str:
    """The whole text of docs/environments.md."""
    files = {
        family.__name__: [envs.make(name, 1, num_threads=1) for name in family.VARIANTS]
        for family in envs.FAMILIES
    }
    summary = [
        summary_row(title(module), env) for module, members in files.items() for env in members
    ]
    overview = table(("environment", "obs", "action", "T", "tasks"), summary)
    speed = speeds(SPEEDS.read_text("utf-8").splitlines()) if SPEEDS.exists() else ""
    apart = deviations(PARITY.read_text("utf-8").splitlines()) if PARITY.exists() else ""
    return "\n".join(
        filter(None, [HEAD, overview, speed, apart, *map(section, files, files.values())])
    )


def section(module: str, members: list[Any]) -> str:
    """Heading, pictures of one environment of each family, docstring and the table of the specs of
    a module's environments."""
    file = module.replace(".", "/") + ".py"
    texts = (
        inspect.getdoc(sys.modules[name]) or "" for name in (module, type(members[0]).__module__)
    )
    first, rest = parts(file, *texts)
    names = pictured(members)
    pictures = table(names, [[f"![{name}](pictures/{name}.jpg)" for name in names]])
    if not isinstance(members[0], MujocoEnv):  # A drawing, which needs to be explained.
        pictures += "\n" + (inspect.getdoc(type(members[0]).render) or "") + "\n"
    head = (
        "environment",
        "for Gymnasium",
        "control step",
        "action_scale",
        "a task",
        "range of the tasks",
        "tasks",
        "spec hash",
    )
    specs = table(head, map(spec_row, members))
    heading, code = f"## {title(module)}", f"Code: [{file}](../{file})\n"
    return "\n\n".join([heading, first, pictures + "\n" + rest, specs + "\n" + code])


def title(module: str) -> str:
    """What a module's environments are about: envs.mujoco.ant is ant, envs.mujoco.arm.env is
    arm."""
    return module.removesuffix(".env").split(".")[-1]


def parts(file: str, text: str, of_class: str) -> tuple[str, str]:
    """The first paragraph of a docstring and the rest, with the tables of obs and action, perhaps
    from the class's file.

    Raises: ValueError naming the file and what its docstring lacks.
    """
    first, _, rest = text.partition("\n\n")
    for kind in ("action", "obs"):
        form = re.compile(rf"^\| {kind} \|.*(?:\n\|.*)+", re.MULTILINE)
        if not form.search(rest):
            found = form.search(of_class)
            if found is None:
                raise ValueError(
                    f"{file}: its docstring has no table that begins `| {kind} |`; expected as in "
                    f"{FORM}"
                )
            rest = f"{found[0]}\n\n{rest}"
    if not re.search(r"^Sources?:? ", rest, re.MULTILINE):
        raise ValueError(
            f"{file}: its docstring has no paragraph that begins with `Source:`; expected as in "
            f"{FORM}"
        )
    return first, rest


def summary_row(section: str, env: Any) -> list[str]:
    spaces = env.observation_space, env.action_space
    sizes = [
        f"choice of {space.n}" if hasattr(space, "n") else str(space.shape[0]) for space in spaces
    ]
    return [
        f"[`{env.spec.name}`](#{section})",
        *sizes,
        str(env.spec.horizon),
        tasks(env.spec.definition["split"]),
    ]


def spec_row(env: Any) -> list[str]:
    given = env.spec.definition
    step = f"{given['frame_skip']} · {given['physics_step']:g} s" if "frame_skip" in given else "–"
    bounds = env.prior.bounds.items()
    ranges = ", ".join(f"{name} {number(low)} … {number(high)}" for name, (low, high) in bounds)
    scale = f"{given['action_scale']:g}" if "action_scale" in given else "–"
    ranges = ranges.replace("-", "−").replace("inf", "∞")
    one = env.prior.test_tasks(1)
    shapes = {
        field.name: list(getattr(one, field.name).shape[1:]) for field in dataclasses.fields(one)
    }
    task = ", ".join(
        f"`{name}` {shape}" if shape else f"`{name}`" for name, shape in shapes.items()
    )
    return [
        f"`{env.spec.name}`",
        f"`{gym_id(env.spec.name)}`",
        step,
        scale,
        task,
        ranges,
        tasks(given["split"]),
        f"`{env.spec.spec_hash}`",
    ]


def number(value: Any) -> str:
    """A number, or a bracket of one for each element."""
    return f"({', '.join(map(number, value))})" if isinstance(value, tuple) else f"{value:.4g}"


def tasks(split: dict[str, Any]) -> str:
    if split["kind"] == "none":
        return f"{split['num_test']}, test the same"
    return f"{'∞' if split['num_train'] is None else split['num_train']}, test {split['num_test']}"


def speeds(lines: Iterable[str]) -> str:
    """The table of JSON lines as scripts/benchmark.py writes them; of an environment's rows the
    last ones count."""
    found: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, lines):
        found.setdefault(row["env"], {})[row["name"]] = row
    rows = []
    for name in (name for name in envs.ALL if name in found):
        step, physics = found[name]["env.step"], found[name].get("CpuSimulator.step", {})
        shares = [
            row.get(key)
            for row in (physics, step)
            for key in ("share_of_raw_loop", "share_of_waiting_loop")
        ]
        shown = [
            "–" if share is None else f"{share:.3f}"
            for share in [*shares, step.get("share_outside_physics")]
        ]
        machine = f"{step['num_worlds']} on {step['num_threads'] or 1}"
        rows.append([f"`{name}`", f"{step['steps_per_second']:,.0f}", *shown, machine])
    loops = ("C loop", "waiting C loop")
    ratios = [f"{ours} / {loop}" for ours in ("physics", "env.step") for loop in loops]
    head = ("environment", "steps/s", *ratios, "outside physics", "worlds on threads")
    return SPEED_HEAD + "\n" + table(head, rows) if rows else ""


def deviations(lines: Iterable[str]) -> str:
    """The table of JSON lines as `scripts/benchmark.py parity` writes them; of an environment's
    rows the last one counts."""
    found = {row["env"]: row for row in map(json.loads, lines)}
    rows = []
    for name in (name for name in envs.ALL if name in found):
        row, one = found[name], found[name]["one_step"]
        tolerance, why = EXCEPTIONS.get(name, (TOLERANCE, ""))
        held = "held" if all(one[key] <= most for key, most in tolerance.items()) else "**missed**"
        notes = [f"{held} at {tolerance['qpos']:g}: {why}" if why else held, row["solver"]]
        numbers = [one["qpos"], one["reward"], row["qpos"], row["qpos_rounded"], row["reward"]]
        shown = [f"{value:.0e}" if value else "0" for value in numbers]
        shown[2] += f" ({row['qpos_median']:.0e})"
        rows.append([f"`{name}`", *shown, "; ".join(filter(None, notes))])
    head = ("environment", "one step: qpos", "reward", "20 steps: qpos", "C engine rounded")
    return DEVIATION_HEAD.format(**TOLERANCE) + "\n" + table([*head, "reward", "tolerance"], rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def pictured(members: Iterable[Any]) -> list[str]:
    """The first environment of each family: its variants look like it."""
    firsts: dict[str, str] = {}
    for env in members:
        firsts.setdefault(env.spec.family, env.spec.name)
    return list(firsts.values())


def draw(*, anew: bool) -> None:
    """The pictures in docs/pictures/: the first test task after some random steps."""
    PICTURES.mkdir(exist_ok=True)
    for name in pictured(envs.make(name, 1, num_threads=1) for name in envs.ALL):
        if (PICTURES / f"{name}.jpg").exists() and not anew:
            continue
        env = envs.make(name, 1, num_threads=1)
        env.set_tasks(env.prior.test_tasks(1))
        env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
        env.action_space.seed(0)
        for _ in range(12):
            env.step(torch.as_tensor(env.action_space.sample())[None])
        picture = Image.fromarray(env.render(0, width=320, height=240))
        write_atomically(
            PICTURES / f"{name}.jpg", functools.partial(picture.save, format="JPEG", quality=85)
        )
        env.close()


if __name__ == "__main__":
    write_text(PAGE, page())
    draw(anew="--pictures" in sys.argv[1:])
