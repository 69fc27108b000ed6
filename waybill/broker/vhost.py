"""One virtual host: the engine's router decides where messages go, the queues here keep them.

Declarations and bindings are checked, refused and held by `waybill.routing.Router`, in RabbitMQ's words; what is
added here is what only a running broker has: owners of exclusive queues, messages, dead letters, reply consumers
and time.
"""

from __future__ import annotations

import random
import secrets
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol
from zlib import crc32

from waybill.broker import deaths
from waybill.broker.clock import Clock
from waybill.broker.history import Histories
from waybill.broker.memory import ENTRY, Memory
from waybill.broker.message import Message, with_counts
from waybill.broker.properties import plain_headers, read
from waybill.broker.queue import Owner, Queue
from waybill.broker.tables import long_integer
from waybill.errors import ProtocolRefusal
from waybill.routing import Router
from waybill.routing.dead_letters import Reason, is_cycle
from waybill.routing.publishing import delay_of
from waybill.topology import Topology
from waybill.topology.declarations import DELAYED, EXCHANGE_TYPES, effective_type
from waybill.topology.equivalence import LOCKED
from waybill.topology.fields import EMPTY
from waybill.topology.policies import Policies
from waybill.topology.queue_arguments import with_default_type
from waybill.topology.values import Binding, Exchange
from waybill.topology.values import Queue as Declaration

REPLY_TO = "amq.rabbitmq.reply-to"
"""The pseudo-queue of direct reply-to; with a dot and a token it names one channel's reply consumer."""

FOREIGN_TYPES = frozenset({"x-jms-topic"})
"""Exchange types that the engine knows for what they may reach, and this broker cannot run."""

NOT_HERE = "is not part of waybill's embedded broker"

NO_STREAMS = "queue '{}': type stream is not part of waybill's embedded broker, use RabbitMQ"

_AT_ONCE = nullcontext()


class ReplyConsumer(Protocol):
    """What a channel that waits for direct replies is told."""

    def deliver_reply(self, message: Message) -> None:
        """Send a reply."""


