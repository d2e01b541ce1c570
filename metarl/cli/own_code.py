"""Code of a user's own that a run calls: which module was which, so that a result says it, and a
later command whether it has changed; and faults in it, in a line."""

import hashlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from metarl.cli.strangers import own_targets
from metarl.cli.words import one_line
from metarl.errors import Error, UserError


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """Twelve hex digits of the file of each module that a configuration calls and that isn't
    metarl's. What these import in turn isn't looked at; environments have a digest of their own
    (`metarl.rl.spec.EnvSpec`)."""
    found = {}
    for target in own_targets(config):
        called = get_object(target)
        while isinstance(called, partial):
            called = called.func
        # Where it is named, and where it is written.
        for module in (sys.modules.get(target.rpartition(".")[0]), inspect.getmodule(called)):
            file = getattr(module, "__file__", None)  # Modules of C may have none.
            if module is None or file is None or module.__name__.startswith(("metarl.", "envs.")):
                continue
            found[module.__name__] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
    return found


def told(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What results and checkpoints say of it: `own_code`, where there is any."""
    found = own_code(config)
    return {"own_code": found} if found else {}


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each module that was another one in a training."""
    return [
        f"the code of {name} has changed since this training (then {then[name]}, now {digest})"
        for name, digest in now.items()
        if then.get(name, digest) != digest
    ]


@contextmanager
def own_faults(target: str) -> Iterator[None]:
    """What goes wrong inside, where `target` of the user's own is called, is said in a line with its
    place; HYDRA_FULL_ERROR=1 shows all."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        module = sys.modules.get(target.rpartition(".")[0])
        file = getattr(module, "__file__", None)
        is_ours = target.split(".")[0] in ("metarl", "envs")
        if is_ours or file is None or os.environ.get("HYDRA_FULL_ERROR", "0") != "0":
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == file]
        place = f" ({Path(file).name}, line {own[-1].lineno})" if own else ""
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"_target_={target}: {reason}{place}") from error
