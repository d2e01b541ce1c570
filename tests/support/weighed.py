"""A learner of someone's own, whose loss has a weight that is the learner's state."""

from typing import Any

from torch import Tensor

from metarl.rl.algorithms.maml_ppo import MamlPPO


class Weighed(MamlPPO):
    weight = 1.0

    def outer_loss(self, outputs: Any, batch: Any) -> Tensor:
        return self.weight * super().outer_loss(outputs, batch)
