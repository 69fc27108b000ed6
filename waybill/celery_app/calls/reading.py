"""The calls that publish tasks, in all files of a project.

A call is read when its task and every routing option are known: constants, names that stand for constants, `**options`,
both branches of an `if`. What isn't is counted with its place.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from celery import Celery

from waybill.celery_app.calls.evaluation import Canvas, Constant, Evaluator, Items, ModuleName, Signature, Task
from waybill.celery_app.calls.names import FUNCTIONS, SCOPES, Scope, scope_of, within
from waybill.celery_app.calls.project import Module, modules_of
from waybill.celery_app.calls.values import DELAY, DELAYS, OPTIONS, Call, Source

MENTIONED = frozenset({"chord"})
LINKS = ("link", "link_error")

MAX_VARIANTS = 200
"""Calls that one call stands for, by the values of its options; what stands for more isn't literal."""


def read_source(app: Celery) -> Source:
    """All calls in the source of the application's project."""
    unreadable: list[str] = []
    modules = list(modules_of(app, unreadable))
    scopes = _Scopes(modules, unreadable)
    functions = _registered(app, modules)
    defined = {**_defined(app, modules, scopes), **functions}
    reader = _Reader(Evaluator(scopes, defined), defined)
    for module in modules:
        if module.publishes and (scope := scopes.get(module.name)) is not None:
            reader.read(module, scope)
    return Source(
        files=len(modules),
        calls=tuple(reader.calls),
        not_literal=tuple(reader.not_literal),
        unreadable=tuple(unreadable),
        defined=frozenset(defined.values()),
        mentions=reader.mentions,
        declares=any(module.declares for module in modules),
        consumes=tuple(module.shown for module in modules if module.consumes),
    )


