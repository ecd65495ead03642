"""The size of an update in its source: statements as `ast.unparse` prints them, no docstrings."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any


def num_lines(function: Callable[..., Any], packages: tuple[str, ...]) -> tuple[int, int]:
    """Lines of a function, and of it with all functions that it calls within `packages`."""
    reached = {function}
    queue = [function]
    while queue:
        for called in _called(queue.pop(), packages):
            if called not in reached:
                reached.add(called)
                queue.append(called)
    return len(_lines(function)), sum(len(_lines(each)) for each in reached)


def _parse(function: Callable[..., Any]) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _lines(function: Callable[..., Any]) -> list[str]:
    tree = _parse(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return [line for line in ast.unparse(tree).splitlines() if line.strip()]


def _called(function: Callable[..., Any], packages: tuple[str, ...]) -> list[Callable[..., Any]]:
    known = vars(sys.modules[function.__module__])
    names = {node.id for node in ast.walk(_parse(function)) if isinstance(node, ast.Name)}
    values = [known[name] for name in sorted(names & set(known))]
    return [v for v in values if inspect.isfunction(v) and v.__module__.startswith(packages)]
