"""RabbitMQ's own match, timed inside a broker in a container; nothing where there is no Docker engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from waybill.topology import Binding, Exchange, Queue, Topology
from waybill.topology.definitions import to_definitions

IMAGE = "rabbitmq:4-management"
START_SECONDS = 120
"""A broker that isn't up after two minutes won't be."""

_TIMED = """
{{ok, Text}} = file:read_file("/tmp/routing_keys"),
Keys = binary:split(Text, <<"\\n">>, [global]),
X = rabbit_misc:r(<<"/">>, exchange, <<"bench">>),
Match = fun(K) -> rabbit_db_topic_exchange:match(X, K, #{{}}) end,
Loop = fun(K) -> erlang:byte_size(K) end,
lists:foreach(Match, Keys),
Times = [element(1, timer:tc(fun() -> lists:foreach(Match, Keys) end)) || _ <- lists:seq(1, {repeats})],
Empty = [element(1, timer:tc(fun() -> lists:foreach(Loop, Keys) end)) || _ <- lists:seq(1, {repeats})],
Found = lists:sum([length(Match(K)) || K <- Keys]),
io:format("~b ~b ~b~n", [lists:min(Times), lists:min(Empty), Found]).
"""
"""Best of several; the same loop without the match is taken off, for `eval` interprets it."""


class Broker:
    """A RabbitMQ in a container of its own."""

    def __init__(self, container: str) -> None:
        self._container = container

    def version(self) -> str:
        """RabbitMQ's version."""
        return self._run("rabbitmqctl", "-q", "version").strip()

    def bind(self, keys: Sequence[str], queues: int) -> None:
        """Bind `keys` to a topic exchange, spread over so many queues; in place of what was bound before."""
        topology = Topology(
            [Exchange("bench", "topic")],
            [Queue(f"queue{number}") for number in range(queues)],
            [Binding("bench", f"queue{index % queues}", key) for index, key in enumerate(keys)],
        )
        self._run("sh", "-c", "cat > /tmp/definitions.json", stdin=json.dumps(to_definitions(topology)))
        delete = 'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"bench">>), false, <<"bench">>).'
        self._run("rabbitmqctl", "-q", "eval", delete)
        self._run("rabbitmqctl", "-q", "import_definitions", "/tmp/definitions.json")

    def matches_per_second(self, routing_keys: Sequence[str], repeats: int = 3) -> tuple[float, int]:
        """How many routing keys are matched in a second, and how many bindings they matched in all."""
        self._run("sh", "-c", "cat > /tmp/routing_keys", stdin="\n".join(routing_keys))
        printed = self._run("rabbitmqctl", "-q", "eval", _TIMED.format(repeats=repeats))
        numbers = re.search(r"(\d+) (\d+) (\d+)", printed)
        if numbers is None:
            raise RuntimeError(f"rabbitmqctl eval printed {printed!r}, expected three numbers")
        timed, empty, found = map(int, numbers.groups())
        return len(routing_keys) / max(timed - empty, 1) * 1e6, found

    def _run(self, *command: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["docker", "exec", "-i", self._container, *command],
            input=stdin, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout


@contextmanager
def broker() -> Iterator[Broker | None]:
    """A broker for the time of the benchmark, or None where no Docker engine answers."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        yield None
        return
    started = subprocess.run(["docker", "run", "-d", "--rm", IMAGE], capture_output=True, text=True, check=True)
    container = started.stdout.strip()
    try:
        _await_start(container)
        yield Broker(container)
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=True)


def _await_start(container: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    command = ["docker", "exec", container, "rabbitmqctl", "-q", "await_startup"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{IMAGE} did not start within {START_SECONDS} s")
        time.sleep(1)
