"""Compares meta-updates of policies with the plain loop over tasks: their speed and their memory.

Every variant runs in a process of its own, in turn with the others; a ratio is the median of the
rounds' ratios.
"""

from collections.abc import Sequence
from typing import Any

from metarl.cli.benchmarks import advantages
from metarl.cli.benchmarks import memory_updates as memory
from metarl.cli.benchmarks import off_policy_updates as off_policy
from metarl.cli.benchmarks import policy_updates as policy
from metarl.cli.benchmarks.rows import Row, check_keys, run_rows

ROWS = {
    "trpo": Row("TRPO outer step", (policy.trpo_plain, ()), (policy.trpo_ours, ()), 1.7, 0.35),
    "ppo": Row("PPO outer step, 5 epochs", (policy.ppo_plain, ()), (policy.ppo_ours, ()), 1.4, 0.5),
}
ROWS["advantages"] = Row(
    "returns, baseline fit and GAE, 40 tasks", (advantages.plain, ()), (advantages.ours, ()), 7.0
)
ROWS |= {
    "rl2": Row(
        "RL² epoch, 40 trials of 400 steps",
        (memory.epoch_plain, (400,)),
        (memory.epoch_ours, (400,)),
        1.0,
    ),
    "gru": Row(
        "GRU over 20 trials beside torch's layer",
        (memory.gru_of_torch, (400, 20)),
        (memory.gru_ours, (400, 20)),
        1.5,
    ),
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

ROWS["sac"] = Row(
    "PEARL update of 4096 rows beside its bare matrix products",
    (off_policy.products, ()),
    (off_policy.ours, ()),
    0.6,  # of an update's time at least so much are the products
)

QUICK = ("trpo", "ppo", "advantages", "rl2", "rl2_linear")
"""The rows that take about a minute together."""


def run_update(
    keys: Sequence[str] = QUICK, rounds: int = 5, *, num_threads: int | None = None
) -> list[dict[str, Any]]:
    """Rows as `run_rows` measures them. Raises: UserError for keys that aren't in ROWS."""
    check_keys(keys, list(ROWS))
    return run_rows(ROWS, keys, rounds, num_threads=num_threads)
