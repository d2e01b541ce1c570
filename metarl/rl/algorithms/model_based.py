"""What the model-based learners share: where their data comes from, how it is kept, and what an
iteration reports."""

from typing import Any

from torch import Tensor

from metarl.core import saved
from metarl.errors import NothingLearnable, SettingError
from metarl.nn.dynamics import TransitionNormaliser
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.shared import Iteration, Source, rollout_metrics
from metarl.rl.data.trial_buffer import TrialBuffer
from metarl.rl.data.trials import ALL_DIVERGED
from metarl.rl.types import RLAdapter


class Practice:
    """Plays trials, keeps them, and holds the model's normaliser to them. The first iterations act
    at random.

    Args: normaliser: of the model that learns from it; refitted to all trials after each gathering.
    """

    def __init__(
        self,
        *,
        source: Source,
        normaliser: TransitionNormaliser,
        random_iterations: int,
        buffer_trials: int,
    ) -> None:
        if random_iterations < 1:
            raise SettingError(
                f"random_iterations {random_iterations}: expected 1 or more, for a model needs "
                "data to plan"
            )
        self._source, env = source, source.env
        self._normaliser = normaliser
        self._random_iterations = random_iterations
        self._iteration = 0
        self.trials = TrialBuffer(
            capacity=buffer_trials,
            num_episodes=source.sizes.num_updates + 1,
            horizon=env.spec.horizon,
            obs_size=env.observation_space.shape[0],
            action_size=env.action_space.shape[0],  # type: ignore[index]  # the planner takes boxes only
            device=source.device,
        )

    def gather(self, adapter: RLAdapter[Any]) -> Iteration:
        """One trial in each world, on newly sampled training tasks; returns of its first and last
        episode, and counts."""
        if self._iteration < self._random_iterations:
            adapter = UniformActions(self._source.env.action_space)
        self._iteration += 1
        rollouts = yield adapter
        # Every process learns from all trials: planning takes far longer than learning.
        rollouts = self._source.ranks.whole(rollouts)
        self.trials.add((*rollouts.support, rollouts.query))
        if not len(self.trials):
            raise NothingLearnable(ALL_DIVERGED)
        self._normaliser.fit(self.trials.transitions())
        return rollout_metrics(rollouts)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state without the trials, which are an experience of their own."""
        return {"iteration": self._iteration}

    def load_state_dict(self, state: Any) -> None:
        """Raises: ValueError naming what doesn't fit."""
        saved.check(state, self.state_dict(), "experience", apart=("trials",))
        self._iteration = state["iteration"]
        if "trials" in state:  # Checkpoints had them here before they had files of their own.
            self.trials.load_rows(state["trials"], "experience.trials")


def squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over predicted numbers and unmasked rows: [..., B, O + 1], mask [..., B] -> [...]; 0
    where all is masked."""
    return ((prediction - target).square().mean(-1) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
