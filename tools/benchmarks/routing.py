"""`python -m tools.benchmarks.routing`: the router's speed, beside RabbitMQ's own match and Kombu's, in one run.

RabbitMQ's numbers are of `rabbit_db_topic_exchange:match` alone, timed inside the broker, without network,
queues or storage; ours are of the whole route. Without a Docker engine those comparisons stay empty.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kombu.transport.virtual.exchange import TopicExchange as KombuTopic
from rich.console import Console
from rich.table import Table

from tools.benchmarks.memory import bindings_in_megabytes
from tools.benchmarks.rabbitmq import Broker, broker
from tools.benchmarks.timing import Row, compared, per_second
from tools.benchmarks.workload import binding_keys, header_tables, routing_keys
from waybill.matching.topic import TopicMatcher
from waybill.routing import Router
from waybill.topology import Binding, Exchange, Message, Queue

QUEUES = 100
COLD_KEYS = 20_000
"""Routing keys that differ from each other: each is matched, none is remembered."""

ROUNDS = 4
"""Turns of RabbitMQ and the router, the best of each counts: load that comes and goes hits both."""

REPEATED_KEYS = 1_000
KOMBU_KEYS = 100
"""Kombu tries every binding for every key: more of them would only take longer."""

MEMORY_BINDINGS = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.routing", description="the router's speed")
    parser.add_argument("--json", type=Path, default=Path("tools/benchmarks/routing.json"), help="where results go")
    parser.add_argument("--docs", type=Path, help="a document whose table between the markers is replaced")
    options = parser.parse_args(arguments)
    with broker() as rabbit:
        rows = [
            *_topic(2_000, rabbit),
            *_topic(20_000, rabbit),
            *_changes(),
            *_headers(),
            *_worst(),
            *_memory(),
        ]
        about = _machine(rabbit)
    console = Console()
    console.print(_table(rows))
    console.print(about)
    options.json.write_text(json.dumps({"about": about, "rows": [row.to_json() for row in rows]}, indent=2))
    if options.docs is not None:
        _write_docs(options.docs, rows, about)
    return 0 if all(row.is_reached is not False for row in rows) else 1


def _router(keys: Sequence[str]) -> Router:
    router = Router()
    router.declare_exchange(Exchange("bench", "topic"))
    for number in range(QUEUES):
        router.declare_queue(Queue(f"queue{number}"))
    for index, key in enumerate(keys):
        router.bind(Binding("bench", f"queue{index % QUEUES}", key))
    return router


def _topic(count: int, rabbit: Broker | None) -> list[Row]:
    bound, cold = binding_keys(count), routing_keys(COLD_KEYS)
    router = _router(bound)
    first = Binding("bench", "queue0", "never.a.key.of.these")
    if rabbit is not None:
        rabbit.bind(bound, QUEUES)

    def forget() -> None:
        router.bind(first)
        router.unbind(first)

    theirs, cold_speed = None, 0.0
    for _ in range(ROUNDS):
        if rabbit is not None:
            speed, found = rabbit.matches_per_second(cold)
            _expect(router, cold, found)
            theirs = max(theirs or 0.0, speed)
        cold_speed = max(cold_speed, per_second(lambda key: router.route_key("bench", key), cold, forget))
    repeated = cold[:REPEATED_KEYS] * (COLD_KEYS // REPEATED_KEYS)
    for key in cold[:REPEATED_KEYS]:
        router.route_key("bench", key)
    repeated_speed = per_second(lambda key: router.route_key("bench", key), repeated)
    name = f"topic, {count:,} bindings"
    rows = [
        compared(f"{name}, cold keys", cold_speed, "RabbitMQ", theirs, 2),
        compared(f"{name}, repeated keys", repeated_speed, "RabbitMQ", theirs, 20),
    ]
    if count == 2_000:
        rows += _traces(name, router, cold, theirs)
    else:
        rows.append(compared(f"{name}, cold keys", cold_speed, "Kombu", _kombu(bound, cold), 50))
    return rows


def _expect(router: Router, keys: Sequence[str], found: int) -> None:
    ours = sum(len(set(router.matched_at("bench", [key], {}))) for key in keys)
    if ours != found:
        raise RuntimeError(f"{ours} matches here, {found} on RabbitMQ: nothing worth timing")


def _traces(name: str, router: Router, keys: Sequence[str], theirs: float | None) -> list[Row]:
    messages = [Message("bench", key) for key in keys]
    traced = per_second(router.trace, messages)
    read = per_second(lambda message: list(router.trace(message).root.attempts), messages[:50])
    return [
        compared(f"{name}, trace", traced, "RabbitMQ", theirs, 1),
        Row(f"{name}, trace and read all {len(router.bindings):,} reasons", read, "per second"),
    ]


def _kombu(bound: Sequence[str], keys: Sequence[str]) -> float:
    kombu_topic: Any = KombuTopic
    exchange = kombu_topic(None)
    table = [(key, exchange.key_to_pattern(key), f"queue{index % QUEUES}") for index, key in enumerate(bound)]
    return per_second(lambda key: exchange.lookup(table, "bench", key, None), keys[:KOMBU_KEYS])


def _changes() -> list[Row]:
    bindings = [Binding("bench", f"queue{i % QUEUES}", key) for i, key in enumerate(binding_keys(20_000))]
    router = _router([])
    bind = per_second(router.bind, bindings, lambda: [router.unbind(binding) for binding in bindings])
    unbind = per_second(router.unbind, bindings, lambda: [router.bind(binding) for binding in bindings])
    goal = "at least 100,000"
    return [
        Row("bind", bind, "per second", goal=goal, is_reached=bind >= 1e5),
        Row("unbind", unbind, "per second", goal=goal, is_reached=unbind >= 1e5),
    ]


def _headers() -> list[Row]:
    router = Router()
    router.declare_exchange(Exchange("bench", "headers"))
    router.declare_queue(Queue("queue"))
    for table in header_tables(1_000):
        router.bind(Binding("bench", "queue", "", table))
    bindings = router.bindings
    messages = header_tables(500, seed=4)
    ours = per_second(lambda headers: router.route_key("bench", "", headers), messages)

    def scan(headers: dict[str, Any]) -> list[Binding]:
        return [b for b in bindings if _holds(b.arguments, headers)]

    reference = per_second(scan, messages)
    return [compared("headers, 1,000 bindings", ours, "a scan", reference, 20)]


def _holds(arguments: Any, headers: dict[str, Any]) -> bool:
    """The plainest comparison there is, without types: what the index is held against."""
    return all(name in headers and headers[name] == value for name, value in arguments.items())


def _worst() -> list[Row]:
    matcher = TopicMatcher()
    matcher.add(Binding("bench", "queue", ".".join(["#", "a"] * 15)))
    key = ".".join(["a"] * 30 + ["b"])
    milliseconds = 1000 / per_second(lambda k: matcher.match(k, {}), [key] * 100)
    return [Row("15 `#` against 31 words", milliseconds, "ms", goal="under 5 ms", is_reached=milliseconds < 5)]


def _memory() -> list[Row]:
    size = bindings_in_megabytes(MEMORY_BINDINGS)
    return [Row(f"{MEMORY_BINDINGS:,} bindings", size, "MB", goal="under 700 MB", is_reached=size < 700)]


def _machine(rabbit: Broker | None) -> str:
    beside = f"RabbitMQ {rabbit.version()}" if rabbit is not None else "no RabbitMQ: no Docker engine here"
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return f"CPython {platform.python_version()}, {beside}, {model}, {platform.system()} {platform.machine()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _cells(row: Row) -> tuple[str, ...]:
    written = f"{row.ours:,.0f}" if row.ours >= 100 else f"{row.ours:.2f}"
    reference = "" if row.reference is None else f"{row.reference:,.0f}"
    against = f"{row.against} {reference}".strip()
    ratio = "" if row.ratio is None else f"{row.ratio:,.1f}x"
    reached = {True: "yes", False: "NO", None: ""}[row.is_reached]
    return row.subject, f"{written} {row.unit}", against, ratio, row.goal, reached


HEADINGS = ("what", "waybill", "beside", "ratio", "goal", "reached")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _write_docs(path: Path, rows: Sequence[Row], about: str) -> None:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *map(_cells, rows)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    begin, end = "<!-- results -->", "<!-- end of results -->"
    text = path.read_text()
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    path.write_text(f"{head}{begin}\n{table}\n\n{about}\n{end}{tail}")


if __name__ == "__main__":
    sys.exit(main())