class VHost:
    """Exchanges, queues and bindings under one name.

    Args:
        name: as clients open it.
        clock: the broker's, with its timers.
        memory: the account of what is kept.

    Attributes:
        is_traced: copies of what is published and delivered go to `amq.rabbitmq.trace`.
        description, tags: what whoever made it wrote about it.
        copies: how many copies of messages have been put into queues where a message had several; whoever counts sets
            it to 0.
    """

    def __init__(self, name: str, clock: Clock, memory: Memory, *, is_traced: bool = False) -> None:
        self.name = name
        self.is_traced = is_traced
        self.description = ""
        self.tags: tuple[str, ...] = ()
        self._clock = clock
        self._memory = memory
        self.router = Router(name, exchange_types=EXCHANGE_TYPES)
        self.router.choose = choose
        self.queues: dict[str, Queue] = {}
        self.reply_consumers: dict[str, ReplyConsumer] = {}
        self._reply_mark = secrets.token_urlsafe(12)
        self.histories = Histories(self)
        self._reads_headers: dict[str, bool] = {}
        self._dead_letters: deque[Message] = deque()
        self._is_deferring = False
        self.copies = 0

    # what queues ask of their home

    @property
    def now(self) -> float:
        """The clock."""
        return self._clock.now

    def wake_at(self, queue: Queue, when: float) -> None:
        """Have `queue.on_time()` called."""
        self._clock.wake_at(queue, when, lambda: self._on_time(queue))

    def hold(self, message: Message) -> None:
        """A message is kept in one place more: in a queue, a transaction, a history, or for its delay."""
        self._memory.held += len(message.body) + ENTRY

    def release(self, message: Message) -> None:
        """A message is kept in one place less."""
        self._memory.held -= len(message.body) + ENTRY

    def account(self, size: int) -> None:
        """So many bytes of a body that isn't whole yet are kept, or no more if negative."""
        self._memory.held += size

    def _on_time(self, queue: Queue) -> None:
        if queue.is_deleted:
            return
        if queue.is_expired():
            self.delete_queue(queue)
        else:
            queue.on_time()

    def load(self, topology: Topology) -> tuple[str, ...]:
        """Declare what a topology holds in an empty vhost; its policies and default queue type hold from then on.

        Returns:
            What of it this broker has no place for, in words: it is left out, with the bindings from and to it.
        """
        self.router = Router(self.name, topology.default_queue_type, topology.policies, EXCHANGE_TYPES)
        self.router.choose = choose
        self._reads_headers.clear()
        return self.restore(topology)

    def restore(self, topology: Topology) -> tuple[str, ...]:
        """Declare what a topology holds and is not there yet: what has its name stays as it is.

        Returns:
            As `load`.
        """
        left_out: dict[tuple[str, str], str] = {}
        for exchange in topology.exchanges:
            if why := _foreign(exchange):
                left_out["exchange", exchange.name] = f"exchange '{exchange.name}' ({why})"
            elif exchange.name not in self.router.exchanges:
                self.router.declare_exchange(exchange, is_restored=True)
                self.histories.declared(exchange)
                self._reads_headers.clear()
        for declaration in topology.queues:
            if declaration.type == "stream":
                left_out["queue", declaration.name] = f"queue '{declaration.name}' (type stream)"
            elif declaration.name not in self.queues:
                self.router.declare_queue(declaration, is_restored=True)
                self.queues[declaration.name] = Queue(self.router.queues[declaration.name], self)
        for binding in topology.bindings:
            ends = {("exchange", binding.source), (binding.destination_type, binding.destination)}
            if binding.destination_type == "exchange" and self._is_delaying(binding.destination):
                what = f"the bindings to exchange '{binding.destination}' (type {DELAYED})"
                left_out["binding", binding.destination] = what
            elif not ends & left_out.keys():
                self.bind(binding)
        return tuple(left_out.values())

    def set_policies(self, policies: Policies) -> None:
        """Let other policies hold, for living queues and exchanges, too."""
        self.router.set_policies(policies)
        self._reads_headers.clear()
        for name, queue in self.queues.items():
            queue.apply(self.router.queues[name])

    # exchanges and bindings

    def declare_exchange(self, exchange: Exchange) -> None:
        """Declare an exchange, or find the same one there.

        Raises:
            TopologyError: 403, 406, as RabbitMQ answers.
            ProtocolRefusal: 540 for what this broker does not have.
        """
        if exchange.type in EXCHANGE_TYPES and (why := _foreign(exchange)):
            raise ProtocolRefusal(540, f"exchange {why} {NOT_HERE}")
        if self.router.declare_exchange(exchange):
            self.histories.declared(exchange)
            self._reads_headers.clear()

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange; one that isn't there is no error."""
        gone = self.router.delete_exchange(name, if_unused=if_unused)
        self._forget_exchanges((name, *gone))

    def bind(self, binding: Binding) -> None:
        """Make a binding; a recent-history exchange hands its messages to a new one.

        Raises:
            TopologyError: 403, 404, 406, 501, as `Router.bind`.
            ProtocolRefusal: 541 where the destination is an exchange from which one of these messages reaches no queue;
                the binding stays, and so do the newer ones, which were delivered before.
        """
        if binding.destination_type == "exchange" and self._is_delaying(binding.destination):
            raise ProtocolRefusal(540, f"a binding to an exchange of type {DELAYED} {NOT_HERE}")
        if self.router.bind(binding):
            self._reads_headers.clear()
            self._replay(binding, self.histories.of(binding.source))

    def _replay(self, binding: Binding, messages: tuple[Message, ...]) -> None:
        """Oldest first to a queue, newest first to an exchange: `add_binding` of the plugin."""
        if binding.destination_type == "queue":
            for message in messages:
                self.deliver(message, (binding.destination,))
            return
        for message in reversed(messages):
            names = self._route_on(binding.destination, message)
            if not names:  # the plugin asks for a queue where there is none, and this is what RabbitMQ then says
                raise ProtocolRefusal(541, "could not find queue/exchange ''")
            self.deliver(message, names)

    def unbind(self, binding: Binding) -> None:
        """Take a binding away; one that isn't there is no error."""
        self._forget_exchanges(self.router.unbind(binding))

    def _forget_exchanges(self, names: tuple[str, ...]) -> None:
        self._reads_headers.clear()
        for name in names:
            self.histories.deleted(name)

    def check_exchange(self, name: str) -> None:
        """Refuse a passive declaration of an exchange that isn't there."""
        if name not in self.router.exchanges:
            raise ProtocolRefusal(404, f"no exchange '{name}' in vhost '{self.name}'")

    # queues

    def declare_queue(self, declaration: Declaration, connection: Owner) -> Queue:
        """Declare a queue, or find the same one there; an empty name asks for one.

        Raises:
            TopologyError: 403, 406, as RabbitMQ answers.
            ProtocolRefusal: 405 for another connection's exclusive queue, 540 for a stream.
        """
        if self.router.default_queue_type != "classic":
            declaration = with_default_type(declaration, self.router.default_queue_type)
        is_named = bool(declaration.name)
        if not is_named:
            declaration = self._named(declaration)
        elif (queue := self.queues.get(declaration.name)) is not None:
            if queue.owner is not None:
                self.check_access(queue, connection)
            self.router.declare_queue(declaration)
            queue.touch()
            return queue
        if declaration.type == "stream":
            raise ProtocolRefusal(540, NO_STREAMS.format(declaration.name))
        self.router.declare_queue(declaration, is_restored=not is_named)
        owner = connection if declaration.exclusive else None
        queue = self.queues[declaration.name] = Queue(self.router.queues[declaration.name], self, owner)
        if owner is not None:
            owner.owned.add(queue)
        return queue

    def _named(self, declaration: Declaration) -> Declaration:
        if declaration.type != "classic":
            raise ProtocolRefusal(406, f"Cannot declare a server-named queue for type rabbit_{declaration.type}_queue")
        return Declaration(
            generated_name("amq.gen"),
            declaration.durable,
            declaration.exclusive,
            declaration.auto_delete,
            declaration.arguments,
        )

    def queue(self, name: str, connection: Owner) -> Queue:
        """A queue that this connection may use.

        Raises:
            ProtocolRefusal: 404 where there is none, 405 where it is another connection's.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise ProtocolRefusal(404, f"no queue '{name}' in vhost '{self.name}'")
        if queue.owner is not None:
            self.check_access(queue, connection)
        return queue

    def check_access(self, queue: Queue, connection: Owner) -> None:
        """Refuse another connection's exclusive queue."""
        if queue.owner is not None and queue.owner is not connection:
            raise ProtocolRefusal(405, LOCKED.format(self.named(queue)))

    def named(self, queue: Queue) -> str:
        """`queue 'q' in vhost '/'`, as RabbitMQ names a queue."""
        return f"queue '{queue.name}' in vhost '{self.name}'"

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue and its bindings; its consumers are told."""
        queue.purge()
        queue.is_deleted = True
        self._clock.forget(queue)
        del self.queues[queue.name]
        if queue.owner is not None:
            queue.owner.owned.discard(queue)
        for consumer in sorted(queue.consumers.listed, key=lambda one: one.tag):  # as RabbitMQ's channels tell of them
            consumer.is_gone = True
            consumer.receiver.cancelled(consumer)
        self._forget_exchanges(self.router.delete_queue(queue.name))

    def forget_transient(self) -> None:
        """The broker starts again, and no client is connected: what is not durable is gone."""
        for queue in tuple(self.queues.values()):
            if queue.declaration.durable:
                queue.forget_transient()
            else:
                self.delete_queue(queue)
        for exchange in tuple(self.router.exchanges.values()):
            if not exchange.durable and exchange.name in self.router.exchanges:
                self.delete_exchange(exchange.name, if_unused=False)

    # direct reply-to

    def add_reply_consumer(self, consumer: ReplyConsumer) -> str:
        """A channel waits for direct replies; returns the token by which they find it."""
        token = f"{self._reply_mark}.{secrets.token_urlsafe(12)}"
        self.reply_consumers[token] = consumer
        return token

    def reply_consumer(self, address: str) -> ReplyConsumer | None:
        """Who waits for direct replies at this address, None where nobody does."""
        prefix = f"{REPLY_TO}."
        return self.reply_consumers.get(address.removeprefix(prefix)) if address.startswith(prefix) else None

    def is_own_reply(self, token: str) -> bool:
        """Whether a reply address was ever given out here: then a late reply is lost, not returned."""
        return token.startswith(self._reply_mark)

    # messages

    def headers_for(self, exchange: str, raw: bytes) -> dict[str, Any] | None:
        """A message's headers where its way from `exchange` depends on them, None otherwise.

        Raises:
            ProtocolRefusal: 541 for bytes that are no table.
        """
        reads = self._reads_headers.get(exchange)
        if reads is None:
            reads = self.router.reads_headers(exchange) or self._is_delaying(exchange)
            self._reads_headers[exchange] = reads
        if reads or b"\x02CC" in raw or b"\x03BCC" in raw:
            return plain_headers(raw)
        return None

    def _is_delaying(self, exchange: str) -> bool:
        found = self.router.exchanges.get(exchange)
        return found is not None and found.type == DELAYED

    def holds_back(self, message: Message, headers: Mapping[str, Any]) -> bool:
        """Keep a message for its `x-delay` where its exchange is of type `x-delayed-message`; then it is routed."""
        delay = delay_of(headers) if self._is_delaying(message.exchange) else 0
        if delay:
            self.hold(message)
            self._clock.wake_at(message, self.now + delay / 1000, lambda: self._release(message, delay))
        return bool(delay)

    def _release(self, message: Message, delay: int) -> None:
        """Route a message that was held back, with the delay below 0, by which the plugin knows it again."""
        self.release(message)
        message.header = with_counts(message.header, (("x-delay", long_integer(-delay)),))
        self.deliver(message, self._route_on(message.exchange, message))

    def note_in_histories(self, exchange: str, message: Message, headers: Mapping[str, Any] | None) -> None:
        """Have the recent-history exchanges remember a message that was routed, even if a transaction holds it back."""
        if self.histories:
            passed = self.router.exchanges_within(exchange, message.all_keys, headers or EMPTY)
            self.histories.keep(passed, message)

    def deliver(self, message: Message, names: tuple[str, ...]) -> bool:
        """Put a message into the queues it was routed to; False where one of them refused it."""
        is_taken = True
        queues, count = self.queues, len(names)
        if count > 1:
            self.copies += count
        with _AT_ONCE if count < 2 else self.deferred_dead_letters():  # one never comes before the message itself
            for name in names:
                queue = queues.get(name)
                if queue is not None and not queue.publish(message):
                    is_taken = False
        return is_taken

    def trace(self, message: Message) -> None:
        """Send the firehose's copy of a message on."""
        self.deliver(message, self._route_on(message.exchange, message))

    def dead_letter(self, queue: Queue, message: Message, reason: Reason, *, failures: int) -> None:
        """Send a message that left a queue unconsumed to the queue's dead-letter exchange."""
        exchange = queue.dead_letter_exchange
        if exchange is None:
            return
        key = queue.dead_letter_key
        letter = deaths.dead_letter(message, queue.name, reason, exchange, key, self._clock.wall, failures=failures)
        self._dead_letters.append(letter)
        with self.deferred_dead_letters():
            pass

    @contextmanager
    def deferred_dead_letters(self) -> Iterator[None]:
        """Send dead letters when the block ends, as RabbitMQ's queues send theirs when they have done what they do.

        A block inside another changes nothing, so that a chain of dead-lettering queues is a loop here, however long,
        and no recursion.
        """
        if self._is_deferring:
            yield
            return
        self._is_deferring = True
        try:
            yield
            while self._dead_letters:
                self._send_dead_letter(self._dead_letters.popleft())
        finally:
            self._is_deferring = False

    def _route_on(self, exchange: str, message: Message) -> tuple[str, ...]:
        """Route a message that is here already through an exchange; returns the queues that it reaches."""
        headers = self.headers_for(exchange, read(message.header).headers or b"")
        self.note_in_histories(exchange, message, headers)
        return self.router.route_within(exchange, message.all_keys, headers or EMPTY)

    def _send_dead_letter(self, letter: Message) -> None:
        # No cycle ends what is held back: the plugin doesn't look for one.
        headers = plain_headers(read(letter.header).headers or b"") if self._is_delaying(letter.exchange) else EMPTY
        if self.holds_back(letter, headers):
            return
        died = [(death.queue, death.reason) for death in letter.deaths]
        names = self._route_on(letter.exchange, letter)
        self.deliver(letter, tuple(name for name in names if not is_cycle(name, died)))


