"""Stands for Meta-World's own controllers: they move by a ten-thousandth of the goal that they
see."""

import numpy as np

from metaworld import NAMES


class Policy:
    def get_action(self, obs: np.ndarray) -> np.ndarray:
        return np.array([obs[-1] / 10_000, 7.0, 0.0, 0.0])


ENV_POLICY_MAP = dict.fromkeys(NAMES, Policy)
