"""Trained learners that come with metarl: `checkpoint=zoo:bandit/rl2_ppo` on every command, and
`metarl.load("bandit/rl2_ppo")`.

Each is a file in the rooms beside this one, <environment or dataset>/<learner>.pt: the weights
alone, with the configuration, the spec hash, the learning curve, the evaluation of these very
weights, and the command, the commit and the machine that made them. Loading it executes nothing. It
can't be resumed: the optimizer isn't in it. scripts/zoo.py packs a finished run folder.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.choices import did_you_mean
from metarl.errors import UserError
from metarl.run import archive
from metarl.struct import map_tensors

PREFIX = "zoo:"
FOLDER = Path(__file__).parent
LARGEST = 3_500_000
"""Bytes of all files together, so that the package stays small."""

_KIND = "policy"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_OF_TRAINING = ("optimizer", "schedule", "moments", "experience")
"""Entries of a learner's state that only training needs, at any depth."""
_FEW = 1024  # numbers; smaller tensors, as running statistics, are kept exactly


def names(folder: Path | None = None) -> list[str]:
    """What there is, for instance bandit/rl2_ppo.

    Args: folder: None, here and below, for ours. Raises: UserError if it is none.
    """
    folder = FOLDER if folder is None else Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected one of packed files, or none for ours")
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in _files(folder))


def path(name: str, folder: Path | None = None) -> Path:
    """The file of this name, with or without `zoo:`. Raises: UserError with the closest name."""
    name = name.removeprefix(PREFIX)
    if name not in names(folder):
        raise UserError(f"{PREFIX}{name}: {unknown(name, folder)}")
    return (folder or FOLDER) / f"{name}.pt"


def unknown(name: str, folder: Path | None = None) -> str:
    """What to say of a name that isn't there."""
    known = names(folder)
    hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'nothing'}"
    return f"the zoo has no {name or 'file without a name'}{hint}"


def read(name: str, folder: Path | None = None) -> dict[str, Any]:
    """The content of a file. Raises: UserError if there is none of that name, or it is damaged."""
    return read_file(path(name, folder))


def is_packed(file: Path) -> bool:
    """Whether this is a file as `write` makes it, wherever it lies."""
    return archive.is_of(file, _KIND)


def read_file(file: Path) -> dict[str, Any]:
    """The content of such a file. Raises: UserError if it is damaged."""
    content = archive.read(file, _KIND)
    if isinstance(content.get("made_by"), dict):
        # As files of earlier versions call it. Now that is what a user's environment is made of.
        content["training"] = content.pop("made_by")
    return content


def write(
    name: str,
    content: Mapping[str, Any],
    folder: Path | None = None,
    *,
    replace: bool = False,
    largest: int = LARGEST,
) -> Path:
    """Writes a file of the zoo. Raises: UserError as `check_free` does, or if all would be larger
    than the package may be."""
    place = check_free(name, folder, replace=replace)
    folder, packed = folder or FOLDER, archive.packed(content)
    others = sum(file.stat().st_size for file in _files(folder) if file != place)
    if others + len(packed.payload) > largest:
        raise UserError(
            f"{name} has {len(packed.payload)} bytes beside {others} of the others; expected at "
            f"most {largest} in all"
        )
    archive.write(place, _KIND, packed)
    return place


def check_free(name: str, folder: Path | None = None, *, replace: bool) -> Path:
    """The file that would have this name. Raises: UserError for a name that isn't of two parts, or
    is taken, unless it is to `replace` that one."""
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"name={name}: expected <environment or dataset>/<learner>, of letters, digits, _, - "
            "and dots"
        )
    place = (folder or FOLDER) / f"{name}.pt"
    if place.exists() and not replace:
        raise UserError(
            f"name={name}: {place} is there already; expected another name, output=<folder>, or "
            "replace=true"
        )
    return place


def weights(state: Any, *, half: bool) -> Any:
    """A learner's state without what only training needs.

    Args: half: large tensors lose half of their digits (float16), and need half of the room.
    """
    if isinstance(state, Mapping):
        kept = {key: part for key, part in state.items() if key not in _OF_TRAINING}
        return {key: weights(part, half=half) for key, part in kept.items()}
    return map_tensors(lambda leaf: _packed(leaf, half=half), state)


def completed(found: Any, fresh: Any) -> Any:
    """Weights as a learner takes them: in the types of a fresh learner's state, which also gives
    what is left out."""
    if isinstance(fresh, Mapping) and isinstance(found, Mapping):
        named = {key: completed(part, fresh.get(key)) for key, part in found.items()}
        left_out = {key: fresh[key] for key in fresh if key in _OF_TRAINING and key not in found}
        return named | left_out
    if isinstance(found, Tensor) and isinstance(fresh, Tensor) and found.dtype == torch.float16:
        return found.to(fresh.dtype)
    return found


def without_training(state: Any) -> Any:
    """A learner's state with zeros in place of what `weights` leaves out: whoever answers with it
    answers as the file's learner will."""
    if not isinstance(state, Mapping):
        return state
    return {
        key: map_tensors(torch.zeros_like, part) if key in _OF_TRAINING else without_training(part)
        for key, part in state.items()
    }


def _packed(leaf: Tensor, *, half: bool) -> Tensor:
    leaf = leaf.detach().cpu().clone()
    return leaf.half() if half and leaf.is_floating_point() and leaf.numel() >= _FEW else leaf


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.pt"))
