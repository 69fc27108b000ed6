"""The page and its API, and who watches: docs/reference/live.md describes each answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from waybill.errors import BrokerUnavailable
from waybill.live.collector import Collector
from waybill.live.events import Event
from waybill.live.flow import Flowing
from waybill.rabbitmq.state import LiveFacts

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
LIST, MAX_LIST = 200, 1000
EVERY = 1.0
"""Seconds between two counts."""

WAITING = 10_000
"""Events that a page may leave unread; then it is told to load anew."""

TIMEOUT, MAX_TIMEOUT = 10.0, 60.0

Sending = Callable[[str, str, Mapping[str, Any], str], bool]
"""Exchange, key, headers and payload -> whether a queue took it."""

Told = tuple[str, int, Any]
"""A name, a message's number or 0, and what is written as JSON when it is sent."""


class Watchers:
    """The collector behind a lock, and everybody who is told of what is new; as `source.Taker`.

    Attributes:
        on_message: called with each message that is new or goes on, by the source's thread.
        error: why the broker is gone.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.lock = threading.Lock()
        self.error: BrokerUnavailable | None = None
        self.ended = threading.Event()
        self.on_message: Callable[[Flowing], None] | None = None
        self._on_end: Callable[[], object] | None = None
        self._told: dict[asyncio.Queue[Told], asyncio.AbstractEventLoop] = {}

    # by the source's thread

    @property
    def is_doubtful(self) -> bool:
        """Whether something went otherwise than predicted."""
        return self.collector.is_doubtful

    def take_event(self, event: Event) -> None:
        """The firehose has copied something."""
        with self.lock:
            one = self.collector.take(event)
            if one is None:
                return
            row = self.collector.row(one)
            is_new = self.collector.arrange()
        if is_new:
            self._tell("map", 0, None)
        self._tell("message", one.number, row)
        if self.on_message is not None:
            self.on_message(one)

    def take_facts(self, facts: LiveFacts) -> None:
        """What exists now."""
        with self.lock:
            is_new, changed = self.collector.take_facts(facts)
            rows = [(one.number, self.collector.row(one)) for one in changed]
        if is_new:
            self._tell("map", 0, None)
        for number, row in rows:
            self._tell("message", number, row)

    def failed(self, error: BrokerUnavailable) -> None:
        """The broker is gone."""
        self.error = error
        self._tell("gone", 0, {"error": str(error)})
        self.ended.set()
        if self._on_end is not None:
            self._on_end()

    def on_end(self, call: Callable[[], object]) -> None:
        """Have something called, by the source's thread, when the broker is gone."""
        self._on_end = call
        if self.ended.is_set():
            call()

    def _tell(self, name: str, number: int, value: Any) -> None:
        for queue, loop in tuple(self._told.items()):
            loop.call_soon_threadsafe(_put, queue, (name, number, value))

    # by the page's loop

    def join(self) -> asyncio.Queue[Told]:
        """Somebody watches."""
        queue: asyncio.Queue[Told] = asyncio.Queue()
        self._told[queue] = asyncio.get_running_loop()
        return queue

    def leave(self, queue: asyncio.Queue[Told]) -> None:
        """He no longer does."""
        self._told.pop(queue, None)

    def map(self) -> dict[str, Any]:
        """The whole map."""
        with self.lock:
            return self.collector.map(time.time())


def _put(queue: asyncio.Queue[Told], told: Told) -> None:
    if queue.qsize() < WAITING:
        queue.put_nowait(told)


