"""Tells which problem a number belongs to: the definition of an environment, and its hash."""

import hashlib
import json
from typing import Any

from metarl.struct import struct


@struct
class EnvSpec:
    """Defines the problem that a number belongs to. Two results are comparable only if their
    `spec_hash` is equal."""

    name: str
    """The name on the command line, for instance half_cheetah_vel_promp."""
    family: str
    variant: str
    """`default`, or the published variant: maml, promp, ..."""
    horizon: int
    """Control steps after which an episode is truncated."""
    definition: dict[str, Any]
    """Everything else that defines the problem (JSON values): prior, split, physics step, action
    scale, noise, ..."""
    made_by: str | None = None
    """A digest of the code and the model that a user's environment is made of; None for ours, which
    the commit tells. It isn't in the hash, because a change of the code needn't change the problem:
    who compares numbers says where it differs."""

    @property
    def changes(self) -> dict[str, int]:
        """What happens at a known step of each episode: {"fails": 100} where the definition, or a
        user's settings in it, has `fails_at_step: 100`, and so with any other word."""
        settings = self.definition.get("settings")
        told = self.definition | (settings if isinstance(settings, dict) else {})
        return {
            name.removesuffix("_at_step"): value
            for name, value in told.items()
            if name.endswith("_at_step") and isinstance(value, int) and not isinstance(value, bool)
        }

    @property
    def hashes(self) -> dict[str, str]:
        """What results say of it: `spec_hash`, and `made_by` where there is one."""
        told = {} if self.made_by is None else {"made_by": self.made_by}
        return {"spec_hash": self.spec_hash, **told}

    @property
    def spec_hash(self) -> str:
        """12 hex digits over all fields but `made_by`; stable across processes and Python
        versions."""
        content = [self.name, self.family, self.variant, self.horizon, self.definition]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
