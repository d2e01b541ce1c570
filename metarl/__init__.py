"""Meta-reinforcement learning. `import metarl` makes its environments known to Gymnasium, and loads
nothing else.

What notebooks use (`metarl.train`, `metarl.load`, ...) is in metarl/api, which is imported when one
of these names is asked for. __init__.pyi says for editors and type checkers what they are.
"""

import importlib
import sys
from typing import Any

if sys.platform == "win32":  # Locks, signals and measures of memory are those of Unix.
    raise ImportError("metarl runs on Linux and macOS; on Windows in WSL 2")

from metarl.interrupt import end_commands_quietly

end_commands_quietly()  # before the first import that takes its time

from metarl.gymnasium_plugin import register  # noqa: E402

register()

API = (
    *("train", "train_fewshot", "load"),
    *("Agent", "FewShotAgent", "Policy", "Predictor", "Run"),
    *("Error", "SettingError", "UserError"),
)
"""The names of metarl/api that are metarl's, too."""
ROOMS = ("zoo",)
"""Rooms that `import metarl` is enough for: metarl.zoo.names()."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("metarl")
    if name in API:
        return getattr(importlib.import_module("metarl.api"), name)
    if name in ROOMS:
        return importlib.import_module(f"metarl.{name}")
    raise AttributeError(f"module 'metarl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *API, *ROOMS})