class Guard:
    """Refuses what a page of another site has a browser ask, and says to browsers what a page may load."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        origin = request.headers.get("origin")
        is_ours = origin is None or urlsplit(origin).hostname in self._hosts
        if host not in self._hosts or not is_ours:
            await JSONResponse({"error": "not an address of this page"}, 403)(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        await self._app(scope, receive, guarded)


def application(watchers: Watchers, send: Sending, hosts: frozenset[str]) -> Starlette:
    """The page and its API as an ASGI application.

    Args:
        send: publishes a message, see `source.Source.send`.
        hosts: the names under which it may be asked.
    """
    page = _Pages(watchers, send)
    routes = [
        Route("/", page.index),
        Route("/page/{name}", page.file),
        Route("/text", page.text),
        Route("/events", page.events),
        Route("/api/map", page.map),
        Route("/api/messages", page.messages),
        Route("/api/messages/{number:int}", page.message),
        Route("/api/unroutable", page.unroutable),
        Route("/api/tasks/{id}", page.tasks),
        Route("/api/try", page.attempt),
        Route("/api/wait", page.wait),
        Route("/api/send", page.send, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)])


class _Pages:
    def __init__(self, watchers: Watchers, send: Sending) -> None:
        self._watchers = watchers
        self._send = send
        self._folder = files("waybill.live") / "page"

    async def index(self, _: Request) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def file(self, request: Request) -> Response:
        """One of its files."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        found = self._folder / name
        kind = KINDS.get(name.rpartition(".")[2])
        if "/" in name or kind is None or not found.is_file():
            return _error(404, f"no file {name!r}")
        return Response(found.read_bytes(), media_type=kind)

    async def text(self, _: Request) -> Response:
        """The same as a table, for who has no JavaScript."""
        with self._watchers.lock:
            rows = [self._watchers.collector.row(one) for one in self._watchers.collector.flow.after(0, LIST)]
        return PlainTextResponse("\n".join(map(line, reversed(rows))) + "\n")

    async def map(self, _: Request) -> Response:
        """The map."""
        return JSONResponse(self._watchers.map())

    async def messages(self, request: Request) -> Response:
        """The last messages."""
        try:
            after = int(request.query_params.get("after", "0"))
            limit = min(int(request.query_params.get("limit", LIST)), MAX_LIST)
        except ValueError:
            return _error(400, "after and limit: expected numbers")
        with self._watchers.lock:
            collector = self._watchers.collector
            rows = [collector.row(one) for one in collector.flow.after(after, limit)]
            return JSONResponse({"messages": rows, "last": collector.flow.last})

    async def message(self, request: Request) -> Response:
        """One message."""
        with self._watchers.lock:
            one = self._watchers.collector.flow.get(request.path_params["number"])
            if one is None:
                return _error(404, "that message is forgotten, or none was counted so")
            return JSONResponse(self._watchers.collector.details(one))

    async def unroutable(self, _: Request) -> Response:
        """What nobody took."""
        with self._watchers.lock:
            return JSONResponse({"messages": self._watchers.collector.unroutable()})

    async def tasks(self, request: Request) -> Response:
        """A task's tree."""
        with self._watchers.lock:
            return JSONResponse(self._watchers.collector.tasks(request.path_params["id"]))

    async def attempt(self, request: Request) -> Response:
        """Where a message would go."""
        asked = request.query_params
        try:
            headers = json.loads(asked.get("headers") or "{}")
        except (ValueError, RecursionError):
            headers = None
        if not isinstance(headers, dict):
            return _error(400, "headers: expected a JSON object")
        with self._watchers.lock:
            collector = self._watchers.collector
            return JSONResponse(collector.attempt(asked.get("exchange", ""), asked.get("key", ""), headers))

    async def wait(self, request: Request) -> Response:
        """Answer when a message of this task, id or state is there, or the time is over."""
        asked = request.query_params
        try:
            timeout = min(float(asked.get("timeout", TIMEOUT)), MAX_TIMEOUT)
        except ValueError:
            return _error(400, "timeout: expected seconds")
        wanted = {name: asked[name] for name in ("task", "id", "state") if name in asked}
        queue = self._watchers.join()
        try:
            until = time.monotonic() + timeout
            with self._watchers.lock:
                collector = self._watchers.collector
                rows = [collector.row(one) for one in collector.flow.after(0, MAX_LIST)]
            while True:
                for row in rows:
                    if all(row[name] == value for name, value in wanted.items()):
                        return JSONResponse(row)
                rows = []
                left = until - time.monotonic()
                if left <= 0:
                    return _error(408, f"no such message within {timeout:g} s")
                try:
                    name, _, value = await asyncio.wait_for(queue.get(), left)
                except TimeoutError:
                    continue
                rows = [value] if name == "message" else []
        finally:
            self._watchers.leave(queue)

    async def send(self, request: Request) -> Response:
        """Publish a message."""
        try:
            asked = json.loads(await request.body())
            texts = [asked.get(name, "") for name in ("exchange", "key", "payload")]
            headers = asked.get("headers") or {}
        except (ValueError, RecursionError, AttributeError):
            return _error(400, "expected a JSON object with exchange, key, headers and payload")
        if not isinstance(headers, dict) or not all(isinstance(one, str) for one in texts):
            return _error(400, "exchange, key and payload: expected text; headers: an object")
        exchange, key, payload = texts
        try:
            is_routed = await asyncio.to_thread(self._send, exchange, key, headers, payload)
        except BrokerUnavailable as error:
            return JSONResponse({"outcome": "refused", "text": str(error)})
        text = "a queue took it" if is_routed else "no queue took it"
        return JSONResponse({"outcome": "routed" if is_routed else "returned", "text": text})

    async def events(self, request: Request) -> Response:
        """All that is new, as it comes."""
        given = request.headers.get("last-event-id", "")
        after = int(given) if given.isascii() and given.isdigit() else None
        return StreamingResponse(self._stream(after), media_type="text/event-stream")

    async def _stream(self, after: int | None) -> AsyncIterator[str]:
        queue = self._watchers.join()
        try:
            yield "retry: 1000\n\n"
            if after is not None:
                with self._watchers.lock:
                    collector = self._watchers.collector
                    rows = [collector.row(one) for one in collector.flow.after(after, MAX_LIST)]
                for row in rows:
                    yield sent("message", row["number"], row)
            counted = time.monotonic()
            while not self._watchers.ended.is_set():
                left = counted + EVERY - time.monotonic()
                try:
                    name, number, value = await asyncio.wait_for(queue.get(), max(left, 0.001))
                    yield sent(name, number, self._watchers.map() if name == "map" else value)
                except TimeoutError:
                    pass
                if time.monotonic() - counted >= EVERY:
                    counted = time.monotonic()
                    with self._watchers.lock:
                        numbers = self._watchers.collector.counts(time.time())
                    yield sent("counts", 0, numbers)
        finally:
            self._watchers.leave(queue)


def sent(name: str, number: int, value: Any) -> str:
    """One server-sent event; only messages have a number to resume from."""
    mark = f"id: {number}\n" if number else ""
    return f"{mark}event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n"


def line(row: Mapping[str, Any]) -> str:
    """A message in a line of text."""
    at = time.strftime("%H:%M:%S", time.localtime(row["time"]))
    what = row["task"] or row["id"] or "message"
    reached = ", ".join(row["queues"]) or "nobody"
    workers = f" → {', '.join(row['workers'])}" if row["workers"] else ""
    wrong = f" (predicted: {', '.join(row['predicted']) or 'nobody'})" if row["state"] == "mismatch" else ""
    return f"{at} {what}  {row['exchange'] or '(default)'} {row['key']} → {reached}{workers}  {row['state']}{wrong}"


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)
