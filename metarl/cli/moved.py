"""Configurations keep the names of what they call, also after that has moved. Old names mean the
new place."""

from typing import Any

MOVED = {
    "metarl.rl.policies.mlp_policy": "metarl.rl.models.policies.mlp_policy",
    "metarl.rl.memory_model.MemoryModel": "metarl.rl.models.memory.MemoryModel",
    "metarl.rl.models.feed_forward_dynamics": "metarl.rl.models.dynamics.feed_forward_dynamics",
    "metarl.rl.models.recurrent_dynamics": "metarl.rl.models.dynamics.recurrent_dynamics",
}
"""Names that checkpoints, and configs of one's own, may have from versions before."""


def present_name(value: Any) -> Any:
    """Returns the present name of what was once called `value`, and every other value as it is."""
    return MOVED.get(value, value) if isinstance(value, str) else value
