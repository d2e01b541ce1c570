"""One seed -> named random generators, so that adding a draw in one place doesn't change the
numbers of another."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.errors import SettingError


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
            digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
            generator = torch.Generator(device)
            generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            self._generators[name] = generator
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, states: Mapping[str, Tensor]) -> None:
        """Raises: ValueError if the saved streams aren't the present ones: a state would be lost,
        or a stream begin anew, silently; or if one isn't the state of a generator."""
        if not isinstance(states, Mapping):
            raise ValueError(f"saved random streams are a {type(states).__name__}; expected a dict")
        saved, present = sorted(map(str, states)), sorted(self._generators)
        if saved != present:
            raise ValueError(
                f"saved random streams are {', '.join(saved) or 'none'}; used here: "
                f"{', '.join(present)}"
            )
        for name, state in states.items():
            try:
                self._generators[name].set_state(state.cpu())
            except (AttributeError, RuntimeError, TypeError) as error:
                raise ValueError(
                    f"saved random stream {name} isn't the state of a generator"
                ) from error
