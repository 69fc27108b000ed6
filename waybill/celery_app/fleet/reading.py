"""Read a fleet from its descriptions: the file's kind, its services, and the worker of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from celery import Celery

from waybill.celery_app.fleet.command_line import Start, consumed, starts_of
from waybill.celery_app.fleet.compose import compose_services
from waybill.celery_app.fleet.documents import read_text, yaml_documents
from waybill.celery_app.fleet.kubernetes import is_manifest, manifest_services
from waybill.celery_app.fleet.processes import procfile_services, supervisor_services, unit_services
from waybill.celery_app.fleet.scripts import commands_of
from waybill.celery_app.fleet.services import CannotRead, Service
from waybill.celery_app.fleet.workers import Fleet, Unread, Worker, is_same
from waybill.errors import InputError

YAML = (".yml", ".yaml")
# Files of a folder that may describe a fleet.
NAMES = re.compile(r"(?:docker-)?compose[\w.-]*\.ya?ml|Procfile[\w.-]*|.*\.(?:ya?ml|service|ini|conf)")

# Services that may run a worker by their names, where nothing says what they run.
HINTS = re.compile(r"celery|worker|consumer|queue", re.IGNORECASE)
# Other programs of Celery's, and what runs beside workers: none of them consumes a task queue. The workers that a web
# server speaks of are its own.
OTHERS = re.compile(
    r"beat|flower|exporter|scheduler|migrat|dashboard|rabbit|redis|broker|postgres"
    r"|gunicorn|uvicorn|hypercorn|daphne|granian|uwsgi|nginx",
    re.IGNORECASE,
)


NOBODY: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Applications:
    """What is known of the applications that the workers run; the attributes are arguments of `read_fleet`."""

    app: Celery | None
    name: str | None
    others: Mapping[str, Sequence[str]]

    def consumed(self, start: Start, node_name: str) -> tuple[str, ...]:
        """The queues that a worker consumes.

        Raises:
            CannotRead: it has no `-Q`, and runs an application of which nothing is known.
        """
        selected, excluded = start.options.get("queues"), start.options.get("exclude_queues")
        is_own = self.name is None or start.app is None or is_same(start.app, self.name)
        if is_own and start.app not in self.others:
            return consumed(self.app, selected, excluded, node_name)
        if not selected:
            other = next((one for one in self.others if start.app and is_same(start.app, one)), None)
            if other is None:
                raise CannotRead(f"it runs the application {start.app!r} without -Q: name that with another -A")
            selected = ",".join(self.others[other])
        return consumed(None, selected, excluded, node_name)


def read_fleet(
    paths: Path | Sequence[Path],
    profiles: Iterable[str] = (),
    *,
    app: Celery | None = None,
    name: str | None = None,
    others: Mapping[str, Sequence[str]] = NOBODY,
    ignored: Collection[str] = (),
    allow_duplicate_names: bool = False,
) -> Fleet:
    """Read the workers from compose files, a Procfile, Kubernetes manifests, supervisor or systemd files, or a folder.

    Several compose files are one description, as for `docker compose -f one -f two`; several others add up.

    Args:
        profiles: those of compose files whose services belong to the fleet too.
        app: the application, by which it is known what a worker without `-Q` consumes.
        name: as `-A` names it: a worker of another application consumes that one's queues. Without it all are its own.
        others: another application -> the queues that a worker of it consumes without `-Q`.
        ignored: names of services that are left out.
        allow_duplicate_names: two workers may have one node name.

    Raises:
        InputError: a file can't be read or parsed, or no service runs a worker; where twins are not allowed, also
            a service that can't be read, and two workers with one node name.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    services = [one for one in _services(files, profiles) if one.name not in set(ignored)]
    workers: list[Worker] = []
    unread: list[Unread] = []
    images: set[str] = set()
    doubtful: list[tuple[Service, str]] = []
    for service in services:
        try:
            found = _workers(service, Applications(app, name, others))
        except CannotRead as error:
            unread.append(Unread(service.name, str(error), service.source))
            continue
        if found:
            workers += found
            images.add(service.image)
        elif reason := _doubt(service):
            doubtful.append((service, reason))
    images.discard("")
    unread += [
        Unread(one.name, reason, one.source) for one, reason in doubtful if one.image in images or _is_hinted(one)
    ]
    where = ", ".join(map(str, files))
    if not workers and not unread:
        raise InputError(f"{where}: no service runs `celery ... worker`")
    if not allow_duplicate_names:
        _refuse(workers, unread, where)
    return Fleet(tuple(workers), tuple(unread))


def _services(files: Sequence[Path], profiles: Iterable[str]) -> Iterator[Service]:
    files = [one for path in files for one in (_of_folder(path) if path.is_dir() else [path])]
    composed = []
    for path in files:
        if path.suffix not in YAML:
            yield from _others(path)
            continue
        documents = yaml_documents(read_text(path), str(path))
        if any(map(is_manifest, documents)):
            yield from manifest_services(documents, path)
        else:
            composed.append(path)
    if composed:
        yield from compose_services(composed, profiles)


