"""Streams that were saved on another kind of device."""

import pytest
import torch

from metarl.run.seeding import Generators


def streams() -> Generators:
    made = Generators(0)
    made("policy")
    return made


def of_a_gpu(first: int) -> torch.Tensor:
    return torch.full((16,), first, dtype=torch.uint8)


def test_a_stream_of_another_kind_of_device_begins_anew_from_its_state() -> None:
    drawn = []
    for first in (1, 1, 2):
        made = streams()
        assert made.load_state_dict({"policy": of_a_gpu(first)}) == ["policy"]
        drawn.append(torch.rand(3, generator=made("policy")).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_stream_of_this_kind_goes_on() -> None:
    before, after = streams(), streams()
    torch.rand(5, generator=before("policy"))
    assert after.load_state_dict(before.state_dict()) == []
    assert torch.equal(
        torch.rand(3, generator=before("policy")), torch.rand(3, generator=after("policy"))
    )


@pytest.mark.parametrize("state", [of_a_gpu(1)[:15], of_a_gpu(1).float(), of_a_gpu(1)[None]])
def test_what_is_no_state_of_any_device_is_refused(state: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="saved random stream policy isn't the state of a gen"):
        streams().load_state_dict({"policy": state})
