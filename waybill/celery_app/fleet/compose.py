"""The services of compose files, as docker compose reads them: merged, extended, included, with their variables.

Source: https://github.com/compose-spec/compose-spec/blob/main/spec.md
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from waybill.celery_app.fleet.documents import Tagged, read_text, yaml_documents
from waybill.celery_app.fleet.services import CannotRead, Service
from waybill.celery_app.fleet.variables import interpolated, read_env_file
from waybill.errors import InputError

# Services of a file that extend each other, at most.
MAX_DEPTH = 20

# What of a service is read, and how a second file changes it: a list of arguments is replaced, mappings are merged.
MERGED = ("environment", "deploy", "build", "labels")
ADDED = ("env_file", "profiles")


def compose_services(paths: Sequence[Path], profiles: Iterable[str]) -> Iterator[Service]:
    """The services of these files together, the later ones above the earlier ones.

    Args:
        profiles: those that are active; `COMPOSE_PROFILES` and `*` count as for docker compose.

    Raises:
        InputError: a file can't be read, or isn't a compose file.
    """
    project = _Project(_project_variables(paths[0].parent))
    variables = project.variables
    active = {*profiles, *filter(None, variables.get("COMPOSE_PROFILES", "").split(","))}
    services: dict[str, _Described] = {}
    for path in paths:
        for name, described in project.services(path).items():
            services[name] = services[name].under(described) if name in services else described
    for name, described in services.items():
        if _is_active(described.values.get("profiles"), active):
            yield _service(name, described, variables)


class _Described:
    """A service as its files describe it, with the folder of the first."""

    def __init__(self, values: Mapping[str, Any], folder: Path, source: str, reason: str = "") -> None:
        self.values = values
        self.folder = folder
        self.source = source
        self.reason = reason

    def under(self, other: _Described) -> _Described:
        """This one with what the other one says above it."""
        return _Described(_merged(self.values, other.values), self.folder, self.source, self.reason or other.reason)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        if isinstance(value, Tagged):
            found.pop(key, None)
            if value.tag == "!override":
                found[key] = value.value
        elif key in MERGED and key in found:
            found[key] = {**_as_mapping(found[key]), **_as_mapping(value)}
        elif key in ADDED and key in found:
            found[key] = [*_as_list(found[key]), *_as_list(value)]
        else:
            found[key] = value
    return found


def _project_variables(folder: Path) -> dict[str, str]:
    """The variables with which compose reads the files: those of `.env`, below the shell's."""
    env = folder / ".env"
    try:
        found = read_env_file(read_text(env)) if env.is_file() else {}
    except InputError:
        found = {}
    return {**found, **os.environ}


