"""Which worker consumes which queues: by asking the workers, and by what the broker counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from amqp.exceptions import ChannelError
from celery import Celery
from kombu import Connection
from kombu.pidbox import Mailbox

from waybill.celery_app.names import worker_name
from waybill.errors import FleetError, WorkersSilent
from waybill.testing.receipts import WATCHED
from waybill.topology.policies import Policies

# Seconds in which the workers have to answer the roll call.
ROLL_CALL_TIMEOUT = 60.0
# Seconds without an answer after which one question of the roll call ends. When the workers' names are known it ends
# with the last of them, and the first rounds are shorter: a worker that is still starting never hears the question.
# Otherwise the broker's count of consumers tells whether somebody was slower, who is asked again, so that the first
# rounds may be shorter too; on Redis nobody counts.
ROLL_CALL_ROUND, FIRST_ROUND, FIRST_COUNTED_ROUND = 0.5, 0.1, 0.2

# What may take a marker or a message out of a queue.
LIMITS = ("max-length", "max-length-bytes", "message-ttl")

# Seconds for which workers take themselves to be watched; each roll call tells them again.
WATCHED_FOR = 3_600.0


class RollCall:
    """The workers and their queues, as last heard.

    Args:
        app: the application.
        connection: open; its broker and vhost are asked.

    Attributes:
        consumers_by_worker: node name -> queue -> exchange.
        arguments: queue -> its arguments, as a worker tells them.
        subscribed: queue -> its fanout exchange and binding key, on Redis: there it is a subscription to both together,
            which the default exchange doesn't reach.
    """

    def __init__(self, app: Celery, connection: Connection) -> None:
        self.consumers_by_worker: dict[str, dict[str, str]] = {}
        self.arguments: dict[str, Mapping[str, Any]] = {}
        self.subscribed: dict[str, tuple[str, str]] = {}
        self._app = app
        self._connection = connection
        # On the watch's own connection, each receipt that comes in between counts as one of the answers.
        self._asking = connection.clone() if connection is not None else None
        self._counted: Mapping[str, int] = {}
        self._limits: Mapping[str, Mapping[str, Any]] = {}

    @property
    def _is_counted(self) -> bool:
        return bool(self._connection.transport.driver_type == "amqp")

    def ask(self, expected: frozenset[str] | None, check_alive: Callable[[], None]) -> None:
        """Ask until everybody has answered.

        Args:
            expected: the names (the part before `@`) of the workers to wait for; None for all that the broker counts.
            check_alive: called while waiting; raises when waiting has become pointless.

        Raises:
            FleetError: somebody did not answer in time, sends no receipts, or two workers have one name.
        """
        began = monotonic()
        heard: dict[str, list[dict[str, Any]]] = {}
        while True:
            waited = monotonic() - began
            if expected is None:
                heard = self._ask({}, self._round_of_all(waited))
            elif names := expected - _names(heard):
                # Only they are to answer: what others say would count as theirs.
                only = {"limit": len(names), "pattern": _pattern(names), "matcher": "pcre"}
                heard |= self._ask(only, min(max(FIRST_ROUND, waited / 10), ROLL_CALL_ROUND))
            self.note(heard)
            missing = self._uncounted() if expected is None else ", ".join(sorted(expected - _names(heard)))
            if not missing:
                break
            check_alive()
            if waited > ROLL_CALL_TIMEOUT:
                heard_of = ", ".join(sorted(self.consumers_by_worker)) or "nobody"
                raise WorkersSilent(
                    f"no answer to the roll call within {ROLL_CALL_TIMEOUT:.0f} s from {missing}; heard: {heard_of}",
                    (expected or set()) - _names(heard),
                )
        self._refuse_namesakes()

    def ask_limits(self, management_url: str) -> None:
        """Learn from the management API which limits the queues have by policies, before they are noted.

        Raises:
            BrokerUnavailable: it doesn't answer, or not to this user.
        """
        from waybill.rabbitmq.management import Management  # an HTTP client is loaded where one is asked

        with Management(management_url, self._connection.virtual_host) as management:
            policies = Policies(tuple(management.policies()), tuple(management.operator_policies() or ()))
            queues = [policies.applied(one.queue) for one in management.queues()]
        self._limits = {
            queue.name: {f"x-{name}": limit for name in LIMITS if (limit := queue.setting(name)) is not None}
            for queue in queues
        }

    def close(self) -> None:
        """Close the connection by which workers were asked."""
        if self._asking is not None:
            self._asking.collect()

    def refuse_without_receipts(self) -> None:
        """Tell the workers that they are watched.

        Raises:
            FleetError: a worker sends no receipts.
        """
        answers = self._tell_watched()
        if without := sorted(worker for worker, told in answers.items() if "held" not in told):
            raise FleetError(
                f"no receipts from {', '.join(without)}: call `waybill.enable_receipts(app)` where the application is "
                "made, or start the worker with `-I waybill.receipts`"
            )

    def busy(self) -> list[str]:
        """The workers that run a task or have one ahead, and those that are too busy to say so."""
        answers = self._tell_watched()
        return [worker for worker in self.consumers_by_worker if answers.get(worker, {}).get("held", 1)]

    def _tell_watched(self) -> dict[str, dict[str, Any]]:
        """Tell the workers that they are watched: they then tell of each message before its task begins.

        Returns:
            Node name -> what it answered.
        """
        asked = list(self.consumers_by_worker)
        if not asked:
            return {}
        theirs = self._app.control.mailbox  # whose producers belong to whatever broker the application uses by now
        mailbox = Mailbox(
            theirs.namespace, theirs.type, self._asking, accept=theirs.accept, serializer=theirs.serializer
        )
        # Who is busy for longer has no event loop, and gathers nothing.
        answers = mailbox.call(asked, WATCHED, {"seconds": WATCHED_FOR}, timeout=ROLL_CALL_ROUND)
        return {worker: told for answer in answers or () for worker, told in answer.items()}

    def note(self, heard: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Keep what the workers tell of their queues: node name -> queues, as `inspect` gives them."""
        told = [queue for queues in heard.values() for queue in queues]
        self.arguments = {
            queue["name"]: {**arguments_of(queue), **self._limits.get(queue["name"], {})} for queue in told
        }
        if self._connection.transport.driver_type == "redis":
            self.subscribed = {
                queue["name"]: (queue["exchange"]["name"], queue["routing_key"] or "")
                for queue in told
                if queue["exchange"]["type"] == "fanout"
            }
        self.consumers_by_worker = {
            worker: {queue["name"]: queue["exchange"]["name"] for queue in queues} for worker, queues in heard.items()
        }

    def count(self) -> None:
        """Note how many consumers each queue has now."""
        self._counted = self._count() if self._is_counted else {}

    def has_newcomers(self) -> bool:
        """Whether a queue has more consumers than when they were counted."""
        now = self._count() if self._counted else {}
        return any(count > self._counted.get(queue, count) for queue, count in now.items())

    def _count(self) -> dict[str, int]:
        queues = {queue for queues in self.consumers_by_worker.values() for queue in queues}
        return {queue: self.consumers(queue) for queue in queues}

    def consumers(self, queue: str) -> int:
        """How many consumers RabbitMQ counts on this queue; none when there is no such queue."""
        try:
            with self._connection.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).consumer_count)
        except ChannelError:  # 404, or 405 for a queue that is some worker's own
            return 0

    def _round_of_all(self, waited: float) -> float:
        """Seconds of silence after which everybody is held to have answered, after so many seconds of asking."""
        if not self._is_counted:
            return ROLL_CALL_ROUND
        return min(max(FIRST_COUNTED_ROUND, waited / 2), ROLL_CALL_ROUND)

    def _ask(self, only: Mapping[str, Any], timeout: float) -> dict[str, list[dict[str, Any]]]:
        """Worker -> the queues that it consumes, as it tells them."""
        return self._app.control.inspect(timeout=timeout, connection=self._connection, **only).active_queues() or {}

    def _uncounted(self) -> str:
        """The consumers that RabbitMQ counts and that did not answer, for a sentence; empty when all did."""
        counted = Counter(queue for queues in self.consumers_by_worker.values() for queue in queues)
        return ", ".join(
            f"{consumers - counted[queue]} consumer(s) of {queue!r}"
            for queue in self._app.amqp.queues
            if (consumers := self.consumers(queue)) > counted[queue]
        )

    def _refuse_namesakes(self) -> None:
        """Two workers of one name answer as one: they share the queue of their remote control."""
        if not self._is_counted:
            return
        for worker in self.consumers_by_worker:
            if (count := self.consumers(self._app.control.mailbox.get_queue(worker).name)) > 1:
                raise FleetError(
                    f"{count} workers have the name {worker!r}, so that what one receives can't be told from what "
                    "another does: give each a name of its own with `-n`"
                )


def _names(workers: Iterable[str]) -> set[str]:
    """The parts before the `@`."""
    return set(map(worker_name, workers))


def _pattern(names: Iterable[str]) -> str:
    """A regular expression for the node names with one of these before the `@`."""
    return f"(?:{'|'.join(map(re.escape, sorted(names)))})@"


def arguments_of(queue: Mapping[str, Any]) -> dict[str, Any]:
    """A queue's arguments, as a worker tells them: some of them under names of Kombu's own."""
    named = {
        "x-message-ttl": queue.get("message_ttl") and queue["message_ttl"] * 1000,
        "x-max-length": queue.get("max_length"),
        "x-max-length-bytes": queue.get("max_length_bytes"),
    }
    return {name: value for name, value in named.items() if value is not None} | (queue.get("queue_arguments") or {})
