import gymnasium
import numpy as np
import pytest
import torch

from metarl.noise import Noise
from metarl.rl.adapters.uniform import UniformActions


def test_uniform_actions_fill_the_box_evenly():
    space = gymnasium.spaces.Box(
        np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
    )
    act = UniformActions(space).act(None, torch.zeros(4000, 3), Noise(torch.Generator()))
    action, log_prob = act.action, act.log_prob
    assert action.shape == (4000, 2)
    # Standard errors 4 / √12 / √4000 = .018 and .0046.
    torch.testing.assert_close(action.mean(0), torch.tensor([0.0, 0.5]), atol=0.08, rtol=0)
    torch.testing.assert_close(action.std(0), torch.tensor([4.0, 1.0]) / 12**0.5, atol=0.05, rtol=0)
    torch.testing.assert_close(log_prob.exp(), torch.full((4000,), 1 / 4))  # 1 over the area
    act = UniformActions(gymnasium.spaces.Discrete(5)).act(
        None, torch.zeros(500, 1), Noise(torch.Generator())
    )
    arms, log_prob = act.action, act.log_prob
    assert arms.dtype == torch.int64
    assert set(arms.tolist()) == {0, 1, 2, 3, 4}
    torch.testing.assert_close(log_prob.exp(), torch.full((500,), 0.2))
    with pytest.raises(ValueError, match="finite bounds"):
        UniformActions(gymnasium.spaces.Box(-np.inf, np.inf, (1,)))
