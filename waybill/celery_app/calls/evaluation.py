"""What an expression stands for, as far as the source says so: a task, a signature, a canvas, or a constant.

An expression may have several values, those of the branches of an `if`; none means that the source doesn't say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from waybill.celery_app.calls.names import Imported, Scope

MAX_DEPTH = 25
"""Names that stand for names, and expressions in expressions, that are followed."""

MAX_VALUES = 50
"""Values of one expression; what has more isn't known."""

SIGNATURES = frozenset({"s", "si", "signature", "subtask"})
CANVASES = frozenset({"chain", "group", "chord"})
NAMED = frozenset({"signature", "Signature", "subtask"})


@dataclass(frozen=True, slots=True)
class Constant:
    value: Any


@dataclass(frozen=True, slots=True)
class Task:
    name: str


@dataclass(frozen=True, slots=True)
class ModuleName:
    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list or tuple of which not every item is a constant."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """A task with options and arguments; each of these is None where the source doesn't say it."""

    task: str
    options: Mapping[str, Any] | None = field(default_factory=dict)
    args: tuple[Any, ...] | None = ()
    kwargs: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A chain, group or chord.

    Attributes:
        parts: signatures and canvases; of a chord its header.
        is_whole: all parts are known.
    """

    kind: str
    parts: tuple[Any, ...]
    body: Any = None
    is_whole: bool = True
    options: Mapping[str, Any] | None = field(default_factory=dict)


class Evaluator:
    """Says what expressions stand for.

    Args:
        modules: name -> the scope of the project's module.
        functions: module and name of a function or class -> the task that it is.
    """

    def __init__(self, modules: Mapping[str, Scope], functions: Mapping[tuple[str, str], str]) -> None:
        self._modules = modules
        self._functions = functions
        self._depth = 0

    def values(self, node: ast.expr, scope: Scope) -> list[Any]:
        """The values that an expression may have; none where one of them isn't known."""
        if self._depth > MAX_DEPTH:
            return []
        self._depth += 1
        try:
            found = getattr(self, f"_{type(node).__name__.lower()}", _unknown)(node, scope)
            values = list(found)
            return values if len(values) <= MAX_VALUES else []
        finally:
            self._depth -= 1

    def one(self, node: ast.expr, scope: Scope) -> Any:
        """The only value of an expression; None where there isn't one."""
        found = self.values(node, scope)
        return found[0] if len(found) == 1 else None

    def constant(self, node: ast.expr, scope: Scope) -> Constant | None:
        """The only value of an expression, where it is a constant."""
        found = self.one(node, scope)
        return found if isinstance(found, Constant) else None

    def is_from(self, node: ast.expr, scope: Scope, package: str, names: frozenset[str]) -> str | None:
        """The name, of these, that an expression stands for in a package such as `celery`."""
        if isinstance(node, ast.Name):
            home = scope.of(node.id)
            imported = home.imports.get(node.id) if home else None
            if imported and imported.module.partition(".")[0] == package and imported.name in names:
                return imported.name
        elif isinstance(node, ast.Attribute) and node.attr in names:
            owner = self.one(node.value, scope)
            if isinstance(owner, ModuleName) and owner.name.partition(".")[0] == package:
                return node.attr
        return None

    # by the kind of expression

    def _constant(self, node: ast.Constant, _scope: Scope) -> list[Any]:
        return [Constant(node.value)]

    def _name(self, node: ast.Name, scope: Scope) -> list[Any]:
        home = scope.of(node.id)
        if home is None:
            return []
        if node.id in home.bound:
            return [Task(home.bound[node.id])]
        if node.id in home.unknown:
            return []
        return self._in(home, node.id)

    def _in(self, home: Scope, name: str) -> list[Any]:
        """What a name stands for in the scope that binds it."""
        if name in home.values:
            every = [self.values(one, home) for one in home.values[name]]
            if name in home.defined or name in home.imports or not all(every):
                return []
            return self._with_items(home, name, [value for values in every for value in values])
        if (imported := home.imports.get(name)) is not None:
            return self._imported(imported, home.module)
        task = self._functions.get((home.module, name)) if home.outer is None else None
        return [Task(task)] if task else []

    def _with_items(self, home: Scope, name: str, values: list[Any]) -> list[Any]:
        """A dictionary with what is assigned to it afterwards."""
        if name not in home.items:
            return values
        pairs = [(self.constant(key, home), self.constant(value, home)) for key, value in home.items[name]]
        if any(key is None or value is None for key, value in pairs):
            return []
        added = {key.value: value.value for key, value in pairs if key and value and isinstance(key.value, str)}
        return [
            Constant({**one.value, **added})
            for one in values
            if isinstance(one, Constant) and isinstance(one.value, dict)
        ]

    def _imported(self, imported: Imported, importer: str) -> list[Any]:
        # A program finds the modules of its own folder by their bare names.
        beside = f"{importer.rpartition('.')[0]}.{imported.module}"
        if imported.module not in self._modules and beside in self._modules:
            imported = replace(imported, module=beside)
        if imported.name is None:
            return [ModuleName(imported.module)]
        if f"{imported.module}.{imported.name}" in self._modules:
            return [ModuleName(f"{imported.module}.{imported.name}")]
        return self._of_module(imported.module, imported.name)

    def _of_module(self, module: str, name: str) -> list[Any]:
        if (home := self._modules.get(module)) is not None and name in home:
            return self._in(home, name)
        if home is None and (task := self._functions.get((module, name))) is not None:
            return [Task(task)]  # of an installed package
        submodule = f"{module}.{name}"
        is_known = submodule in self._modules or module in ("celery", "kombu") or self._leads_to_tasks(submodule)
        return [ModuleName(submodule)] if is_known else []

    def _leads_to_tasks(self, module: str) -> bool:
        """Whether a module has tasks, or a module of it has some."""
        return any(one == module or one.startswith(f"{module}.") for one, _ in self._functions)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> list[Any]:
        owner = self.one(node.value, scope)
        if isinstance(owner, ModuleName):
            return self._of_module(owner.name, node.attr)
        if isinstance(owner, Task) and node.attr == "name":
            return [Constant(owner.name)]
        return []

    def _dict(self, node: ast.Dict, scope: Scope) -> list[Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            its = self.constant(value, scope)
            if key is None:  # **another
                if its is None or not isinstance(its.value, dict):
                    return []
                found |= its.value
                continue
            named = self.constant(key, scope)
            if its is None or named is None or not isinstance(named.value, str | int | float | bool):
                return []
            found[named.value] = its.value
        return [Constant(found)]

    def _tuple(self, node: ast.Tuple | ast.List | ast.Set, scope: Scope) -> list[Any]:
        every = [self.one(item, scope) for item in node.elts]
        if all(isinstance(one, Constant) for one in every):
            kept = [one.value for one in every]
            return [Constant(tuple(kept) if isinstance(node, ast.Tuple) else kept)]
        return [Items(tuple(every))]

    _list = _tuple

    def _generatorexp(self, node: ast.GeneratorExp | ast.ListComp, scope: Scope) -> list[Any]:
        """`group(add.s(i) for i in ...)`: how many there are isn't known, and what they are is."""
        from waybill.celery_app.calls.names import scope_of

        inner = scope_of(node, scope.module, scope)
        found = self.one(node.elt, inner)
        return [Items((found,))] if isinstance(found, Signature | Canvas) else []

    _listcomp = _generatorexp

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> list[Any]:
        parts = []
        for part in node.values:
            value = self.constant(part.value if isinstance(part, ast.FormattedValue) else part, scope)
            if value is None:
                return []
            parts.append(str(value.value))
        return [Constant("".join(parts))]

    def _binop(self, node: ast.BinOp, scope: Scope) -> list[Any]:
        if isinstance(node.op, ast.BitOr):
            left, right = self.one(node.left, scope), self.one(node.right, scope)
            parts = [part for one in (left, right) for part in _links(one)]
            return [Canvas("chain", tuple(parts), is_whole=None not in (left, right))] if any(parts) else []
        pairs = product(self.values(node.left, scope), self.values(node.right, scope))
        return [value for left, right in pairs for value in _computed(node.op, left, right)]

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> list[Any]:
        value = self.constant(node.operand, scope)
        if value is None or not isinstance(value.value, int | float) or not isinstance(node.op, ast.USub):
            return []
        return [Constant(-value.value)]

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> list[Any]:
        branches = [self.values(node.body, scope), self.values(node.orelse, scope)]
        return [value for values in branches for value in values] if all(branches) else []

    def _call(self, node: ast.Call, scope: Scope) -> list[Any]:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "dict" and scope.of("dict") is None and not node.args:
            options = self.keywords(node.keywords, scope)
            return [] if options is None else [Constant(options)]
        if kind := self.is_from(function, scope, "celery", CANVASES):
            return [self._canvas(kind, node, scope)]
        if self.is_from(function, scope, "celery", NAMED):
            return self._named(node, scope)
        if isinstance(function, ast.Attribute):
            return self._method(function, node, scope)
        return []

    def _method(self, function: ast.Attribute, node: ast.Call, scope: Scope) -> list[Any]:
        owners = self.values(function.value, scope)
        if function.attr in SIGNATURES and owners and all(isinstance(one, Task) for one in owners):
            return [self._signed(one.name, function.attr, node, scope) for one in owners]
        if function.attr == "set" and owners and all(isinstance(one, Signature | Canvas) for one in owners):
            options = self.keywords(node.keywords, scope)
            return [replace(one, options=_merged(one.options, options)) for one in owners]
        if function.attr in ("clone", "on_error", "link", "link_error"):
            return owners
        if function.attr in ("task", "shared_task") and node.args:  # index = app.task(_index)
            return self.values(node.args[0], scope)
        return []

    def _signed(self, task: str, method: str, node: ast.Call, scope: Scope) -> Signature:
        if method in ("s", "si"):
            return Signature(task, {}, self.arguments(node.args, scope), self.keywords(node.keywords, scope))
        return Signature(task, self.keywords(node.keywords, scope), None, None)

    def _named(self, node: ast.Call, scope: Scope) -> list[Any]:
        """`signature("proj.index", ...)`."""
        name = self.constant(node.args[0], scope) if node.args else None
        if name is None or not isinstance(name.value, str):
            return []
        given = [keyword for keyword in node.keywords if keyword.arg not in ("args", "kwargs", "app", "immutable")]
        options = self.keywords(given, scope)
        if options is not None and isinstance(inner := options.pop("options", None), dict):
            options |= inner
        return [Signature(name.value, options, None, None)]

    def _canvas(self, kind: str, node: ast.Call, scope: Scope) -> Canvas:
        nodes = list(node.args)
        body = None
        if kind == "chord":
            body = self.one(nodes.pop(1), scope) if len(nodes) > 1 else self._keyword(node, "body", scope)
            nodes = nodes[:1] or [one.value for one in node.keywords if one.arg == "header"]
        found = [self.one(one.value if isinstance(one, ast.Starred) else one, scope) for one in nodes]
        parts = [part for one in found for part in (one.values if isinstance(one, Items) else (one,))]
        known = [part for part in parts if isinstance(part, Signature | Canvas)]
        return Canvas(kind, tuple(known), body, len(known) == len(parts) and bool(parts))

    def _keyword(self, node: ast.Call, name: str, scope: Scope) -> Any:
        return next((self.one(one.value, scope) for one in node.keywords if one.arg == name), None)

    # arguments

    def arguments(self, nodes: Sequence[ast.expr], scope: Scope) -> tuple[Any, ...] | None:
        """Positional arguments, where all of them are constants."""
        every = [self.constant(node, scope) for node in nodes]
        return tuple(one.value for one in every if one) if all(every) else None

    def keywords(self, keywords: Sequence[ast.keyword], scope: Scope) -> dict[str, Any] | None:
        """Keyword arguments, where all of them are constants."""
        found: dict[str, Any] = {}
        for keyword in keywords:
            value = self.constant(keyword.value, scope)
            if value is None or (keyword.arg is None and not isinstance(value.value, dict)):
                return None
            found |= value.value if keyword.arg is None else {keyword.arg: value.value}
        return found


def _unknown(_node: ast.expr, _scope: Scope) -> list[Any]:
    return []


def _links(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Canvas) and value.kind == "chain":
        return value.parts
    return (value,) if isinstance(value, Signature | Canvas) else ()


def _merged(below: Mapping[str, Any] | None, above: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if below is None or above is None else {**below, **above}


def _computed(operator: ast.operator, left: Any, right: Any) -> Iterator[Constant]:
    """Sums of texts and numbers, and products of numbers: how constants are written (`60 * 60`, `PREFIX + "mails"`)."""
    if not (isinstance(left, Constant) and isinstance(right, Constant)):
        return
    one, other = left.value, right.value
    if isinstance(operator, ast.Add) and isinstance(one, str) and isinstance(other, str):
        yield Constant(one + other)
    elif isinstance(one, int | float | complex) and isinstance(other, int | float | complex):
        if isinstance(operator, ast.Add):
            yield Constant(one + other)
        elif isinstance(operator, ast.Mult) and abs(one) < 1e9 and abs(other) < 1e9:
            yield Constant(one * other)
