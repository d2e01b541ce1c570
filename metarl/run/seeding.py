"""One seed -> named random generators, so that adding a draw in one place doesn't change the
numbers of another."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.errors import SettingError

_BYTES_OF_A_STATE = {len(torch.Generator().get_state()), 16}  # of a CPU's generator, of a GPU's


class Generators:
    """Named torch generators made from one seed on first use.

    The stream of a name depends on the seed and the name only, not on which others exist or when
    they are made.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 2**63:
            raise SettingError(f"seed {seed}: expected an integer from 0 to 2^63 - 1")
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def __call__(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of this name; its device is fixed by the first call."""
        if name not in self._generators:
            generator = torch.Generator(device)
            generator.manual_seed(seed_from(f"{self.seed}/{name}".encode()))
            self._generators[name] = generator
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, states: Mapping[str, Tensor]) -> list[str]:
        """Returns: the names of the streams that were saved on another kind of device. Generators of
        a CPU and of a GPU can't take each other's states, so these streams begin anew, from a seed
        that the saved state gives.

        Raises: ValueError if the saved streams aren't the present ones: a state would be lost, or a
        stream begin anew, silently; or if one isn't the state of a generator.
        """
        if not isinstance(states, Mapping):
            raise ValueError(f"saved random streams are a {type(states).__name__}; expected a dict")
        saved, present = sorted(map(str, states)), sorted(self._generators)
        if saved != present:
            raise ValueError(
                f"saved random streams are {', '.join(saved) or 'none'}; used here: "
                f"{', '.join(present)}"
            )
        return [name for name, state in states.items() if not self._goes_on(name, state)]

    def _goes_on(self, name: str, state: Any) -> bool:
        generator = self._generators[name]
        try:
            state = state.cpu()
            if _is_of_another_kind(state, generator):
                generator.manual_seed(seed_from(state.numpy().tobytes()))
                return False
            generator.set_state(state)
        except (AttributeError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"saved random stream {name} isn't the state of a generator"
            ) from error
        return True


def _is_of_another_kind(state: Tensor, generator: torch.Generator) -> bool:
    """Whether this is the state of a generator of a GPU and the generator is of a CPU, or the other
    way round: the sizes tell."""
    return (
        state.dtype == torch.uint8
        and state.dim() == 1
        and len(state) in _BYTES_OF_A_STATE
        and len(state) != len(generator.get_state())
    )


def seed_from(words: bytes) -> int:
    """A seed of 63 bits that depends on all of the words."""
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "little") >> 1