def _of_folder(folder: Path) -> list[Path]:
    """The files of a folder that describe workers; an override of docker compose comes behind its compose file.

    Raises:
        InputError: there are none.
    """
    found = sorted(path for path in folder.iterdir() if path.is_file() and NAMES.fullmatch(path.name))
    described = [path for path in found if path.suffix not in YAML or _describes(path)]
    if not described:
        raise InputError(f"{folder}: no compose file, Procfile, manifest, supervisor or systemd file in this folder")
    return sorted(described, key=lambda path: ("override" in path.name, path.name))


def _describes(path: Path) -> bool:
    """Whether a YAML file of a folder is a compose file or a manifest; a folder has many others."""
    try:
        documents = yaml_documents(read_text(path), str(path))
    except InputError:
        return False
    return any(is_manifest(one) or (isinstance(one, dict) and "services" in one) for one in documents)


def _others(path: Path) -> Iterator[Service]:
    text = read_text(path)
    if path.suffix == ".service" or re.search(r"^\[Service\]\s*$", text, re.MULTILINE):
        return unit_services(text, path)
    if re.search(r"^\[program:", text, re.MULTILINE):
        return supervisor_services(text, path)
    if is_procfile(path):
        return procfile_services(text, path)
    return compose_services([path], ())


def is_procfile(path: Path) -> bool:
    """Whether the file is read as a `Procfile`."""
    return path.name.startswith("Procfile") or path.suffix == ".procfile"


def _workers(service: Service, known: Applications) -> list[Worker]:
    """The workers that a service runs; none where it runs something else, or has no replica.

    Raises:
        CannotRead: it may run one, and can't be read.
    """
    if service.reason:
        raise CannotRead(service.reason)
    starts = [start for command in commands_of(service) for start in starts_of(command)]
    return [_worker(service, start, known) for start in starts] if service.copies else []


def _worker(service: Service, start: Start, known: Applications) -> Worker:
    options = start.options
    for what, text in (("-Q", options.get("queues")), ("-X", options.get("exclude_queues")), ("-A", start.app)):
        if text and ("$" in text or "`" in text):
            raise CannotRead(f"{what} {text}: the description doesn't say what this variable is")
    node_name = start.node_name
    name, _, host = node_name.partition("@")
    if "$" in name:
        raise CannotRead(f"-n {node_name}: the description doesn't say what this variable is")
    return Worker(
        service=service.name,
        node_name=f"{name}@%h" if "$" in host else node_name,
        queues=known.consumed(start, node_name),
        arguments=start.arguments,
        app=start.app,
        concurrency=start.concurrency,
        prefetch_multiplier=start.number("prefetch_multiplier"),
        pool=options.get("pool"),
        has_own_host=service.has_own_host,
        copies=service.copies,
        source=service.source,
    )


def _doubt(service: Service) -> str:
    """Why a service of which no worker is known may run one all the same; empty where it can't."""
    if not service.copies:
        return ""
    if service.script is None and not service.words:
        return "no command here, and the image's own isn't known"
    return next(filter(None, (_doubt_of(command.words) for command in commands_of(service))), "")


def _doubt_of(words: Sequence[str]) -> str:
    """Why a command that starts no worker, as far as can be read, may start one; empty where it can't."""
    if words[0] in (".", "source"):  # of settings; one that is here was read
        return ""
    script = next((word for word in words[:2] if _is_script(word)), None)
    if script is not None:
        return f"its script {script} isn't here"
    shown = " ".join(words)
    is_celerys = any(Path(word).name == "celery" for word in words)
    if not is_celerys and words[1:2] != ("-c",) and HINTS.search(shown) and not OTHERS.search(shown):
        return f"`{shown[:60]}` is no command of Celery's"
    return ""


def _is_script(word: str) -> bool:
    """Whether a word is a shell script by its looks: `run.sh`, `/start-celeryworker`."""
    return word.endswith((".sh", ".bash")) or (word.startswith(("/", "./")) and Path(word).name.startswith("start"))


def _is_hinted(service: Service) -> bool:
    """Whether a service's name, or what it runs, speaks of a worker."""
    words = " ".join(service.words) or service.script or ""
    return any(HINTS.search(text) and not OTHERS.search(text) for text in (service.name, words))


def _refuse(workers: Iterable[Worker], unread: Iterable[Unread], where: str) -> None:
    """Workers that are to run side by side on one machine need to be known, and a name each."""
    for one in unread:
        raise InputError(f"{where}: service {one.service!r}: {one.reason}")
    for name, count in Counter(worker.node_name for worker in workers).items():
        if count > 1:
            services = [repr(worker.service) for worker in workers if worker.node_name == name]
            raise InputError(
                f"{where}: services {' and '.join(services[:2])} both run `-n {name}`; expected a node name for each"
            )
