"""Scripts of AMQP method calls, made from a seed: what play.py plays to two brokers.

A script is a list of steps, a step a method's name, the connection and channel it goes to, and its arguments, all
plain values: it can be printed, copied into a test and shrunk. Names are short and few, and a script prefers those
that it began with, so that steps meet: six in ten publications reach a queue.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

QUEUES = ("q0", "q1", "q2", "q3")
EXCHANGES = ("x0", "x1", "x2")
KEYS = ("a", "b", "a.b", "a.b.c", "", "q0", "q1", "q2")
BINDING_KEYS = (*KEYS, "#", "*", "a.#", "*.b", "#.c", "a.*", "1", "2")
TAGS = ("c0", "c1", "c2")
TYPES = ("direct", "fanout", "topic", "headers")
RARE_TYPES = ("x-consistent-hash", "x-recent-history", "no-such-type")
OWN_USER = "own"
"""Stands for the user of the script's connections."""

SHORT_TTL = 150
"""Milliseconds. A message with it is waited for at once, so that no step races with its end."""


@dataclass(frozen=True)
class Step:
    """One call.

    Args:
        at: which of the two connections.
        channel: which of its channels.
    """

    do: str
    at: int = 0
    channel: int = 1
    with_: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self.with_.items())
        return f"{self.do}({self.at}.{self.channel}{arguments})"


class Chance(random.Random):
    """A script's choices, and the names that it prefers."""

    queues: tuple[str, ...] = QUEUES
    exchanges: tuple[str, ...] = EXCHANGES
    has_copies = has_dead_letters = True
    """Whether messages have `CC` or `BCC`, and queues a dead-letter exchange."""

    def queue(self) -> str:
        """A queue's name, mostly one of the script's own."""
        return self.choice(self.queues if self.random() < 0.9 else (*QUEUES, ""))

    def exchange(self) -> str:
        """An exchange's name, mostly one of the script's own."""
        return self.choice(self.exchanges if self.random() < 0.9 else EXCHANGES)


Maker = Callable[[Chance], dict[str, Any]]


def script(seed: int) -> list[Step]:
    """The script of a seed."""
    chance = Chance(seed)
    flavour = chance.choice(("classic", "classic", "mixed", "quorum"))
    if flavour != "classic":  # whether a copy or another's dead letter is first in a quorum queue is chance on RabbitMQ
        chance.has_copies = chance.random() < 0.4
        chance.has_dead_letters = not chance.has_copies
    steps = _prelude(chance, flavour)
    for _ in range(chance.randint(8, 26)):
        steps.append(_step(chance, flavour))
        if _needs_wait(steps[-1]):
            steps.append(Step("wait"))
    return steps


def _prelude(chance: Chance, flavour: str) -> list[Step]:
    # A few things to begin with, or most steps would only meet 404.
    chance.queues, chance.exchanges = tuple(chance.sample(QUEUES, 2)), tuple(chance.sample(EXCHANGES, 2))
    steps = [Step("declare_queue", with_=_sound(_declare_queue(chance, flavour, name))) for name in chance.queues]
    steps += [Step("declare_exchange", with_={"name": name, "type": _type(chance)}) for name in chance.exchanges]
    steps += [Step("bind_queue", with_=_bind(chance)) for _ in range(2)]
    if chance.random() < 0.6:
        steps.append(Step("consume", with_=_consume(chance)))
    if chance.random() < 0.6:
        is_confirmed = chance.random() < 0.85 or flavour != "classic"
        steps.append(Step("confirm_select" if is_confirmed else "tx_select"))
    if chance.random() < 0.5:
        steps.append(Step("qos", with_={"count": chance.choice((1, 2, 3))}))
    return steps


def _needs_wait(step: Step) -> bool:
    return step.with_.get("expiration") == str(SHORT_TTL)


def _step(chance: Chance, flavour: str) -> Step:
    # RabbitMQ carries out a transaction on a quorum queue in any order (docs/explanation/embedded-broker.md).
    makers = {name: maker for name, maker in MAKERS.items() if name != "tx_select" or flavour == "classic"}
    name = chance.choices(list(makers), [weight for weight, _ in makers.values()])[0]
    arguments = _declare_queue(chance, flavour) if name == "declare_queue" else MAKERS[name][1](chance)
    at = 1 if chance.random() < 0.2 else 0
    if name in MAY_SKIP_ANSWER and chance.random() < 0.1:
        arguments["nowait"] = True
    return Step(name, at, 2 if chance.random() < 0.15 else 1, arguments)


