"""Loads the scripts of docs/, which lie in no package."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


@functools.cache
def docs_script(name: str) -> ModuleType:
    """Returns the module of docs/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
