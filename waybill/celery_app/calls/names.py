"""What names stand for: in a module, by its assignments, imports and definitions; in a function, by its own."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that an import binds: a module, or a name of one."""

    module: str
    name: str | None = None


@dataclass(slots=True)
class Scope:
    """The names of a module, function, class or comprehension.

    Attributes:
        values: name -> the expressions that are assigned to it, in their order; a loop's is the list of its items.
        items: name -> the items that are assigned to it, `options["queue"] = "a"`, with key and value.
        imports: name -> what it is imported from.
        defined: name -> its function or class.
        unknown: names that are bound otherwise: parameters, targets that aren't simple.
        outer: the scope around it, None for a module.
        shared: names that a function declares `global` or `nonlocal`.
        bound: the first parameter of a bound task -> the task's name.
    """

    module: str
    values: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))
    items: dict[str, list[tuple[ast.expr, ast.expr]]] = field(default_factory=lambda: defaultdict(list))
    imports: dict[str, Imported] = field(default_factory=dict)
    defined: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    outer: Scope | None = None
    shared: set[str] = field(default_factory=set)
    bound: dict[str, str] = field(default_factory=dict)
    node: ast.AST | None = None

    def of(self, name: str) -> Scope | None:
        """The scope that binds a name, this one or one around it."""
        scope: Scope | None = self
        while scope is not None:
            if name not in scope.shared and name in scope:
                return scope
            scope = scope.outer
            while scope is not None and isinstance(scope.node, ast.ClassDef):  # not seen from the functions in it
                scope = scope.outer
        return None

    def __contains__(self, name: str) -> bool:
        return name in self.unknown or name in self.values or name in self.imports or name in self.defined


def scope_of(node: ast.AST, module: str, outer: Scope | None, is_package: bool = False) -> Scope:
    """The names that a module, function, class or comprehension binds."""
    scope = Scope(module, outer=outer, node=node)
    if isinstance(node, FUNCTIONS):
        arguments = node.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        scope.unknown |= {one.arg for one in every if one is not None}
    for inner in within(node):
        _bind(scope, inner, module, is_package)
    return scope


def within(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, in their order, without what stands in the scopes in it."""
    waiting = list(reversed(list(_children(node))))
    while waiting:
        one = waiting.pop()
        yield one
        if not isinstance(one, SCOPES):
            waiting.extend(reversed(list(ast.iter_child_nodes(one))))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return iter(node.body)  # decorators and defaults are evaluated outside
    if isinstance(node, ast.ClassDef):
        return iter(node.body)
    return ast.iter_child_nodes(node)


def _bind(scope: Scope, node: ast.AST, module: str, is_package: bool) -> None:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _assign(scope, target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        _assign(scope, node.target, node.value)
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        _loop(scope, node.target, node.iter)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        _import(scope, node, module, is_package)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope.defined[node.name] = node
    elif isinstance(node, ast.Global | ast.Nonlocal):
        scope.shared.update(node.names)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        scope.unknown.add(node.name)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        scope.unknown |= _targets(node.optional_vars)
    elif isinstance(node, ast.AugAssign | ast.Delete):
        targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
        scope.unknown |= set(chain.from_iterable(map(_targets, targets)))


def _import(scope: Scope, node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            imported = Imported(_origin(node, module, is_package), alias.name)
        else:
            imported = Imported(alias.name if alias.asname else alias.name.partition(".")[0])
        scope.imports[alias.asname or (imported.name or imported.module)] = imported


def _assign(scope: Scope, target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        scope.values[target.id].append(value)
    elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        scope.items[target.value.id].append((target.slice, value))
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        if len(target.elts) == len(value.elts):
            for one, its in zip(target.elts, value.elts, strict=True):
                _assign(scope, one, its)
    else:
        scope.unknown |= _targets(target)


def _loop(scope: Scope, target: ast.expr, values: ast.expr) -> None:
    """A loop's name stands for each of the items, where these are written down."""
    if isinstance(target, ast.Name) and isinstance(values, ast.Tuple | ast.List | ast.Set):
        scope.values[target.id].extend(values.elts)
    else:
        scope.unknown |= _targets(target)


def _targets(target: ast.expr) -> set[str]:
    return {one.id for one in ast.walk(target) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}


def _origin(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The module that `from ...tasks import x` names, in full."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *((node.module,) if node.module else ())])
