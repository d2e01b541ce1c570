"""Stable-Baselines3 itself: an extra that may be missing, whose random numbers are global."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from metarl.errors import UserError
from metarl.noise import Noise
from metarl.threads import one_thread

_ALONE = threading.Lock()


def library() -> Any:
    """The module stable_baselines3. Raises: UserError if it isn't installed."""
    try:
        import stable_baselines3
    except ImportError as error:
        raise UserError(
            "this learner is Stable-Baselines3's, which isn't installed; expected "
            "pip install 'metarl[sb3]'"
        ) from error
    return stable_baselines3


@contextmanager
def seeded(noise: Noise | None, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, the global random numbers of torch and numpy follow from the next draw of `noise`;
    behind, they are what they were. One thread at a time, on one thread of torch.

    Args: noise: None: always the same numbers.
    """
    seed = 0 if noise is None else int(noise.whole.integers(2**31, 1))
    on_gpu = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with _ALONE, one_thread(), torch.random.fork_rng(devices=on_gpu):
        before = np.random.get_state()  # noqa: NPY002  # Its buffers draw from it.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@contextmanager
def finite() -> Iterator[None]:
    """Around a training: policies of Stable-Baselines3 that have come to numbers that aren't finite
    end it by a ValueError of torch's distributions.

    Raises: FloatingPointError in its place, as all our learners do.
    """
    try:
        yield
    except ValueError as error:
        if found := re.match(r"Expected parameter (\w+)", str(error)):
            raise FloatingPointError(f"the policy's {found[1]}: not finite") from error
        raise


def without_environment(
    algorithm: Any,
    policy: nn.Module,
    spaces: tuple[gymnasium.Space, gymnasium.Space],
    device: torch.device,
    **settings: Any,
) -> Any:
    """An algorithm of Stable-Baselines3 that works in the networks of `policy`. It never steps an
    environment, so it gets none."""
    from stable_baselines3.common.logger import Logger

    def given(*_: Any, **__: Any) -> nn.Module:
        return policy

    made = algorithm("MlpPolicy", None, device=device, _init_setup_model=False, **settings)
    made.observation_space, made.action_space = spaces
    made.n_envs, made.policy_class = 1, given
    made._setup_model()
    made.set_logger(Logger(folder=None, output_formats=[]))
    return made
