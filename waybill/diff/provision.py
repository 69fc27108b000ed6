"""`waybill declare`: declare what the workers would, on the application's broker, or nothing.

What no client can send is refused before anything is asked. AMQP has no dry run, so the rest is done in two rounds.
First whatever the broker has already is declared again: that
changes nothing, and a difference is refused in RabbitMQ's own words. What doesn't exist is checked by the rules of
`waybill.topology`. Only when nothing is refused, what is missing is declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Connection

from waybill.diff.declared import Declared
from waybill.diff.plan import Failure, Item, described
from waybill.errors import REPLY_NAMES, InputError, TopologyError
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.declarations import EXCHANGE_TYPES, Declarations, check_carried


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        made: exchanges and queues that were not there before; none where something is refused in the first round.
        bound: how many bindings were asked for, new or not: AMQP doesn't say.
    """

    failures: tuple[Failure, ...] = ()
    made: tuple[Exchange | Queue, ...] = ()
    bound: int = 0

    def summary(self, vhost: str) -> str:
        """The last line."""
        if self.failures:
            done = f"{len(self.made)} declared before that" if self.made else "nothing is declared"
            return f"vhost {vhost}: {len(self.failures)} refused, {done}"
        return f"vhost {vhost}: {len(self.made)} new, all bound ({self.bound} bindings)"

    def to_json(self) -> dict[str, Any]:
        return {
            "created": [described(item) for item in self.made],
            "fail": [failure.to_json() for failure in self.failures],
        }


def require_amqp(connection: Connection) -> None:
    """Refuse a broker on which nothing is declared; it need not be connected to.

    Raises:
        InputError: it doesn't speak AMQP.
    """
    kind = connection.transport.driver_type
    if kind != "amqp":
        raise InputError(f"nothing can be declared on this broker: expected one that speaks AMQP, got {kind}")


def declare(connection: Connection, declared: Declared, vhost: str) -> Outcome:
    """Declare the exchanges, the queues and the bindings.

    Exclusive queues and those of `Broadcast` are left to the workers: they belong to a connection.

    Raises:
        InputError: the broker doesn't speak AMQP.
    """
    require_amqp(connection)
    wire = _Wire(connection.channel())
    items: list[Exchange | Queue] = [
        *declared.exchanges,
        *(queue for queue in declared.shared() if not queue.exclusive),
    ]
    bindings = _bindings(declared, items)
    unsent = tuple(_unsendable((*items, *map(Queue, sorted(declared.awaited)), *bindings)))
    if unsent:
        return Outcome(unsent)
    # Whether the broker knows a plugin's type only it can say: it's asked first, while nothing else is declared.
    missing = sorted((item for item in items if not wire.exists(item)), key=_is_known)
    failures = (*_first_round(wire, items, missing, vhost), *_unbindable(wire, items, bindings, vhost))
    absent = (Queue(name) for name in sorted(declared.awaited) if not wire.exists(Queue(name)))
    failures += tuple(Failure(queue, 404, f"no queue '{queue.name}' in vhost '{vhost}'") for queue in absent)
    return Outcome(failures) if failures else _second_round(wire, missing, bindings)


def _bindings(declared: Declared, items: Iterable[Exchange | Queue]) -> list[Binding]:
    queues = {item.name for item in items if isinstance(item, Queue)}
    return [b for b in declared.bindings if b.destination_type == "exchange" or b.destination in queues]


def _is_known(item: Exchange | Queue) -> bool:
    return isinstance(item, Queue) or item.type in EXCHANGE_TYPES


def _unsendable(items: Iterable[Item]) -> Iterator[Failure]:
    """What no client can send; of a thing that is refused, the bindings aren't told too."""
    refused: set[str] = set()
    for item in items:
        if isinstance(item, Binding) and refused & {item.source, item.destination}:
            continue
        try:
            check_carried(item)
        except TopologyError as error:
            yield Failure(item, error.reply_code, error.text)
            refused |= set() if isinstance(item, Binding) else {item.name}


def _first_round(
    wire: _Wire, items: Iterable[Exchange | Queue], missing: Iterable[Exchange | Queue], vhost: str
) -> Iterator[Failure]:
    new, absent = Declarations(vhost), set(missing)
    for item in items:
        refusal = _refusal(new, item) if item in absent else wire.declare(item)
        if refusal is not None:
            yield refusal


def _unbindable(
    wire: _Wire, items: Iterable[Exchange | Queue], bindings: Iterable[Binding], vhost: str
) -> Iterator[Failure]:
    """The bindings that would be refused; of an exchange that is there and not ours, the type is not known."""
    held = Declarations(vhost)
    for item in items:
        known: dict[str, Any] = held.exchanges if isinstance(item, Exchange) else held.queues
        known.setdefault(item.name, item)
    foreign = {binding.source for binding in bindings} - held.exchanges.keys()
    present = {name for name in foreign if wire.exists(Exchange(name))}
    for binding in bindings:
        refusal = None if binding.source in present else _refusal(held, binding)
        if refusal is not None:
            yield refusal


def _refusal(held: Declarations, item: Item) -> Failure | None:
    error = held.refusal(item)
    return None if error is None else Failure(item, error.reply_code, error.text, error.argument)


def _second_round(wire: _Wire, missing: Iterable[Exchange | Queue], bindings: Sequence[Binding]) -> Outcome:
    made: list[Exchange | Queue] = []
    for item in (*missing, *bindings):
        refusal = wire.declare(item)
        if refusal is not None:
            return Outcome((refusal,), tuple(made))
        if not isinstance(item, Binding):
            made.append(item)
    return Outcome((), tuple(made), len(bindings))


class _Wire:
    """A channel on which things are declared; py-amqp opens it anew when the broker closes it over a refusal."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def exists(self, item: Exchange | Queue) -> bool:
        """Whether there is one of that name; another connection's exclusive queue is one."""
        try:
            if isinstance(item, Exchange):
                self._channel.exchange_declare(item.name, item.type, passive=True)
            else:
                self._channel.queue_declare(item.name, passive=True)
        except AMQPError as error:
            if error.reply_code not in REPLY_NAMES:
                raise
            return bool(error.reply_code != 404)
        return True

    def declare(self, item: Item) -> Failure | None:
        """Declare or bind; the refusal in the broker's words."""
        try:
            self._declare(item)
        except AMQPError as error:
            if error.reply_code not in REPLY_NAMES:
                raise
            text = str(error.reply_text).removeprefix(f"{REPLY_NAMES[error.reply_code]} - ")
            return Failure(item, error.reply_code, text)
        return None

    def _declare(self, item: Item) -> None:
        arguments = dict(item.arguments)
        if isinstance(item, Exchange):
            flags = {"durable": item.durable, "auto_delete": item.auto_delete}
            self._channel.exchange_declare(item.name, item.type, arguments=arguments, **flags)
        elif isinstance(item, Queue):
            options = {"durable": item.durable, "exclusive": item.exclusive, "auto_delete": item.auto_delete}
            self._channel.queue_declare(item.name, arguments=arguments, **options)
        elif item.destination_type == "queue":
            self._channel.queue_bind(item.destination, item.source, item.binding_key, arguments=arguments)
        else:
            self._channel.exchange_bind(item.destination, item.source, item.binding_key, arguments=arguments)