class _Project:
    """The files of one project: each is read once, however many services extend what it describes.

    Args:
        variables: with which compose reads the files.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self._read: dict[Path, dict[str, _Described]] = {}
        self._reading: list[Path] = []

    def services(self, path: Path) -> dict[str, _Described]:
        """The services of a file with those that it includes.

        Raises:
            InputError: it can't be read, is no compose file, or leads to itself.
        """
        key = path.resolve()
        if key in self._reading:
            raise InputError(f"{path}: it includes or extends itself")
        if key not in self._read:
            self._reading.append(key)
            try:
                self._read[key] = self._services(path)
            finally:
                self._reading.pop()
        return self._read[key]

    def _services(self, path: Path) -> dict[str, _Described]:
        documents = yaml_documents(read_text(path), str(path))
        document = documents[0] if documents else None
        services = document.get("services") if isinstance(document, Mapping) else None
        if isinstance(document, Mapping) and services is None and "include" in document:
            services = {}
        if not isinstance(services, Mapping):
            raise InputError(
                f"{path}: expected a mapping `services`, as in a compose file, got {type(services).__name__} "
                "(a Procfile is known by its name)"
            )
        found: dict[str, _Described] = {}
        for included in self._included(document.get("include"), path) if isinstance(document, Mapping) else ():
            found |= self.services(included)
        for name, values in services.items():
            described = self._extended(values, services, path, 0)
            found[str(name)] = found[str(name)].under(described) if str(name) in found else described
        return found

    def _included(self, given: Any, path: Path) -> Iterator[Path]:
        for item in _as_list(given):
            for one in _as_list(item.get("path") if isinstance(item, Mapping) else item):
                try:
                    yield path.parent / interpolated(str(one), self.variables)
                except CannotRead as error:
                    raise InputError(f"{path}: include {one!r}: {error}") from error

    def _extended(self, values: Any, services: Mapping[str, Any], path: Path, depth: int) -> _Described:
        """A service above the one that it extends."""
        if isinstance(values, Tagged):
            values = values.value
        if not isinstance(values, Mapping):
            return _Described({}, path.parent, str(path), "" if values is None else "its description is no mapping")
        own = _Described(values, path.parent, str(path))
        base = values.get("extends")
        if base is None:
            return own
        base = {"service": base} if isinstance(base, str) else base
        if not isinstance(base, Mapping) or depth > MAX_DEPTH:
            return _Described(values, path.parent, str(path), "its `extends` can't be read")
        try:
            name, file = str(base["service"]), base.get("file")
            if file is None:
                described = self._extended(services[name], services, path, depth + 1)
            else:
                described = self.services(path.parent / interpolated(str(file), self.variables))[name]
        except (KeyError, InputError, CannotRead) as error:
            return _Described(values, path.parent, str(path), f"what it extends can't be read: {error}")
        return described.under(own)


def _is_active(own: Any, active: set[str]) -> bool:
    """Whether compose would start a service with these profiles of its own: always without any."""
    profiles = set(map(str, _as_list(own)))
    return not profiles or "*" in active or bool(profiles & active)


def _service(name: str, described: _Described, variables: Mapping[str, str]) -> Service:
    values, reason = _merged({}, described.values), described.reason
    words: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    try:
        environment = _environment(values, described.folder, variables)
        words = (*_words(values.get("entrypoint"), variables), *_words(values.get("command"), variables))
    except CannotRead as error:
        reason = reason or str(error)
    return Service(
        name,
        words,
        environment=environment,
        folder=_folder(values, described.folder, variables),
        image=_text(values.get("image"), variables) or str(_as_mapping(values.get("build")).get("context", "")),
        copies=_copies(values, variables),
        reason=reason,
        source=described.source,
    )


def _folder(values: Mapping[str, Any], folder: Path, variables: Mapping[str, str]) -> Path:
    """Where the service's files are: the context from which its image is built, else beside the file."""
    build = values.get("build")
    context = build if isinstance(build, str) else _as_mapping(build).get("context")
    below = folder / _text(context, variables) if context else folder
    return below if below.is_dir() else folder


def _text(value: Any, variables: Mapping[str, str]) -> str:
    try:
        return interpolated(str(value), variables) if value is not None else ""
    except CannotRead:
        return str(value)


def _words(command: Any, variables: Mapping[str, str]) -> list[str]:
    """A command as words; compose allows one string, which it splits as a shell would, or a list."""
    if command is None:
        return []
    if isinstance(command, list):
        return [interpolated(str(word), variables) for word in command]
    try:
        return shlex.split(interpolated(str(command), variables))
    except ValueError as error:
        raise CannotRead(f"its command cannot be split into words: {error}") from error


def _environment(values: Mapping[str, Any], folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in _as_list(values.get("env_file")):
        file = item.get("path") if isinstance(item, Mapping) else item
        path = folder / interpolated(str(file), variables)
        if path.is_file():
            try:
                found |= read_env_file(read_text(path))
            except InputError as error:
                raise CannotRead(str(error)) from error
    for name, value in _as_mapping(values.get("environment")).items():
        if value is not None:
            found[name] = interpolated(_shown(value), variables)
        elif name in variables:
            found[name] = variables[name]
    return found


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _copies(values: Mapping[str, Any], variables: Mapping[str, str]) -> int:
    """`deploy.replicas` or `scale`; 1 where it says nothing, or no number."""
    for given in (_as_mapping(values.get("deploy")).get("replicas"), values.get("scale")):
        text = _text(given, variables)
        if text.isdecimal():
            return int(text)
    return 1


def _as_mapping(value: Any) -> dict[str, Any]:
    """`[A=1, B]` and `{A: 1, B: null}` are the same; a text is the context of a build."""
    if isinstance(value, Tagged):
        value = value.value
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items()}
    if isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {name: text if is_set else None for name, is_set, text in pairs}
    return {"context": value} if isinstance(value, str) else {}


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, Tagged):
        value = value.value
    return list(value) if isinstance(value, list) else [] if value is None else [value]