def _declare_queue(chance: Chance, flavour: str, name: str | None = None) -> dict[str, Any]:
    is_quorum = flavour == "quorum" or (flavour == "mixed" and chance.random() < 0.4)
    arguments: dict[str, Any] = {}
    if is_quorum:
        arguments["x-queue-type"] = "quorum"
    for argument, values in QUEUE_ARGUMENTS.items():
        likely = 0.12
        if argument == "x-dead-letter-exchange":
            likely = 0.5 if chance.has_dead_letters else 0
        if chance.random() < likely:
            arguments[argument] = chance.choice(values)
    return {
        "name": name or chance.choice(QUEUES),
        "durable": (is_quorum and chance.random() < 0.97) or chance.random() < 0.1,
        "auto_delete": not is_quorum and chance.random() < 0.1,
        "exclusive": not is_quorum and chance.random() < 0.07,
        "passive": chance.random() < 0.06,
        "arguments": arguments,
    }


def _sound(declared: dict[str, Any]) -> dict[str, Any]:
    """The same declaration without what is refused: a script needs queues."""
    arguments = dict(declared["arguments"])
    is_quorum = arguments.get("x-queue-type") == "quorum"
    arguments.pop("x-max-priority" if is_quorum else "x-delivery-limit", None)
    if "x-dead-letter-exchange" not in arguments:
        arguments.pop("x-dead-letter-routing-key", None)
    return {**declared, "durable": declared["durable"] or is_quorum, "passive": False, "arguments": arguments}


QUEUE_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "x-dead-letter-exchange": ("", "", "x0", "x1", "nowhere"),
    "x-dead-letter-routing-key": ("q0", "q1", "q2", "a"),
    "x-max-length": (0, 1, 2, 3),
    "x-max-length-bytes": (3, 6),
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-max-priority": (1, 3, 10),
    "x-message-ttl": (0, 60000),
    "x-expires": (60000,),
    "x-single-active-consumer": (True, False),
    "x-delivery-limit": (0, 1, 2),
    "x-unheard-of": (1, "two"),
}


def _bind(chance: Chance) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if chance.random() < 0.3:
        arguments = {"h": chance.choice((1, "1", True)), "x-match": chance.choice(("all", "any", "all-with-x"))}
    return {
        "queue": chance.queue(),
        "exchange": chance.choice((chance.exchange(), chance.exchange(), "amq.topic", "amq.headers", "amq.direct")),
        "key": chance.choice(BINDING_KEYS),
        "arguments": arguments,
    }


def _publish(chance: Chance) -> dict[str, Any]:
    made: dict[str, Any] = {
        "exchange": "",
        "key": chance.queue(),
        "size": chance.choice((0, 1, 2, 3, 5)),
    }
    if chance.random() < 0.35:
        made["exchange"] = chance.choice((chance.exchange(), chance.exchange(), "", "amq.topic", "amq.headers"))
        made["key"] = chance.choice((*KEYS, *QUEUES))
    for name, values, likely in PROPERTIES:
        if chance.random() < likely:
            made[name] = chance.choice(values)
    if not chance.has_copies and made.get("headers", {}).keys() & {"CC", "BCC"}:
        del made["headers"]
    return made


PROPERTIES: tuple[tuple[str, tuple[Any, ...], float], ...] = (
    ("mandatory", (True,), 0.15),
    ("immediate", (True,), 0.005),
    ("priority", (0, 1, 2, 3, 4, 5, 9, 31, 200), 0.35),
    ("expiration", ("0", "0", "60000", str(SHORT_TTL), "x", "-1"), 0.08),
    ("headers", ({"h": 1}, {"h": "1"}, {"h": True}, {"CC": ["q1", "a"]}, {"BCC": ["q2"]}, {"CC": "q1"}, {}), 0.25),
    ("delivery_mode", (1, 2), 0.2),
    ("correlation_id", ("k",), 0.2),
    ("message_id", ("m",), 0.1),
    ("user_id", (OWN_USER, OWN_USER, OWN_USER, "somebody"), 0.04),
)


