"""What somebody's code has returned, in the words of a message."""

from typing import Any

import torch
from torch import Tensor


def described(value: Any) -> str:
    """`a tensor [2, 3] of float32`, `a list`, `the class Own`, `None`."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {short(value.dtype)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else f"a {type(value).__name__}"


def short(dtype: torch.dtype) -> str:
    """torch.float32 -> float32."""
    return str(dtype).removeprefix("torch.")
