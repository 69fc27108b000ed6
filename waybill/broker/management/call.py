"""One request to the management API, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from waybill.broker.accounts import ADMINISTRATOR, MANAGERS, MONITORING
from waybill.broker.node import Node
from waybill.broker.vhost import VHost
from waybill.errors import REPLY_NAMES, ProtocolRefusal, TopologyError


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered.

    Args:
        value: to be written as JSON; None for no body.
    """

    status: int = 200
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


CREATED = Answer(201)
DONE = Answer(204)


class Problem(Exception):
    """A request that is refused."""

    def __init__(self, status: int, error: str, reason: Any) -> None:
        super().__init__(reason)
        self.answer = Answer(status, {"error": error, "reason": reason})

    @classmethod
    def bad(cls, reason: Any) -> Problem:
        """400."""
        return cls(400, "bad_request", reason)

    @classmethod
    def missing(cls) -> Problem:
        """404: there is no such thing, or page."""
        return cls(404, "Object Not Found", "Not Found")

    @classmethod
    def denied(cls, reason: str) -> Problem:
        """401: not for this user."""
        return cls(401, "not_authorised", reason)

    @classmethod
    def of(cls, refusal: TopologyError | ProtocolRefusal, *, is_coded: bool = False) -> Problem:
        """What AMQP would answer with a code.

        Args:
            is_coded: with AMQP's code and its name before the sentence, as after `get` and `publish`.
        """
        code, text = refusal.reply_code, refusal.text
        if is_coded:
            return cls.bad(f"{code} {REPLY_NAMES[code]} - {text}")
        if code == 403:
            return cls.denied("Access refused.")
        if code == 404:
            return cls(404, "not_found", text)
        return cls.bad(text or REPLY_NAMES[code])


@dataclass(frozen=True, slots=True)
class Site:
    """Where a broker stands.

    Args:
        host, port: of AMQP.
        management_port: of this API.
        started: seconds since 1970.
    """

    node: Node
    host: str
    port: int
    management_port: int
    started: float


@dataclass(frozen=True)
class Call:
    """One request, by a user who has logged in.

    Args:
        names: what stands in the path, by the names that the table of pages gives it.
        query: the first value of each.
        body: the JSON object that came, empty without one.
        reason: why, where the client says so (`X-Reason`).
    """

    site: Site
    user: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    reason: str | None = None

    @property
    def node(self) -> Node:
        """The broker."""
        return self.site.node

    @property
    def tags(self) -> tuple[str, ...]:
        """The user's."""
        return self.node.accounts.tags[self.user]

    # who may what

    def need_manager(self) -> None:
        """Refuse who may not use the API."""
        if not MANAGERS.intersection(self.tags):
            raise Problem.denied("Not management user")

    def need_administrator(self) -> None:
        """Refuse who is no administrator."""
        if ADMINISTRATOR not in self.tags:
            raise Problem.denied("Not administrator user")

    def need_monitor(self) -> None:
        """Refuse who may not see the whole broker."""
        if not self.is_monitor():
            raise Problem.denied("Not monitor user")

    def need_policymaker(self) -> None:
        """Refuse who may not set policies."""
        if not {ADMINISTRATOR, "policymaker"}.intersection(self.tags):
            raise Problem.denied("User not authorised to access object")

    def vhosts(self) -> list[VHost]:
        """Those that the user may see the contents of, by name."""
        return [one for name, one in sorted(self.node.vhosts.items()) if self._sees(name)]

    def vhost(self) -> VHost:
        """The one that the path names."""
        found = self.node.vhosts.get(self.names["vhost"])
        if found is None:
            raise Problem.missing()
        if not self._sees(found.name):
            raise Problem(404, "not_found", "Not Found")
        return found

    def written_vhost(self) -> VHost:
        """The same, to write to: RabbitMQ says it otherwise where there is none."""
        if self.names["vhost"] not in self.node.vhosts:
            raise Problem(404, "not_found", "vhost_not_found")
        return self.vhost()

    def _sees(self, vhost: str) -> bool:
        return ADMINISTRATOR in self.tags or self.node.accounts.may_open(self.user, vhost)

    def is_monitor(self) -> bool:
        """Whether the user may see the whole broker, and not only what is his own."""
        return bool({ADMINISTRATOR, MONITORING}.intersection(self.tags))

    @property
    def only(self) -> str | None:
        """Whose connections the user may see: None for everybody's."""
        return None if self.is_monitor() else self.user

    # names and values

    def exchange(self) -> str:
        """The exchange's name in the path: `amq.default` is the default exchange."""
        name = self.names["exchange"]
        return "" if name == "amq.default" else name

    def need(self, *names: str) -> None:
        """Refuse a body without one of these."""
        gone = [f"{{key_missing,{name}}}" for name in names if self.body.get(name) is None]
        if gone:
            raise Problem.bad(f"[{','.join(gone)}]")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false in the body, as text, too."""
        value = self.body.get(name, default)
        if value in (True, "true"):
            return True
        if value in (False, "false"):
            return False
        raise Problem.bad(["not_boolean", value])

    def number(self, name: str) -> int:
        """A whole number in the body, as text, too."""
        value = self.body.get(name)
        if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit() and len(value) < 20:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Problem.bad(["not_integer", value])
        return value

    def text(self, name: str, default: str = "") -> str:
        """Text in the body."""
        value = self.body.get(name, default)
        if not isinstance(value, str):
            raise Problem.bad(["not_string", name])
        return value

    def table(self, name: str) -> Mapping[str, Any]:
        """An object in the body; Erlang's empty list is one, too."""
        value = self.body.get(name) or {}
        if not isinstance(value, Mapping):
            raise Problem.bad(f"{name}: expected an object")
        return value

    def asks(self, name: str) -> bool:
        """Whether the query has `name=true`."""
        return self.query.get(name) == "true"
