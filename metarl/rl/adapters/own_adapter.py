"""An adapter of a user's own, asked while it plays whether its states are values: evaluations and
films go back to a state from before, and would show in silence what a later one does."""

from typing import Any

import torch
from torch import Tensor

from metarl.core.whose import is_ours
from metarl.described import described
from metarl.errors import SettingError
from metarl.rl.types import Act, BatchedEnv, RLAdapter


class ValueTrial:
    """Remembers what an adapter most likely does in a state, to ask it again later. One that is
    metarl's is asked nothing.

    Args:
      env: whose observations it sees; here all are 0.
      whose: an adapter of the class in question, where that one only asks several of it.
    """

    def __init__(
        self,
        adapter: RLAdapter[Any],
        state: Any,
        env: BatchedEnv,
        device: torch.device | str,
        *,
        whose: RLAdapter[Any],
    ) -> None:
        self._before: Tensor | None = None
        self._name = type(whose).__name__
        if not is_ours(type(whose)):
            obs = torch.zeros(env.num_worlds, *env.observation_space.shape, device=device)
            self._adapter, self._state, self._obs = adapter, state, obs
            self._before = self._action()

    def check(self, when: str) -> None:
        """Raises: SettingError naming the adapter, if it does something else now. Args: when: what
        has happened since."""
        if self._before is not None and not torch.equal(self._action(), self._before):
            raise SettingError(
                f"{self._name} acts otherwise {when}, from the same state and the same "
                "observation; expected all that it has learned to be in the state that its methods "
                "return, nothing on itself, and no state to be written to"
            )

    def _action(self) -> Tensor:
        act = checked_act(self._adapter, self._adapter.act(self._state, self._obs, None))
        return act.action.clone()


def checked_act(adapter: RLAdapter[Any], act: Any) -> Act:
    """What `act` has returned. Raises: SettingError if it isn't an Act."""
    if not isinstance(act, Act):
        raise SettingError(
            f"{type(adapter).__name__}.act returned {described(act)}; expected an Act of "
            "metarl.rl.types"
        )
    return act


def check_state(adapter: RLAdapter[Any], method: str, state: Any, before: Any) -> None:
    """Raises: SettingError for a method that should have returned a state and returned None."""
    if state is None and before is not None:
        raise SettingError(
            f"{type(adapter).__name__}.{method} returned None; expected the state after it"
        )
