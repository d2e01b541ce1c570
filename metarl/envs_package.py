"""Imports metarl's own package `envs`: a user's folder of that name, earlier on Python's path,
hides it."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

OURS = Path(__file__).resolve().parents[1] / "envs"


def import_envs(module: str) -> ModuleType:
    """The module `envs` or one below it. Raises: ImportError naming the other package, if another
    one is in the way."""
    if "envs" not in sys.modules and not _is_ours(found := _on_the_path()):
        raise ImportError(_collision(found))
    if "envs" in sys.modules and not _is_ours(there := _place(sys.modules["envs"].__spec__)):
        raise ImportError(_collision(there))
    return importlib.import_module(module)


def take_ours() -> None:
    """Makes `import envs` mean metarl's in this process, whatever comes first on Python's path. Our
    own commands call it.

    Raises: ImportError if another package of that name has been imported before.
    """
    if "envs" in sys.modules or _is_ours(_on_the_path()):
        import_envs("envs")
        return
    spec = importlib.util.spec_from_file_location(
        "envs", OURS / "__init__.py", submodule_search_locations=[str(OURS)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["envs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["envs"])


def _on_the_path() -> Path | None:
    return _place(importlib.util.find_spec("envs"))


def _place(spec: ModuleSpec | None) -> Path | None:
    """The folder of a package, the file of a module; None if there is none."""
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0] if folders else spec.origin or "").resolve()


def _is_ours(place: Path | None) -> bool:
    # Disks that take a and A for the same have many names for a folder.
    return place is not None and place.exists() and place.samefile(OURS)


def _collision(place: Path | None) -> str:
    if place is None:
        return f"metarl's package envs isn't on Python's path; expected {OURS}"
    return (
        f"{place} hides metarl's package envs: give it another name, or put {OURS.parent} before "
        "it on Python's path "
        f"(PYTHONPATH)"
    )
