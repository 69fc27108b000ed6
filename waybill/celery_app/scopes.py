"""Which names are a function's own: where it has one, the module's object of that name isn't meant."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

_NAMING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


def calls_in(tree: ast.AST) -> Iterator[tuple[ast.Call, frozenset[str]]]:
    """Every call, with the names that the functions around it have of their own: parameters, and what they assign."""
    waiting: deque[tuple[ast.AST, frozenset[str]]] = deque([(tree, frozenset())])
    while waiting:
        node, own = waiting.popleft()
        if isinstance(node, ast.Call):
            yield node, own
        inner = own | _own_names(node) if isinstance(node, _FUNCTIONS + _COMPREHENSIONS) else own
        # Decorators and defaults are evaluated outside; to take them for the body's is to pass over a call at most.
        waiting.extend((child, inner) for child in ast.iter_child_nodes(node))


def _own_names(scope: ast.AST) -> frozenset[str]:
    bound: set[str] = set()
    shared: set[str] = set()
    for node in _within(scope):
        if isinstance(node, ast.Global):
            shared.update(node.names)
        else:
            bound.update(_bound_by(node))
    return frozenset(bound - shared)


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without what stands in the functions and classes in it."""
    waiting = deque(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.popleft()
        yield node
        if not isinstance(node, (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def _bound_by(node: ast.AST) -> Iterable[str]:
    """The names that a node binds: a parameter, an assignment in any of its ways, an import, a definition."""
    name: str | None = None
    if isinstance(node, ast.arg):
        name = node.arg
    elif isinstance(node, ast.Name):
        name = None if isinstance(node.ctx, ast.Load) else node.id
    elif isinstance(node, ast.MatchMapping):
        name = node.rest
    elif isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    elif isinstance(node, _NAMING):
        name = node.name
    return () if name is None else (name,)