def _type(chance: Chance) -> str:
    return chance.choice(RARE_TYPES if chance.random() < 0.15 else TYPES)


def _nothing(_: Chance) -> dict[str, Any]:
    return {}


def _one_queue(chance: Chance) -> dict[str, Any]:
    return {"queue": chance.queue()}


def _consume(chance: Chance) -> dict[str, Any]:
    return {
        **_one_queue(chance),
        "tag": chance.choice(TAGS),
        "no_ack": chance.random() < 0.2,
        "exclusive": chance.random() < 0.08,
        "arguments": {"x-priority": chance.choice((1, 5, -1))} if chance.random() < 0.15 else {},
    }


EXCHANGE_ARGUMENTS: tuple[dict[str, Any], ...] = (
    *({"alternate-exchange": name} for name in EXCHANGES),
    {"x-recent-history-length": 2},
    {"hash-header": "h"},
)

MAY_SKIP_ANSWER = frozenset(
    (
        "declare_queue",
        "delete_queue",
        "purge",
        "declare_exchange",
        "delete_exchange",
        "bind_queue",
        "bind_exchange",
        "unbind_exchange",
        "consume",
        "cancel",
        "confirm_select",
    )
)
"""Steps that may be made with `no-wait`: nobody is told that they went well."""

MAKERS: dict[str, tuple[float, Maker]] = {
    "declare_queue": (1.5, _nothing),
    "delete_queue": (
        0.7,
        lambda c: {**_one_queue(c), "if_unused": c.random() < 0.3, "if_empty": c.random() < 0.3},
    ),
    "purge": (0.7, _one_queue),
    "declare_exchange": (
        1,
        lambda c: {
            "name": c.choice((*EXCHANGES, "amq.direct", "")),
            "type": _type(c),
            "durable": c.random() < 0.1,
            "auto_delete": c.random() < 0.2,
            "internal": c.random() < 0.1,
            "passive": c.random() < 0.1,
            "arguments": c.choice(EXCHANGE_ARGUMENTS) if c.random() < 0.3 else {},
        },
    ),
    "delete_exchange": (1, lambda c: {"name": c.choice((*EXCHANGES, "amq.topic")), "if_unused": c.random() < 0.5}),
    "bind_queue": (2, _bind),
    "unbind_queue": (1, _bind),
    "bind_exchange": (
        1,
        lambda c: {"to": c.exchange(), "from": c.exchange(), "key": c.choice(BINDING_KEYS)},
    ),
    "unbind_exchange": (
        0.3,
        lambda c: {"to": c.exchange(), "from": c.exchange(), "key": c.choice(BINDING_KEYS)},
    ),
    "publish": (20, _publish),
    "get": (5, lambda c: {**_one_queue(c), "no_ack": c.random() < 0.3}),
    "consume": (4, _consume),
    "cancel": (1.5, lambda c: {"tag": c.choice(TAGS)}),
    "qos": (0.7, lambda c: {"count": c.choice((0, 1, 2, 3)), "is_global": c.random() < 0.2}),
    "ack": (6, lambda c: {"which": c.randrange(4)}),
    "nack": (5, lambda c: {"which": c.randrange(4), "requeue": c.random() < 0.6}),
    "reject": (5, lambda c: {"which": c.randrange(4), "requeue": c.random() < 0.5}),
    "settle_up_to": (2, lambda c: {"which": c.randrange(4), "how": c.choice(("ack", "nack", "requeue"))}),
    "settle_all": (1.5, lambda c: {"how": c.choice(("ack", "nack", "requeue"))}),
    "unknown_tag": (0.2, lambda c: {"how": c.choice(("ack", "nack", "reject"))}),
    "recover": (0.7, lambda c: {"requeue": c.random() < 0.95}),
    "confirm_select": (0.7, _nothing),
    "tx_select": (0.3, _nothing),
    "tx_commit": (0.6, _nothing),
    "tx_rollback": (0.2, _nothing),
    "close_channel": (1, _nothing),
    "close_connection": (0.4, _nothing),
    "drop_connection": (0.3, _nothing),
}
