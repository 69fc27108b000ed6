"""Kubernetes manifests: each container of a Deployment, StatefulSet, CronJob and their like is a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from waybill.celery_app.fleet.documents import mappings
from waybill.celery_app.fleet.services import Service

KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod", "Rollout"})


def is_manifest(document: Any) -> bool:
    """Whether this is a Kubernetes object."""
    return isinstance(document, Mapping) and "kind" in document and "apiVersion" in document


def manifest_services(documents: list[Any], path: Path) -> Iterator[Service]:
    """The containers of all documents; `kubectl` writes several as a `List`."""
    maps = {
        str(_of(one, "metadata").get("name")): _texts(one.get("data"))
        for one in documents
        if isinstance(one, Mapping) and one.get("kind") == "ConfigMap"
    }
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        if document.get("kind") == "List":
            yield from manifest_services(list(mappings(document.get("items"))), path)
        elif document.get("kind") in KINDS:
            yield from _containers(document, maps, path)


def _containers(document: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]], path: Path) -> Iterator[Service]:
    name = str(_of(document, "metadata").get("name") or document["kind"])
    spec = _of(document, "spec")
    template = _of(spec, "jobTemplate", "spec", "template") or _of(spec, "template")
    pod = _of(template, "spec") if template else spec
    containers = list(mappings(pod.get("containers")))
    replicas = spec.get("replicas", 1)
    for container in containers:
        own = str(container.get("name") or name)
        environment = _environment(container, maps)
        words = [*_list(container.get("command")), *_list(container.get("args"))]
        yield Service(
            name if len(containers) == 1 else f"{name}/{own}",
            tuple(_resolved(word, environment) for word in words),
            environment=environment,
            folder=path.parent,
            image=str(container.get("image") or ""),
            copies=replicas if isinstance(replicas, int) and not isinstance(replicas, bool) else 1,
            source=str(path),
        )


def _environment(container: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in mappings(container.get("envFrom")):
        found |= maps.get(str(_of(source, "configMapRef").get("name")), {})
    for one in mappings(container.get("env")):
        reference = _of(one, "valueFrom", "configMapKeyRef")
        if one.get("value") is not None:
            found[str(one.get("name"))] = str(one["value"])
        elif (value := maps.get(str(reference.get("name")), {}).get(str(reference.get("key")))) is not None:
            found[str(one.get("name"))] = value
    return found


def _resolved(word: str, environment: Mapping[str, str]) -> str:
    """Kubernetes itself resolves `$(NAME)`."""
    for name, value in environment.items():
        word = word.replace(f"$({name})", value)
    return word


def _of(value: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, Mapping) else {}
