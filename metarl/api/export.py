"""Writes a policy's module to a file that runs without metarl: TorchScript (.pt), torch.export
(.pt2) or ONNX (.onnx).

The three compute the same. TorchScript also runs in C++ (libtorch), ONNX wherever there is a
runtime for it. Inputs are those of the module: `obs`, and for an agent with a memory `reward` and
`memory`, of which `start` is the first.
"""

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from metarl.errors import UserError
from metarl.files import write_atomically, write_text

ENDINGS = (".pt", ".pt2", ".onnx")


def export(module: nn.Module, path: Path, obs: Tensor) -> Path:
    """Writes the module. Args: obs: any observation [O].

    Raises: UserError for another ending than `ENDINGS`, without the package `onnx` where it is
    needed, or if the file can't be written.
    """
    if path.suffix not in ENDINGS:
        raise UserError(f"{path}: expected a file name that ends in {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    start = getattr(module, "start", None)
    inputs = (obs,) if start is None else (obs, torch.zeros(()), start)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of tracing: the shapes it fixes are fixed here.
            if path.suffix == ".pt":
                _torchscript(module, path, inputs)
            elif path.suffix == ".pt2":
                program = torch.export.export(module, inputs)
                write_atomically(path, lambda file: torch.export.save(program, file))
            else:
                _onnx(module, path, inputs)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error
    return path


def _torchscript(module: nn.Module, path: Path, inputs: tuple[Tensor, ...]) -> None:
    traced = torch.jit.trace(module, inputs, check_trace=False)
    write_atomically(path, lambda file: torch.jit.save(traced, file))


def _onnx(module: nn.Module, path: Path, inputs: tuple[Tensor, ...]) -> None:
    """The memory at an episode's start is an output of nothing, so it goes beside the file, as
    <name>.start.txt."""
    if importlib.util.find_spec("onnx") is None:
        raise UserError(
            f"{path}: the package onnx isn't installed (pip install onnx); policy.pt or policy.pt2 "
            "need nothing but torch"
        )
    has_memory = len(inputs) > 1
    torch.onnx.export(
        module,
        inputs,
        str(path),
        input_names=["obs", "reward", "memory"][: len(inputs)],
        output_names=["action", "next_memory"] if has_memory else ["action"],
        dynamo=False,
    )
    if has_memory:
        rows = "\n".join(repr(float(value)) for value in inputs[2])
        write_text(path.with_suffix(".start.txt"), rows + "\n")
