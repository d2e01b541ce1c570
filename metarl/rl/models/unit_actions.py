"""Maps between the actions of an environment and those of networks, which lie in [−1, 1].

Networks then see actions of the same size in every environment, and the entropy of a policy doesn't
depend on the unit in which an environment measures its actions.
"""

import gymnasium
import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.errors import SettingError
from metarl.nn.heads import Outputs
from metarl.nn.squashed import SquashedGaussianPolicy
from metarl.noise import Noise
from metarl.types import Params


class UnitActions(nn.Module):
    """A flat box [low, high]^A, to which [−1, 1]^A is stretched.

    Raises: SettingError for discrete actions, and for boxes without bounds.
    """

    def __init__(self, action_space: gymnasium.Space) -> None:
        super().__init__()
        if not (
            isinstance(action_space, gymnasium.spaces.Box)
            and len(action_space.shape) == 1
            and action_space.is_bounded()
        ):
            raise SettingError(
                f"action space is {action_space}: expected a flat Box with finite bounds, "
                "for the policy is the tanh of a Gaussian"
            )
        self.size = action_space.shape[0]
        self.low: Tensor
        self.high: Tensor
        for name in ("low", "high"):
            bound = torch.as_tensor(getattr(action_space, name), dtype=torch.float32)
            self.register_buffer(name, bound, persistent=False)

    def to_env(self, unit: Tensor) -> Tensor:
        """[..., A] in [−1, 1] -> the environment's. Rounding leads to none beyond its bounds."""
        stretched = self.low + 0.5 * (unit + 1) * (self.high - self.low)
        return stretched.clamp(self.low, self.high)

    def to_unit(self, action: Tensor) -> Tensor:
        """The inverse of `to_env`."""
        return 2 * (action - self.low) / (self.high - self.low) - 1

    @property
    def log_stretch(self) -> Tensor:
        """[] by how much the log-density of an action is below that of its unit action."""
        return (0.5 * (self.high - self.low)).log().sum()


class StretchedPolicy(nn.Module):
    """A squashed policy that acts in an environment's box, with densities over that box."""

    def __init__(self, policy: SquashedGaussianPolicy, actions: UnitActions) -> None:
        super().__init__()
        self.policy = policy
        self.actions = actions

    def forward(self, x: Tensor) -> Outputs:
        return self.policy(x)

    def with_params(self, params: Params, x: Tensor) -> Outputs:
        return self.policy.with_params(P.group(params, "policy"), x)

    def act(self, outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """An action [..., A] of the box and its log-probability; see
        `SquashedGaussianPolicy.act`."""
        unit, log_prob = self.policy.act(outputs, noise)
        return self.actions.to_env(unit), log_prob - self.actions.log_stretch
