"""What is set for a device."""

import pytest
import torch

from metarl.nn.recurrent import GRU
from metarl.run.device import used


def test_a_gpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.backends.cuda.matmul.allow_tf32 = True  # which `used` takes back
    assert used(torch.device("cpu")) == torch.device("cpu")
    assert torch.backends.cudnn.allow_tf32
    assert used(torch.device("cuda")) == torch.device("cuda")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.gpu
def test_a_memory_on_a_gpu_is_the_same_step_by_step_and_as_a_sequence() -> None:
    device = used(torch.device("cuda"))
    memory = GRU(20, 64, generator=torch.Generator().manual_seed(0)).to(device)
    x = torch.randn(50, 8, 20, generator=torch.Generator().manual_seed(1)).to(device)
    state, steps = memory.initial(8), []
    for row in x:
        _, state = memory.step(row, state)
        steps.append(state)
    torch.testing.assert_close(memory.sequence(x), torch.stack(steps), rtol=1e-5, atol=1e-5)
