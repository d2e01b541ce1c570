"""How fast meta-updates are beside the plain loop over tasks, and how much memory they take.

Every variant runs in a process of its own, in turn with the others; a ratio is the median of the rounds' ratios.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metarl._scripts.benchmarks import advantages
from metarl._scripts.benchmarks import few_shot_updates as few_shot
from metarl._scripts.benchmarks import memory_updates as memory
from metarl._scripts.benchmarks import policy_updates as policy
from metarl._scripts.benchmarks.interleaved import Factory, measure, speedup

Variant = tuple[Factory, Sequence[Any]]


@dataclass(frozen=True)
class Row:
    name: str
    plain: Variant
    ours: Variant
    speed_bar: float
    """At least this many times faster than the plain loop."""
    memory_bar: float | None = None
    """At most this share of the plain loop's added memory."""
    num_threads: int = 2


ROWS = {
    "trpo": Row("TRPO outer step", (policy.trpo_plain, ()), (policy.trpo_ours, ()), 1.7, 0.35),
    "ppo": Row("PPO outer step, 5 epochs", (policy.ppo_plain, ()), (policy.ppo_ours, ()), 1.4, 0.5),
}
ROWS["advantages"] = Row("returns, baseline fit and GAE, 40 tasks", (advantages.plain, ()), (advantages.ours, ()), 7.0)
for _steps in (1, 5):
    _args = (few_shot.sinusoid, _steps)
    ROWS[f"sinusoid{_steps}"] = Row(
        f"sinusoid MAML, {_steps} steps", (few_shot.plain, _args), (few_shot.written_out, _args), 8.0, num_threads=1
    )
    ROWS[f"sinusoid{_steps}_compiled"] = Row(
        f"sinusoid MAML, {_steps} steps, compiled",
        (few_shot.plain, _args),
        (few_shot.over_tasks, ("vmap", True, *_args)),
        20.0,
        num_threads=1,
    )
ROWS["omniglot_mlp"] = Row(
    "Omniglot MLP 5w1s",
    (few_shot.plain, (few_shot.omniglot_mlp, False)),
    (few_shot.low_rank, (few_shot.omniglot_mlp, True)),
    3.0,
)
for _key, _name, _bar, _problem in (
    ("conv4", "Conv4 pooled 5w1s, 32 tasks", 1.0, (False, 5, 32, 1)),
    ("conv4_strided", "Conv4 strided 5w1s, 32 tasks", 1.15, (True, 5, 32, 1)),
    ("conv4_20way", "Conv4 pooled 20w1s, 16 tasks, 5 steps", 1.15, (False, 20, 16, 5)),
):
    _args = (few_shot.conv4, *_problem)
    ROWS[_key] = Row(_name, (few_shot.plain, _args), (few_shot.over_tasks, ("auto", False, *_args)), _bar, 2.0)

ROWS |= {
    "rl2": Row("RL² epoch, 40 trials of 400 steps", (memory.epoch_plain, (400,)), (memory.epoch_ours, (400,)), 1.0),
    "rl2_linear": Row(
        "RL² epoch of 800 steps beside two of 400",
        (memory.twice, (memory.epoch_ours, 400)),
        (memory.epoch_ours, (800,)),
        0.9,  # linear in the trial's length
    ),
    "rl2_policy": Row(
        "a step of 64 half-cheetahs beside its policy's part, GRU-128",
        (memory.acting_with_env, ()),
        (memory.acting_alone, ()),
        4.0,  # at most a quarter
    ),
    "transformer": Row(
        "transformer step after 400 steps beside the whole trial anew",
        (memory.transformer_plain, (400,)),
        (memory.transformer_ours, (400,)),
        10.0,
    ),
    "transformer_linear": Row(
        "transformer step after 400 steps beside two after 200",
        (memory.twice, (memory.transformer_ours, 200)),
        (memory.transformer_ours, (400,)),
        0.9,  # at most linear in the trial so far
    ),
}

QUICK = ("trpo", "ppo", "advantages", "sinusoid1", "sinusoid5", "omniglot_mlp", "conv4_strided", "rl2", "rl2_linear")
"""Those that take a minute or so in all; the compiled ones compile for half a minute each, pooled Conv4 is slow."""


def run_update(rows: Sequence[str] = QUICK, rounds: int = 5, *, num_threads: int | None = None) -> list[dict[str, Any]]:
    """Measures the rows, prints a line each, and returns them as JSON-able dicts.

    Args:
      rows: keys of ROWS.
      num_threads: torch threads of both variants, the row's own number if None. On a machine that is busy with other
        things 1 gives steadier ratios: threads that wait for each other lose most of their time there.
    Raises: ValueError for an unknown one.
    """
    unknown = [key for key in rows if key not in ROWS]
    if unknown:
        raise ValueError(f"unknown rows {', '.join(unknown)}, expected some of {', '.join(ROWS)}")
    results = []
    for key in rows:
        results.append(_measured(key, ROWS[key], rounds, num_threads or ROWS[key].num_threads))
        print(json.dumps(results[-1]), flush=True)
    return results


def _measured(key: str, row: Row, rounds: int, num_threads: int) -> dict[str, Any]:
    both = measure({"plain": row.plain, "ours": row.ours}, num_rounds=rounds, num_threads=num_threads)
    plain, ours = both["plain"], both["ours"]
    result: dict[str, Any] = {
        "row": key,
        "name": row.name,
        "plain_s": plain.median,
        "ours_s": ours.median,
        "speedup": speedup(ours, plain),
        "speedup_bar": row.speed_bar,
        "plain_mib": plain.peak_mib,
        "ours_mib": ours.peak_mib,
        "memory_share": ours.peak_mib / max(plain.peak_mib, 1.0),
        "memory_bar": row.memory_bar,
        "rounds": rounds,
        "threads": num_threads,
    }
    fits = row.memory_bar is None or result["memory_share"] <= row.memory_bar
    return result | {"reached": result["speedup"] >= row.speed_bar and fits}
