"""The management API of the embedded broker beside RabbitMQ's: generated topologies, written and read on both.

    python -m tools.differential.management --api http://guest:guest@127.0.0.1:15672 [--topologies 100] [--seed 1]

Each topology has a vhost of its own on either broker. Every write is compared by status and body, then every page that
tells of the vhost, field by field but for what is set aside: what RabbitMQ counts by the second, and names of its node.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from waybill.broker import Broker

ASIDE = frozenset(
    {"garbage_collection", "reductions", "reductions_details", "memory", "message_stats", "idle_since"}
    | {"head_message_timestamp", "user_who_performed_action", "storage_version", "open_files", "publishers"}
    | {"messages_delayed", "messages_dlx", "message_bytes_dlx", "messages_by_priority", "messages_active_priorities"}
    | {"messages_ready_returned", "delayed_retry", "consumer_utilisation", "consumer_capacity", "incoming", "outgoing"}
    | {"deliveries", "messages_persistent", "message_bytes_persistent", "backing_queue_status"}
)
"""Fields that are not compared."""

HASHED = re.compile(r"(~)[A-Za-z0-9_-]{6,8}\b")
"""The hash of a binding's arguments, which clients only pass back."""

FAILS = 500
"""RabbitMQ's own answer to a refusal that names something in other letters than ASCII: its error can't be written."""

NODE = re.compile(r"(rabbit|waybill)@[\w.-]+")

NAMES = ("q", "usa", "a b", "ä/ö", "x%2F", "dot.ted", "<b>", "~", "a+b", "tab\tbed", "amq.x")
KEYS = ("", "usa.#", "*.news", "a b~%/é", "k", "#", "1", "x.y")
KINDS = ("direct", "topic", "fanout", "headers", "nope")
ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"x-max-length": 5},
    {"x-max-length": "5"},
    {"x-message-ttl": 60000, "x-expires": 3_600_000},
    {"x-queue-type": "quorum"},
    {"x-queue-type": "quorum", "x-max-priority": 3},
    {"x-max-priority": 9, "x-overflow": "reject-publish"},
    {"x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": "k"},
    {"x-dead-letter-routing-key": "k"},
    {"x-own": {"deep": [1, "a", True]}},
)
DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"max-length": 3},
    {"message-ttl": 1000, "dead-letter-exchange": "amq.topic"},
    {"delivery-limit": 4},
    {"alternate-exchange": "amq.fanout"},
    {},
    {"nope": 1},
    {"expires": "x"},
)

Write = tuple[str, str, Any]


def writes(chance: random.Random) -> Iterator[Write]:
    """What a topology is made of, and undone; `{v}` stands for the vhost."""

    def name() -> str:
        return quote(chance.choice(NAMES), safe="")

    for _ in range(chance.randrange(3, 30)):
        kind = chance.choice(("exchange", "queue", "queue", "binding", "binding", "policy", "publish", "get", "delete"))
        durable = {"durable": True} if chance.random() < 0.8 else {"auto_delete": chance.random() < 0.3}
        if kind == "exchange":
            made = {"type": chance.choice(KINDS), **durable}
            if chance.random() < 0.2:
                made |= {"internal": True}
            if chance.random() < 0.2:
                made |= {"arguments": {"alternate-exchange": chance.choice(NAMES)}}
            yield "PUT", f"exchanges/{{v}}/{name()}", made
        elif kind == "queue":
            yield "PUT", f"queues/{{v}}/{name()}", {**durable, "arguments": chance.choice(ARGUMENTS)}
        elif kind == "binding":
            source = chance.choice((name(), "amq.topic", "amq.direct", "amq.headers", "amq.default"))
            arguments = chance.choice(({}, {}, {}, {"x-match": "any", "a": 1}, {"x": [True, 1.5]}))
            body = {"routing_key": chance.choice(KEYS), "arguments": arguments}
            yield "POST", f"bindings/{{v}}/e/{source}/{chance.choice('qqe')}/{name()}", body
        elif kind == "policy":
            name_of = chance.choice("po")
            # Of two with one priority RabbitMQ takes any.
            policy: dict[str, Any] = {"definition": chance.choice(DEFINITIONS), "priority": ord(name_of)}
            policy["pattern"] = chance.choice(("^u", ".*", "q|a"))
            policy["apply-to"] = chance.choice(("all", "queues", "exchanges", "quorum_queues"))
            page = chance.choice(("policies", "policies", "operator-policies"))
            yield "PUT", f"{page}/{{v}}/{name_of}", policy
        elif kind == "publish":
            message: dict[str, Any] = {"payload": "m", "payload_encoding": "string"}
            message["properties"] = {"headers": {"a": 1}, "priority": 2}
            message["routing_key"] = chance.choice((*KEYS, *NAMES))
            target = chance.choice((name(), "amq.topic", "amq.headers", "amq.default"))
            yield "POST", f"exchanges/{{v}}/{target}/publish", message
        elif kind == "get":
            mode = chance.choice(("ack_requeue_true", "ack_requeue_false"))
            yield "POST", f"queues/{{v}}/{name()}/get", {"count": 2, "ackmode": mode, "encoding": "auto"}
        else:
            page = chance.choice(("queues", "exchanges"))
            yield "DELETE", f"{page}/{{v}}/{name()}{chance.choice(('', '', '?if-unused=true'))}", None


