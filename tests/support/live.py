"""Run a case on whatever speaks AMQP 0-9-1 at a URL: RabbitMQ, or an embedded broker.

Nothing here knows how a message is routed. The order of the steps is the proof that all has arrived: a confirm
says that every queue has the message, and a get is answered by the queue after all that reached it before, its own
dead-lettering included. (A passive declare is no such proof: RabbitMQ's queues answer it out of turn.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import amqp

from tests.support.cases.case import Case, Death, Declaration, Outcome, Refusal
from tests.support.live_publisher import ANSWER_SECONDS, Publisher, byte_arrays, refusal
from waybill.topology import Exchange, Queue


def run_on_broker(url: str, case: Case) -> Outcome:
    """Run one case on the broker at `url`, over a connection of its own, and leave nothing behind."""
    with LiveBroker(url) as broker:
        return broker.run(case)


class LiveBroker:
    """A connection on which cases run, one after the other.

    Exclusive queues stay declared from case to case while their declaration stays the same, for declaring
    them is what takes longest; the end of the connection removes them.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = amqp.Connection(
            f"{parts.hostname}:{parts.port or 5672}",
            userid=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            virtual_host=unquote(parts.path[1:]) or "/",
            connect_timeout=ANSWER_SECONDS,
            read_timeout=ANSWER_SECONDS,
        )
        self._connection.connect()
        self._channel = self._connection.channel()
        self._publisher = Publisher(self._connection)
        self._kept: dict[str, Queue] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._connection.close()
        else:
            self._connection.collect()  # without the closing handshake, which would hide the error

    @property
    def version(self) -> str:
        """What the broker calls itself, `RabbitMQ 4.3.6 (Erlang/OTP 29.1.2)`."""
        properties = self._connection.server_properties
        return f"{properties.get('product')} {properties.get('version')} ({properties.get('platform')})"

    def run(self, case: Case, suspects: Set[int] = frozenset()) -> Outcome:
        """Declare, publish, let die, read, delete.

        Args:
            suspects: numbers of messages likely to be refused; these are published one at a time, for a
                refusal leaves it open which message was meant. A wrong guess costs time only.
        """
        with byte_arrays():
            outcome = self._run(case, suspects) or self._run(case, frozenset(range(len(case.publish))))
        if outcome is None:
            raise AssertionError(f"the broker closed the channel, and not for one message alone: {case}")
        return case.settled(outcome)

    def _run(self, case: Case, suspects: Set[int]) -> Outcome | None:
        # A RabbitMQ channel remembers the type a queue had, and ends the connection where it has another now.
        self._channel.close()
        self._channel = self._connection.channel()
        self._remove(case, keep=self._kept)
        keep: dict[str, Queue] = {}
        try:
            refused = self._declare_all(case)
            published = self._publisher.publish(case.publish, suspects)
            if published is None:
                return None
            declared = self._declared(case, refused)
            deaths = [death for death in case.deaths if death.queue in declared]
            for death in deaths:
                self._bring_about(death, deaths)
            queues = {name: held for name in declared if (held := self._read(name))}
            keep = self._kept
        finally:
            self._remove(case, keep)
        return Outcome(queues, published.returned, {**refused, **published.refused})

    def _declare_all(self, case: Case) -> dict[str, Refusal]:
        refused = {}
        for position, item in enumerate(case.declare):
            if isinstance(item, Queue) and self._kept.get(item.name) == item:
                continue
            refusal = self._try(self._declare, item)
            if refusal is not None:
                refused[f"declare {position}"] = refusal
            elif isinstance(item, Queue) and item.exclusive:
                self._kept[item.name] = item
        return refused

    def _declare(self, item: Declaration) -> None:
        arguments = dict(item.arguments)
        if isinstance(item, Exchange):
            # py-amqp sends `internal` as false whatever one asks for: so the method is written out.
            flags = (False, item.durable, item.auto_delete, item.internal, False)
            declare, wait = amqp.spec.Exchange.Declare, amqp.spec.Exchange.DeclareOk
            self._channel.send_method(declare, "BssbbbbbF", (0, item.name, item.type, *flags, arguments), wait=wait)
        elif isinstance(item, Queue):
            options = (False, item.durable, item.exclusive, item.auto_delete)
            self._channel.queue_declare(item.name, *options, arguments=arguments)
        else:
            is_to_queue = item.destination_type == "queue"
            bind = self._channel.queue_bind if is_to_queue else self._channel.exchange_bind
            bind(item.destination, item.source, item.binding_key, arguments=arguments)

    def _remove(self, case: Case, keep: Mapping[str, Queue]) -> None:
        """Delete the case's exchanges, and every queue that the case and `keep` do not have alike."""
        for name in {item.name for item in case.declare if isinstance(item, Exchange)}:
            self._try(self._channel.exchange_delete, name)
        for name in {**self._kept, **case.queues}:
            if name not in keep or keep[name] != case.queues.get(name):
                self._try(self._channel.queue_delete, name)
                self._kept.pop(name, None)

    def _try(self, call: Callable[..., Any], *given: Any) -> Refusal | None:
        """Call; where the broker closes the channel, give the reason. py-amqp opens the channel again by
        itself."""
        try:
            call(*given)
        except amqp.AMQPError as error:
            return refusal(error)
        return None

    def _declared(self, case: Case, refused: Mapping[str, Refusal]) -> list[str]:
        """The queues that the case has got."""
        items = (item for position, item in enumerate(case.declare) if f"declare {position}" not in refused)
        return list(dict.fromkeys(item.name for item in items if isinstance(item, Queue)))

    def _bring_about(self, death: Death, deaths: Sequence[Death]) -> None:
        if not death.is_on_arrival:
            self._take_and_reject(death)
        # In a chain each queue hands on a round after the one before it. None is passed more than twice: the
        # cycle rule forbids it, but for one rejection in between.
        on_arrival = [other.queue for other in deaths if other.is_on_arrival]
        for name in on_arrival * 2 * len(on_arrival):
            assert self._channel.basic_get(name) is None, f"{name} keeps a message that should die on arrival"

    def _take_and_reject(self, death: Death) -> None:
        taken = self._take_all(death.queue)
        while taken:
            for message in taken:
                self._channel.basic_reject(message.delivery_tag, requeue=death.reason == "delivery_limit")
            taken = self._take_all(death.queue) if death.reason == "delivery_limit" else []
        come_back = self._channel.basic_get(death.queue)
        if come_back is not None:
            self._channel.basic_reject(come_back.delivery_tag, requeue=True)

    def _take_all(self, name: str) -> list[amqp.Message]:
        return list(iter(lambda: self._channel.basic_get(name), None))

    def _read(self, name: str) -> tuple[int, ...]:
        """Every message in the queue, in the order of delivery.

        The first is taken with a get, which waits its turn behind what is still arriving at the queue; the count
        in the answer to a passive declare does not, and is right only after that.
        """
        first = self._channel.basic_get(name, no_ack=True)
        if first is None:
            return ()
        read = [_number(first)]
        expected = 1 + int(self._channel.queue_declare(name, passive=True).message_count)
        if expected > 1:
            tag = self._channel.basic_consume(name, no_ack=True, callback=lambda message: read.append(_number(message)))
            while len(read) < expected:
                self._connection.drain_events(timeout=ANSWER_SECONDS)
            self._channel.basic_cancel(tag)
        return tuple(read)


def _number(message: amqp.Message) -> int:
    return int(message.properties["message_id"])
