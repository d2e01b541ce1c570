"""Several processes that share the work of one run, as torchrun starts them.

    torchrun --nproc-per-node=4 scripts/train.py ...

Each plays and differentiates a part of the tasks. What they need of each other is gathered from all
and added up in the order of the processes, so that all have the same numbers to the last bit, and
do the same with them. Process 0 alone writes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.utils._pytree as pytree
from torch import Tensor, distributed

from metarl.errors import SettingError, UserError
from metarl.run.device import used
from metarl.struct import named_leaves, struct
from metarl.threads import num_cores
from metarl.types import MetaLearner, Ranks

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another: as long as process 0 may take to save."""


@struct
class _Failure:
    """What a process says instead of what it was asked for."""

    message: str


class _Failed(FloatingPointError):
    """Raised in all processes at once."""


class Processes:
    """Meets `metarl.types.Ranks`: those of the job that this process belongs to."""

    def __init__(self) -> None:
        self.num = distributed.get_world_size()
        self.rank = distributed.get_rank()

    def whole(self, tree: T) -> T:
        return pytree.tree_map_only(Tensor, lambda leaf: torch.cat(self._of_all(leaf)), tree)

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for kind in dict.fromkeys(leaf.dtype for leaf in tensors.values()):
            leaves = {name: leaf for name, leaf in tensors.items() if leaf.dtype == kind}
            together = torch.cat([leaf.detach().flatten() for leaf in leaves.values()])
            first, *others = self._of_all(together)
            for other in others:  # One after the other: in every process the same rounding.
                first = first + other
            parts = first.split([leaf.numel() for leaf in leaves.values()])
            found |= {
                n: part.view_as(leaf) for (n, leaf), part in zip(leaves.items(), parts, strict=True)
            }
        return {name: found[name] for name in tensors}

    def largest(self, number: int) -> int:
        return max(self._checked(self.told(number)))

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        try:
            yield
        except _Failed:  # All know already.
            raise
        except FloatingPointError as error:
            self._checked(self.told(_Failure(message=str(error))))
        else:
            self._checked(self.told(None))

    def _checked(self, said: list[Any]) -> list[Any]:
        """What the processes have said, if none of them has said that it failed."""
        for number, words in enumerate(said):
            if isinstance(words, _Failure):
                raise _Failed(f"{words.message} (process {number})")
        return said

    def told(self, words: T) -> list[T]:
        """What each process says here, the first one first."""
        found: list[Any] = [None] * self.num
        with _lost_processes_named():
            distributed.all_gather_object(found, words)
        return found

    def _of_all(self, own: Tensor) -> list[Tensor]:
        found = [
            torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(self.num)
        ]
        if own.numel() > 0:
            with _lost_processes_named():
                distributed.all_gather(found, own.contiguous())
        return found


def check_alike(learner: MetaLearner, ranks: Ranks) -> None:
    """Raises: SettingError in all processes, naming a tensor of the learner's state that isn't alike
    in all of them: it was changed by what only some have seen."""
    if ranks.num == 1:
        return
    leaves = {
        name: leaf.detach().double().norm().cpu().reshape(1)
        for name, leaf in named_leaves(learner.state_dict())
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    }
    means = {name: total / ranks.num for name, total in ranks.total(leaves).items()}
    # In processes on unlike machines numbers may round otherwise.
    other = [
        not torch.allclose(own, means[name], rtol=1e-3, atol=1e-6, equal_nan=True)
        for name, own in leaves.items()
    ]
    place = ranks.largest(other.index(True) + 1 if True in other else 0)
    if place:
        raise SettingError(
            f"{type(learner).__name__}: {list(leaves)[place - 1]} isn't the same in all processes; "
            "expected every process to change its parameters by numbers of all, as self.source.ranks "
            "puts them together"
        )


def is_launched() -> bool:
    """Whether torchrun has started this process."""
    return distributed.is_torchelastic_launched()


def num_processes() -> int:
    """How many processes torchrun has started for this job; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else 1


def launcher() -> str:
    """How this job's processes were started, to be typed before a script: torchrun with their
    number, or python."""
    if (num := num_processes()) == 1:
        return "python"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", num))
    machines = f" --nnodes={num // local}" if num > local else ""
    return f"torchrun --nproc-per-node={local}{machines}"


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ["RANK"]) if is_launched() else 0


def share_of_cores() -> int:
    """How many cores of this machine are for each of the processes on it."""
    return max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def own_device(device: torch.device) -> torch.device:
    """Returns this process's device for `cuda`: the processes of a machine have one each. Raises:
    UserError if there are too few."""
    if device.type != "cuda":
        return device
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ:
        number = 0  # Who started it shows each process a device of its own, as Slurm does.
    if number >= count:
        raise UserError(
            f"process {number} of this machine finds {count} CUDA devices; expected one for each "
            "process (--nproc-per-node), or device=cpu"
        )
    return used(torch.device("cuda", number))


@contextmanager
def joined() -> Iterator[Processes]:
    """Inside, this process can speak with the others of its job. Raises: UserError if it can't."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes of this job can't meet: {reason}") from error
    try:
        yield Processes()
    finally:
        distributed.destroy_process_group()


@contextmanager
def _lost_processes_named() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # its own fault
    except RuntimeError as error:
        raise UserError(
            f"process {rank()} has lost another of this job, which has ended, can't be reached, or "
            f"has evaluated or saved for more than {PATIENCE.seconds // 60} minutes "
            f"({str(error).splitlines()[0][:120]})"
        ) from error