def reads() -> Iterator[str]:
    """The pages that tell of a vhost."""
    yield from ("exchanges/{v}", "queues/{v}?disable_stats=true", "bindings/{v}", "policies/{v}", "definitions/{v}")
    yield from ("operator-policies/{v}", "parameters/operator_policy/{v}", "vhosts/{v}/permissions")
    yield from (
        "queues/{v}?page=1&page_size=3&columns=name,durable",
        "queues/{v}?sort=name&sort_reverse=true&columns=name",
    )
    for name in (quote(one, safe="") for one in NAMES):
        yield from (
            f"queues/{{v}}/{name}?disable_stats=true",
            f"exchanges/{{v}}/{name}",
            f"queues/{{v}}/{name}/bindings",
        )
        yield from (f"exchanges/{{v}}/{name}/bindings/source", f"exchanges/{{v}}/{name}/bindings/destination")


class Api:
    """One broker's."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login = parts.username or "guest", parts.password or "guest"
        self._http = httpx.Client(
            base_url=f"{parts.scheme}://{parts.hostname}:{parts.port}/api/", auth=login, timeout=30, verify=False
        )

    def ask(self, method: str, path: str, vhost: str, body: Any = None) -> tuple[int, Any]:
        """Status, and body or location, comparable."""
        given = {} if body is None else {"json": body}
        found = self._http.request(method, path.replace("{v}", vhost), **given)
        text = HASHED.sub(r"\1HASH", NODE.sub("NODE", found.text))
        if not text:
            return found.status_code, HASHED.sub(r"\1HASH", found.headers.get("location", ""))
        return found.status_code, compared(json.loads(text))


def compared(value: Any) -> Any:
    """A value without what is set aside, its lists in one order."""
    if isinstance(value, dict):
        return {name: compared(one) for name, one in value.items() if name not in ASIDE}
    if not isinstance(value, list):
        return value
    return sorted((compared(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))


def play(here: Api, there: Api, seed: int, told: Counter[str]) -> Iterator[str]:
    """One topology on both; what differs, in a line each."""
    vhost, chance = f"compare-{seed}", random.Random(seed)
    for api in (here, there):
        api.ask("PUT", "vhosts/{v}", vhost, {})
    try:
        for write in writes(chance):
            told["writes"] += 1
            found = [api.ask(write[0], write[1], vhost, write[2]) for api in (here, there)]
            if found[0] != found[1] and found[1][0] != FAILS:
                yield f"seed {seed}: {write}:\n  embedded {found[0]}\n  RabbitMQ {found[1]}"
        for path in reads():
            told["reads"] += 1
            found = [api.ask("GET", path, vhost) for api in (here, there)]
            if found[0] != found[1]:
                yield f"seed {seed}: GET {path}:\n  embedded {found[0]}\n  RabbitMQ {found[1]}"
    finally:
        for api in (here, there):
            api.ask("DELETE", "vhosts/{v}", vhost)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", required=True, help="RabbitMQ's management API")
    parser.add_argument("--topologies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the first topology")
    asked = parser.parse_args()
    told: Counter[str] = Counter()
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(management=True))
        here, there = Api(str(broker.management_url)), Api(asked.api)
        for seed in range(asked.seed, asked.seed + asked.topologies):
            for difference in play(here, there, seed, told):
                told["differences"] += 1
                print(difference)
    print(
        f"{asked.topologies} topologies: {told['writes']} writes, {told['reads']} reads, {told['differences']} differ"
    )
    return 1 if told["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