class _Scopes(Mapping[str, Scope]):
    """Module -> its names. A file is parsed when somebody asks for them first; one that is no Python has none."""

    def __init__(self, modules: Iterable[Module], unreadable: list[str]) -> None:
        self._modules = {module.name: module for module in reversed(list(modules))}
        self._unreadable = unreadable
        self._scopes: dict[str, Scope | None] = {}

    def __getitem__(self, name: str) -> Scope:
        if name not in self._scopes:
            self._scopes[name] = self._scope(self._modules[name])
        scope = self._scopes[name]
        if scope is None:
            raise KeyError(name)
        return scope

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def _scope(self, module: Module) -> Scope | None:
        try:
            tree = module.tree()
        except (OSError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
            self._unreadable.append(f"{module.shown}: {getattr(error, 'msg', None) or error}")
            return None
        return scope_of(tree, module.name, None, module.is_package)


def _registered(app: Celery, modules: list[Module]) -> dict[tuple[str, str], str]:
    """Module and function, or class -> the registered task that it is."""
    by_path = {str(module.path): module.name for module in modules}
    found: dict[tuple[str, str], str] = {}
    for name, task in app.tasks.items():
        code = getattr(inspect.unwrap(task.run), "__code__", None)
        file = getattr(sys.modules.get(task.__module__), "__file__", None)
        for path, own in ((code and code.co_filename, code and code.co_name), (file, type(task).__name__)):
            if isinstance(path, str):
                # What is installed isn't read, and its tasks are known by the names that they are imported by.
                module = by_path.get(str(Path(path).resolve()), str(task.__module__))
                found.setdefault((module, str(own)), name)
    return found


def _defined(app: Celery, modules: list[Module], scopes: Mapping[str, Scope]) -> dict[tuple[str, str], str]:
    """Module and function -> the task that its decorator makes of it, also where the module isn't loaded."""
    found = {}
    for module in modules:
        scope = scopes.get(module.name) if module.defines else None
        for name, node in scope.defined.items() if scope else ():
            decorator = next((one for one in node.decorator_list if _is_tasks(one)), None)
            if decorator is not None and not isinstance(node, ast.ClassDef):
                given = _keyword(decorator, "name")
                found[module.name, name] = given or app.gen_task_name(name, module.name)
    return found


def _is_tasks(decorator: ast.expr) -> bool:
    """`@app.task`, `@shared_task`, with or without options."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("task", "shared_task", "periodic_task")


def _keyword(decorator: ast.expr, name: str) -> Any:
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return next((one.value.value for one in keywords if one.arg == name and isinstance(one.value, ast.Constant)), None)


class _Reader:
    """Collects the calls of one module after the other."""

    def __init__(self, evaluator: Evaluator, functions: Mapping[tuple[str, str], str]) -> None:
        self._evaluator = evaluator
        self._functions = functions
        self.calls: list[Call] = []
        self.not_literal: list[str] = []
        self.mentions: dict[str, str] = {}
        self._where = ""

    def read(self, module: Module, scope: Scope) -> None:
        """The calls of a module, with all functions in it."""
        waiting: list[tuple[ast.AST, Scope]] = [(module.tree(), scope)]
        while waiting:
            node, its = waiting.pop()
            for one in within(node):
                if isinstance(one, ast.Call):
                    self._where = f"{module.shown}:{one.lineno}"
                    self._read(one, its)
                if isinstance(one, SCOPES):
                    waiting.append((one, self._inner(one, its)))

    def _inner(self, node: ast.AST, outer: Scope) -> Scope:
        scope = scope_of(node, outer.module, outer)
        if isinstance(node, FUNCTIONS) and not isinstance(node, ast.Lambda):
            task = self._functions.get((outer.module, node.name))
            first = next(iter((*node.args.posonlyargs, *node.args.args)), None)
            is_bound = any(_is_tasks(one) and _keyword(one, "bind") is True for one in node.decorator_list)
            if task and first is not None and (is_bound or isinstance(outer.node, ast.ClassDef)):
                scope.bound[first.arg] = task
        return scope

    def _read(self, node: ast.Call, scope: Scope) -> None:
        if mentioned := self._evaluator.is_from(node.func, scope, "celery", MENTIONED):
            self.mentions.setdefault(mentioned, self._where)
        if isinstance(node.func, ast.Call):  # chord(header)(body)
            self._called(node, scope)
        elif isinstance(node.func, ast.Attribute) and (read := METHODS.get(node.func.attr)) is not None:
            read(self, node, node.func.value, scope)

    def _called(self, node: ast.Call, scope: Scope) -> None:
        canvas = self._evaluator.one(node.func, scope)
        if isinstance(canvas, Canvas):
            self._canvas(canvas, "()", {})
            if canvas.kind == "chord" and node.args:
                self._part(self._evaluator.one(node.args[0], scope), "()", {})

    def _delay(self, node: ast.Call, receiver: ast.expr, scope: Scope) -> None:
        owners = self._evaluator.values(receiver, scope)
        if not owners:
            if self._may_be_a_task(receiver, scope):
                self.not_literal.append(self._where)
            return
        for owner in owners:
            if isinstance(owner, Task):
                args = self._evaluator.arguments(node.args, scope)
                self._add("delay", owner.name, {}, args, self._evaluator.keywords(node.keywords, scope))
            else:
                self._part(owner, "delay", {})

    def _apply_async(self, node: ast.Call, receiver: ast.expr, scope: Scope) -> None:
        owners = self._evaluator.values(receiver, scope)
        published = [one for one in owners if isinstance(one, Task | Signature | Canvas)]
        if not published:
            if not owners:
                self.not_literal.append(self._where)
            return
        options = self._options(node, scope)
        if not options:
            self.not_literal.append(self._where)
            return
        args, kwargs = self._arguments(node, 0, scope)
        for owner, given in product(published, options):
            if isinstance(owner, Task):
                self._add("apply_async", owner.name, given, args, kwargs)
            else:
                self._part(owner, "apply_async", given)
        self._linked(node, scope)

    def _send_task(self, node: ast.Call, _receiver: ast.expr, scope: Scope) -> None:
        given = node.args[0] if node.args else next((one.value for one in node.keywords if one.arg == "name"), None)
        names = self._evaluator.values(given, scope) if given is not None else []
        options = self._options(node, scope)
        if not names or not options or not all(isinstance(one, Constant) for one in names):
            self.not_literal.append(self._where)
            return
        args, kwargs = self._arguments(node, 1, scope)
        for name, chosen in product(names, options):
            if isinstance(name.value, str):
                self._add("send_task", name.value, chosen, args, kwargs)
        self._linked(node, scope)

    def _retry(self, node: ast.Call, receiver: ast.expr, scope: Scope) -> None:
        """`self.retry(queue=...)`; without routing options a retry goes where the task came from."""
        owner = self._evaluator.one(receiver, scope)
        if not isinstance(owner, Task) or not any(keyword.arg in OPTIONS for keyword in node.keywords):
            return
        for options in self._options(node, scope):
            self._add("retry", owner.name, options, None, None)

    def _replace(self, node: ast.Call, receiver: ast.expr, scope: Scope) -> None:
        if node.args and isinstance(self._evaluator.one(receiver, scope), Task):
            self._part(self._evaluator.one(node.args[0], scope), "replace", {})

    # what is published

    def _part(self, part: Any, method: str, options: Mapping[str, Any], **more: Any) -> None:
        if isinstance(part, Canvas):
            self._canvas(part, method, options)
        elif isinstance(part, Signature):
            if part.options is None:
                self.not_literal.append(self._where)
            else:
                self._add(method, part.task, {**_kept(part.options), **options}, part.args, part.kwargs, **more)

    def _canvas(self, canvas: Canvas, method: str, options: Mapping[str, Any]) -> None:
        """A chain's options go to its first link, a group's and a chord's header's to each of them."""
        if not canvas.is_whole or canvas.options is None:
            self.not_literal.append(self._where)
        given = {**_kept(canvas.options or {}), **options}
        for number, part in enumerate(canvas.parts):
            if canvas.kind == "chain" and number:
                self._part(part, method, {}, in_chain=True, chain_options=given)
            else:
                self._part(part, method, given)
        if canvas.body is not None:
            self._part(canvas.body, method, {})

    def _linked(self, node: ast.Call, scope: Scope) -> None:
        """What a call publishes when its task has ended."""
        for keyword in node.keywords:
            if keyword.arg in LINKS:
                value = self._evaluator.one(keyword.value, scope)
                for part in value.values if isinstance(value, Items) else (value,):
                    self._part(part, str(keyword.arg), {})

    def _add(self, method: str, task: str, options: Mapping[str, Any], args: Any, kwargs: Any, **more: Any) -> None:
        self.calls.append(Call(self._where, method, task, options, args, kwargs, **more))

    # options and arguments

    def _options(self, node: ast.Call, scope: Scope) -> list[dict[str, Any]]:
        """The routing options of a call, one mapping for each of their values; none where one isn't known."""
        choices: list[list[tuple[str, Any]]] = []
        for keyword in node.keywords:
            if keyword.arg is None:
                given = self._evaluator.constant(keyword.value, scope)
                if given is None or not isinstance(given.value, dict):
                    return []
                choices += [[(name, value)] for name, value in _kept(given.value).items()]
            elif keyword.arg in DELAYS:
                value = self._evaluator.constant(keyword.value, scope)
                choices.append([("countdown", value.value if value and keyword.arg == "countdown" else DELAY)])
            elif keyword.arg in OPTIONS:
                values = self._evaluator.values(keyword.value, scope)
                if keyword.arg == "expires" and not values:
                    continue  # a date: it decides nothing of the route
                if not values or not all(isinstance(one, Constant) for one in values):
                    return []
                choices.append([(keyword.arg, one.value) for one in values])
        if prod(map(len, choices)) > MAX_VARIANTS:
            return []
        return [{name: value for name, value in chosen if value is not None} for chosen in product(*choices)]

    def _arguments(self, node: ast.Call, first: int, scope: Scope) -> tuple[Any, Any]:
        """The task's own arguments, by place or by name."""
        found: list[Any] = []
        for at, name, empty in ((first, "args", ()), (first + 1, "kwargs", {})):
            given = node.args[at] if len(node.args) > at else None
            given = given or next((one.value for one in node.keywords if one.arg == name), None)
            if given is None:
                found.append(empty)
            else:
                value = self._evaluator.constant(given, scope)
                found.append(value.value if value is not None else None)
        args, kwargs = found
        is_list = isinstance(args, list | tuple)
        return tuple(args) if is_list else None if args is not None else args, kwargs if isinstance(
            kwargs, dict
        ) else None

    def _may_be_a_task(self, node: ast.expr, scope: Scope) -> bool:
        """Whether something of which the source doesn't say what it is may be a task: others have a `delay` too."""
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Attribute) and node.func.attr in ("s", "si", "signature", "subtask")
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        root = self._evaluator.one(node.value, scope) if isinstance(node, ast.Attribute) else None
        return "task" in name.lower() or isinstance(root, ModuleName)


METHODS = {
    "delay": _Reader._delay,
    "apply_async": _Reader._apply_async,
    "send_task": _Reader._send_task,
    "retry": _Reader._retry,
    "replace": _Reader._replace,
}


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide where a task goes; an ETA stands as a countdown."""
    kept = {name: value for name, value in options.items() if name in (*OPTIONS, *DELAYS) and value is not None}
    if kept.pop("eta", None) is not None:
        kept["countdown"] = DELAY
    return kept
