"""Actions as learners have them, and as an environment gets them."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from metarl.errors import SettingError

MAX_CHOICES = 4096
"""The largest number of combinations that a MultiDiscrete may have, because each is a choice of one
Discrete."""


class Actions:
    """What of the meaning of an action changes the problem is in `definition`; it is {} if an
    action is given as it is.

    | the environment has | a learner has | meaning |
    |---|---|---|
    | Box, element with two bounds | numbers in [−1, 1] | −1 is the lower and 1 the upper bound; beyond, the bound |
    | Box, element without | any number | itself, clipped to the bound that there is |
    | Discrete | Discrete | itself |
    | MultiDiscrete, MultiBinary | Discrete | the combinations, the last component running fastest |

    Args: space: an action space as `Worlds.describe` has it.
    Raises: ValueError for any other space.
    """

    def __init__(self, space: Mapping[str, Any]) -> None:
        self._kind = space["kind"]
        self._dtype = np.dtype(space["dtype"])
        self._shape = space["shape"] or ()
        self.definition: dict[str, Any] = {}
        self.space: gymnasium.spaces.Box | gymnasium.spaces.Discrete
        if self._kind == "Discrete" and space["start"] == 0:
            self.space = gymnasium.spaces.Discrete(int(space["n"]))
        elif self._kind in ("MultiDiscrete", "MultiBinary"):
            counts = space["nvec"] if self._kind == "MultiDiscrete" else np.full(self._shape, 2)
            self._counts = np.ravel(counts)
            self._start = np.asarray(space.get("start", 0))
            num_choices = float(np.prod(self._counts, dtype=float))
            if num_choices > MAX_CHOICES:
                raise SettingError(
                    f"the action space is {space['shown']}, {num_choices:.0f} combinations; "
                    f"expected at most {MAX_CHOICES}"
                )
            self.space = gymnasium.spaces.Discrete(int(num_choices))
            self.definition = {"combinations_of": self._counts.tolist()}
        elif self._kind == "Box" and len(space["shape"]) == 1 and self._dtype.kind == "f":
            self._low = space["low"]
            self._high = space["high"]
            self._prepare_box()
        else:
            raise SettingError(
                f"the action space is {space['shown']}; expected a Box with one axis or Discrete "
                "from 0, or MultiDiscrete; "
                "a Box of floating-point numbers"
            )

    def given(self, actions: np.ndarray) -> np.ndarray:
        """[W, A] or [W] -> [W, ...], what the environments get, of their space's own dtype."""
        if self._kind == "Box":
            actions = actions.astype(float)
            value = self._centre + self._half * actions
            # Exactly the bounds at ±1, whatever rounding says.
            value = np.where(self._bounded & (actions <= -1), self._low, value)
            value = np.where(self._bounded & (actions >= 1), self._high, value)
            return value.astype(self._dtype).clip(self._low, self._high)
        if self._kind == "Discrete":
            return actions.astype(self._dtype)
        chosen = np.stack(np.unravel_index(actions, self._counts), axis=-1)
        return (chosen.reshape(len(actions), *self._shape) + self._start).astype(self._dtype)

    def asked(self, actions: np.ndarray) -> np.ndarray:
        """What a learner gives to get these, [W, ...] of the environments' space -> [W, A] float32
        or [W] int64. Beyond the bounds it is the bound."""
        if self._kind == "Box":
            inside = np.clip(actions, self._low, self._high).astype(float)
            half = np.where(self._half > 0, self._half, 1.0)
            return ((inside - self._centre) / half).astype(np.float32)
        if self._kind == "Discrete":
            return actions.astype(np.int64)
        parts = (actions - self._start).reshape(len(actions), -1).astype(np.int64)
        return np.ravel_multi_index(tuple(parts.T), self._counts).astype(np.int64)

    def standing_still(self) -> np.ndarray | None:
        """[A] float32: what is nearest to the environment's own 0; None where actions are
        choices."""
        return self.asked(np.zeros((1, *self._shape)))[0] if self._kind == "Box" else None

    def _prepare_box(self) -> None:
        self._bounded = np.isfinite(self._low) & np.isfinite(self._high)
        low, high = self._low.astype(float), self._high.astype(float)
        # Halves first: the width of the widest box isn't finite.
        with np.errstate(invalid="ignore"):
            self._centre = np.where(self._bounded, low / 2 + high / 2, 0.0)
            self._half = np.where(self._bounded, high / 2 - low / 2, 1.0)
        limit = np.where(self._bounded, 1.0, np.inf).astype(np.float32)
        self.space = gymnasium.spaces.Box(-limit, limit, dtype=np.float32)
        if (self._bounded & ((low != -1.0) | (high != 1.0))).any():
            self.definition = {"from": [-1.0, 1.0], "low": low.tolist(), "high": high.tolist()}
