"""What results call an algorithm."""

from collections.abc import Mapping
from typing import Any

_NO_MEMORY = "metarl.nn.recurrent.NoMemory"


def algo_name(config: Mapping[str, Any]) -> str:
    """Returns the name of a run's algorithm: the `name` in its settings. Files of configs/algo that
    share a class have one each, and so has an experiment that makes another learner of a class.

    Without one it is called after the chosen file, which config.yaml tells, or else after the last
    module of its `_target_`, metarl.rl.algorithms.rl2_ppo.RL2PPO. An RL² whose memory was taken
    away is a baseline beside RL², and called so.
    """
    if name := _at(config, "algo", "name"):
        return "".join(filter(str.isprintable, str(name)))[:80]
    target = str(_at(config, "algo", "_target_") or "")
    chosen = _at(config, "composed", "choices", "algo")
    name = str(chosen or target.rpartition(".")[0].rpartition(".")[2])
    memory = _at(config, "model", "memory", "_target_")
    return f"{name} without memory" if (name, memory) == ("rl2_ppo", _NO_MEMORY) else name


def _at(config: Any, *keys: str) -> Any:
    """The value at these keys, one inside the other; None where there is none."""
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
