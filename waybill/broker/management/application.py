"""The management API as an ASGI application: who asks, what for, and in which form it is answered."""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from waybill.broker.management import content
from waybill.broker.management.call import Answer, Call, Problem, Site
from waybill.broker.management.pages import Page, page_for

MAX_BODY = 20_000_000
"""Bytes of a request's body (RabbitMQ's `management.http.max_body_size`)."""

MAX_NESTING = 100
"""Objects and lists inside one another in a request's body."""

PREFIX = "/api/"

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Beside its own address, the hosts that a request may name: a page of another site has another one."""

Turn = Callable[[Callable[[], Answer]], Answer]


class Application:
    """The management API of one broker.

    Args:
        turn: has a call done between the turns of the broker's connections.
    """

    def __init__(self, site: Site, turn: Turn) -> None:
        self._site = site
        self._turn = turn
        self._hosts = frozenset({site.host, *LOOPBACK})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        except Problem as problem:
            answer = problem.answer
        await _response(answer).__call__(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        self._check_origin(request)
        user = self._user(request)
        if isinstance(user, Answer):
            return user
        path = (request.scope.get("raw_path") or request.url.path.encode()).decode("ascii", "replace")
        if not path.startswith(PREFIX):
            raise Problem.missing()
        page, names = page_for(tuple(map(unquote, path.removeprefix(PREFIX).removesuffix("/").split("/"))))
        if request.method == "OPTIONS":
            return Answer(headers={"Allow": page.allowed})
        act = page.act(request.method)
        if act is None:
            return Answer(405, headers={"Allow": page.allowed})
        body = _object(await _body(request))
        query = dict(request.query_params)
        call = Call(self._site, user, names, query, body, request.headers.get("x-reason"))
        call.need_manager()
        answer = self._turn(lambda: act(call))
        return Answer(answer.status, arranged(answer.value, page, query), answer.headers)

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another site has a browser ask."""
        for name in ("host", "origin"):
            given = request.headers.get(name)
            if given is None:
                continue
            host = urlsplit(given if name == "origin" else f"//{given}").hostname
            if host not in self._hosts:
                raise Problem(403, "forbidden", f"{name} {given!r}: not an address of this broker")

    def _user(self, request: Request) -> str | Answer:
        """Who asks; an answer where nobody says so, or it isn't true."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return Answer(401, headers={"WWW-Authenticate": 'Basic realm="RabbitMQ Management"'})
        try:
            name, _, password = b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            name = password = ""
        known = self._site.node.users.get(name)
        if not known or not hmac.compare_digest(known.encode(), password.encode()):
            return Answer(401, {"error": "not_authorized", "reason": "Not_Authorized"})
        return name


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise Problem.bad("Exceeded HTTP request body size limit")
        parts.append(part)
    return b"".join(parts)


def _object(body: bytes) -> Mapping[str, Any]:
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem.bad("not_json") from None
    if not isinstance(found, dict) or _is_deep(found):
        raise Problem.bad("not_json")
    return found


def _is_deep(found: object) -> bool:
    level = [found]
    for _ in range(MAX_NESTING):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [value for values in inner for value in values]
    return bool(level)


def _response(answer: Answer) -> Response:
    headers = {**answer.headers, "Cache-Control": "no-cache", "Vary": "accept, accept-encoding, origin"}
    headers["Content-Security-Policy"] = "script-src 'self'; object-src 'self'"
    if answer.value is None:
        return Response(status_code=answer.status, headers=headers)
    text = json.dumps(answer.value, default=content.plain, separators=(",", ":"))
    return Response(text, answer.status, headers, "application/json")


# the form of a list


def arranged(value: Any, page: Page, query: Mapping[str, str]) -> Any:
    """An answer as the query asks for it: filtered, sorted, in pages, with some columns only.

    Raises:
        Problem: 400 for a page that there isn't.
    """
    columns = [one.split(".") for one in query.get("columns", "").split(",") if one]
    if isinstance(value, dict):
        return _cut(value, columns)
    if not isinstance(value, list):
        return value
    listed = value
    is_paged = page.is_paged and "page" in query
    if is_paged:
        listed = _filtered(listed, query)
    if "sort" in query:
        path = query["sort"].split(".")
        listed = sorted(listed, key=lambda row: _rank(_at(row, path)), reverse=query.get("sort_reverse") == "true")
    if not is_paged:
        return [_cut(row, columns) for row in listed]
    return _page(listed, len(value), columns, query)


def _page(listed: list[Any], total: int, columns: list[list[str]], query: Mapping[str, str]) -> dict[str, Any]:
    numbers = query["page"], query.get("page_size", "100")
    if not all(one.isascii() and one.isdigit() and int(one) > 0 for one in numbers) or int(numbers[1]) > 500:
        raise Problem.bad("Pagination parameters are invalid")
    page, size = map(int, numbers)
    count = -(-len(listed) // size)
    if page > max(count, 1):
        text = f"Page out of range, page: {page} page size: {size}, len: {len(listed)}"
        raise Problem(400, "page_out_of_range", text)
    items = listed[(page - 1) * size : page * size]
    return {
        "total_count": total,
        "filtered_count": len(listed),
        "item_count": len(items),
        "page": page,
        "page_size": size,
        "page_count": count,
        "items": [_cut(row, columns) for row in items],
    }


def _filtered(listed: list[Any], query: Mapping[str, str]) -> list[Any]:
    name = query.get("name", "")
    if not name:
        return listed
    if query.get("use_regex") != "true":
        return [row for row in listed if name.lower() in str(row.get("name", "")).lower()]
    try:
        pattern = re.compile(name, re.IGNORECASE)
    except re.error:
        raise Problem.bad(f"name: no regular expression: {name}") from None
    return [row for row in listed if pattern.search(str(row.get("name", "")))]


def _at(row: Any, path: list[str]) -> Any:
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _rank(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return (1, 0.0, value) if isinstance(value, str) else (2, 0.0, "")


def _cut(row: Any, columns: list[list[str]]) -> Any:
    if not columns or not isinstance(row, Mapping):
        return row
    kept: dict[str, Any] = {}
    for path in columns:
        value = _at(row, path)
        if value is None:
            continue
        place = kept
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return kept
