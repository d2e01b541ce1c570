"""The run-time type checker of the tests: beartype on the functions, methods and dataclasses of
metarl and envs, blind to protocols.

`check_imports` has every module of a package compiled with the decorator `checked` on what is
defined in it, so that every call in every test also checks the types in the signatures. Functions
within functions are made anew at each call, which would cost a compilation each: they are left
alone. A protocol says what a function needs of its arguments, which mypy checks; a stand-in in a
test may have less, so here it passes as any object.
"""

import ast
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from types import CodeType, ModuleType
from typing import Any, get_args, get_origin
from unittest.mock import patch

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintViolation

WrongType = BeartypeCallHintViolation
"""What a call raises whose arguments, or whose result, aren't of the types in its signature."""

_CONF = BeartypeConf(is_pep484_tower=True)  # An int where a float is meant.
_NAME = "_checked_in_tests"
_BYTECODE = partial(cache_from_source, optimization="checked1")
"""Bytecode of files of its own, which programs outside of tests don't find; another number for
another way to compile."""


def check_imports(packages: Iterable[str]) -> None:
    """From now on, modules of these packages are imported with their types checked."""
    sys.meta_path.insert(0, _Finder(frozenset(packages)))


def checked(thing: Any) -> Any:
    """Decorates a function or a dataclass."""
    if not isinstance(thing, type):
        return _checked_function(thing)
    if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
        thing.__init__ = _checked_function(thing.__init__)  # type: ignore[misc]
    return thing


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__
    function.__annotations__ = {
        name: object if _mentions_protocol(hint) else hint for name, hint in hints.items()
    }
    return beartype(conf=_CONF)(function)


def _mentions_protocol(hint: Any) -> bool:
    if isinstance(hint, list):  # The arguments of a Callable.
        return any(map(_mentions_protocol, hint))
    is_protocol = any(getattr(part, "_is_protocol", False) for part in (hint, get_origin(hint)))
    return is_protocol or any(map(_mentions_protocol, get_args(hint)))


class _Finder(MetaPathFinder):
    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        with patch("importlib._bootstrap_external.cache_from_source", _BYTECODE):
            return super().get_code(fullname)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        tree = _Decorating().visit(ast.parse(data, path))
        return super().source_to_code(ast.fix_missing_locations(tree), path, _optimize=_optimize)


class _Decorating(ast.NodeTransformer):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        is_text = bool(node.body) and ast.get_docstring(node, clean=False) is not None
        name = ast.alias(checked.__name__, _NAME)
        node.body.insert(int(is_text), ast.ImportFrom(module=__name__, names=[name], level=0))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if not _opts_out(node):
            self.generic_visit(node)
            # Before the others are read, so after they have made a dataclass of it.
            node.decorator_list.insert(0, ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        annotated = node.returns or any(
            arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg)
        )
        if annotated and not _opts_out(node):
            # Next to the function: decorators may drop its annotations.
            node.decorator_list.append(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node


def _opts_out(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether it is under `@no_type_check`."""
    names = {
        part.id for d in node.decorator_list for part in ast.walk(d) if isinstance(part, ast.Name)
    }
    return "no_type_check" in names