def choose(exchange: Exchange, bindings: Sequence[Binding], keys: Sequence[str]) -> Binding:
    """The binding that an exchange of these types takes: by chance, or for one key always the same.

    RabbitMQ's `x-modulus-hash` sorts its destinations, too; the hash that chooses one is Erlang's own there.
    """
    if effective_type(exchange) == "x-modulus-hash":
        row = sorted(bindings, key=lambda one: (one.destination_type, one.destination))
        return row[crc32("\0".join(keys).encode()) % len(row)]
    return random.choice(bindings)


def _foreign(exchange: Exchange) -> str:
    """What of the exchange is not part of this broker; empty where it can run it."""
    if exchange.type in FOREIGN_TYPES or exchange.type not in EXCHANGE_TYPES:
        return f"type {exchange.type}"
    inner = effective_type(exchange)
    if exchange.type == DELAYED and (inner not in EXCHANGE_TYPES or inner in (*FOREIGN_TYPES, "x-recent-history")):
        return f"type {exchange.type} that routes as {inner}"
    has_property = exchange.type == "x-consistent-hash" and "hash-property" in exchange.arguments
    return "argument hash-property" if has_property else ""


def generated_name(prefix: str, entropy: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A name that nobody has: the prefix, a dash and 128 bits."""
    return f"{prefix}-{urlsafe_b64encode(entropy(16)).decode().rstrip('=')}"
