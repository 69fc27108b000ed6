"""What may be declared: RabbitMQ's rules and RabbitMQ's sentences, kept in one place for all who declare.

A `Declarations` is the register of one vhost's exchanges and queues. Topologies are checked by filling one;
the router keeps one and adds the bindings. The rules follow rabbit_channel.erl (names, the default exchange),
rabbit_exchange_type_topic.erl and rabbit_exchange_type_headers.erl (`validate_binding`). What a queue's
arguments may hold stands in queue_arguments.py, when two declarations are the same in equivalence.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NoReturn

from waybill.errors import TopologyError
from waybill.topology.equivalence import check_same_exchange, check_same_queue
from waybill.topology.policies import NO_POLICIES, Policies
from waybill.topology.queue_arguments import check_arguments, type_name, with_default_type, written
from waybill.topology.values import DEFAULT_EXCHANGE, DEFAULT_VHOST, PREDECLARED, Binding, Exchange, Queue

MAX_SHORTSTR = 255
"""Bytes of UTF-8 in a name or a key: AMQP's short string has one byte for its length."""

LONG_INTEGERS = range(-(2**63), 2**63)
"""What an AMQP table carries as an integer: 64 bits."""

MAX_HASH_WORDS = 2
"""`#` words in one topic binding key: RabbitMQ 4.3.5 and later refuse more, each makes matching dearer."""

X_MATCH = ("all", "any", "all-with-x", "any-with-x")

EXCHANGE_TYPES = frozenset(
    {"direct", "fanout", "headers", "topic", "x-local-random", "x-modulus-hash"}  # RabbitMQ's own, as of 4.3
    | {"x-consistent-hash", "x-recent-history", "x-random"}  # plugins that come with it
    | {"x-delayed-message", "x-jms-topic"}
)

DELAYED = "x-delayed-message"
"""The type that holds a message back for its header `x-delay`, and then routes as its `x-delayed-type`."""

PLUGIN_PREFIX = "x-"
"""How the names of the types begin that plugins bring."""

ATOMS = frozenset({"x-random", "x-jms-topic"})
"""Types of plugins that a RabbitMQ without them calls invalid instead of unknown (4.3.6)."""


class Declarations:
    """The exchanges and queues of one vhost, every one of them acceptable to RabbitMQ.

    Args:
        vhost: its name, for the refusals' sentences.
        default_queue_type: the type of queues that name none, where their other properties allow it.
        policies: applied to what is declared.
        exchange_types: those that the broker knows; None where no broker is known, and a type `x-...` that Waybill
            doesn't know may be that of a plugin.
    """

    def __init__(
        self,
        vhost: str = DEFAULT_VHOST,
        default_queue_type: str = "classic",
        policies: Policies = NO_POLICIES,
        exchange_types: Set[str] | None = None,
    ) -> None:
        self.vhost = vhost
        self.default_queue_type = default_queue_type
        self.policies = policies
        self.exchange_types = exchange_types
        self.exchanges: dict[str, Exchange] = {name: policies.applied(one) for name, one in PREDECLARED.items()}
        self.queues: dict[str, Queue] = {}

    def declare_exchange(self, exchange: Exchange, *, is_restored: bool = False) -> bool:
        """Declare, or find the same declared already.

        Args:
            is_restored: it comes from a stored topology, where RabbitMQ's own `amq.` names may stand.

        Returns:
            Whether it is new.

        Raises:
            TopologyError: 403, 406, or 501 for what `check_carried` refuses.
        """
        self._check_exchange_type(exchange.type)
        refuse_default_exchange(exchange.name)
        check_carried(exchange)
        current = self.exchanges.get(exchange.name)
        if current is not None:
            check_same_exchange(current, exchange, self.named("exchange", exchange.name))
            return False
        if not is_restored:
            _refuse_reserved("exchange", exchange.name)
        _check_name_argument(exchange.arguments, "alternate-exchange", self.named("exchange", exchange.name))
        _check_hash_arguments(exchange)
        _check_history_length(exchange)
        self._check_delayed_type(exchange)
        self.exchanges[exchange.name] = self.policies.applied(exchange)
        return True

    def declare_queue(self, queue: Queue, *, is_restored: bool = False) -> bool:
        """As `declare_exchange`, for a queue; `is_restored` also for names that the server made up."""
        check_carried(queue)
        if not is_restored:
            _refuse_reserved("queue", queue.name)
        if self.default_queue_type != "classic":
            queue = with_default_type(queue, self.default_queue_type)
        current = self.queues.get(queue.name)
        if current is not None:
            check_same_queue(current, queue, self.named("queue", queue.name))
            return False
        where = self.named("queue", queue.name)
        _check_name_argument(queue.arguments, "x-dead-letter-exchange", where)
        check_arguments(queue, where)
        self.queues[queue.name] = self.policies.applied(queue)
        return True

    def _is_known_type(self, kind: str) -> bool:
        if self.exchange_types is None:
            return kind in EXCHANGE_TYPES or kind.startswith(PLUGIN_PREFIX)
        return kind in self.exchange_types

    def _check_exchange_type(self, kind: str) -> None:
        if not self._is_known_type(kind):
            # RabbitMQ says "invalid" for a word that its VM has read somewhere.
            raise TopologyError(406, f"{'invalid' if kind in ATOMS else 'unknown'} exchange type '{kind}'")

    def _check_delayed_type(self, exchange: Exchange) -> None:
        """As the plugin does (rabbit_exchange_type_delayed_message.erl, `validate`); it isn't in RabbitMQ's image."""
        if exchange.type != DELAYED:
            return
        inner = exchange.arguments.get("x-delayed-type")
        if not isinstance(inner, str) or inner == DELAYED or not self._is_known_type(inner):
            raise TopologyError(406, "Invalid argument, 'x-delayed-type' must be an existing exchange type")

    def refusal(self, item: Exchange | Queue | Binding, *, is_restored: bool = False) -> TopologyError | None:
        """What RabbitMQ would answer to this declaration, None where it takes it; an exchange or queue is then held."""
        try:
            if isinstance(item, Exchange):
                self.declare_exchange(item, is_restored=is_restored)
            elif isinstance(item, Queue):
                self.declare_queue(item, is_restored=is_restored)
            else:
                self.check_binding(item)
        except TopologyError as error:
            return error
        return None

    def check_binding(self, binding: Binding) -> None:
        """Refuse what `queue.bind` and `exchange.bind` refuse.

        Raises:
            TopologyError: 403 for the default exchange, 404 for an end that isn't declared, 406 for arguments
                or keys that the source's type refuses, 501 as `check_carried`.
        """
        check_carried(binding)
        self.check_ends(binding)
        source = self.exchanges.get(binding.source)
        if source is None:
            self.refuse_missing("exchange", binding.source)
        kind = binding.destination_type
        if binding.destination not in (self.queues if kind == "queue" else self.exchanges):
            self.refuse_missing(kind, binding.destination)
        if source.type == "x-local-random":
            self._check_local_binding(binding)
        check = _BINDING_CHECKS.get(effective_type(source))
        if check is not None:
            check(binding)

    def _check_local_binding(self, binding: Binding) -> None:
        """What is kept on the node of the publisher: classic queues, bound without a key."""
        if binding.binding_key:
            key = binding.binding_key.encode().decode("latin-1")  # RabbitMQ writes the bytes one by one
            raise TopologyError(406, f"Non empty binding '{key}' key not permitted")
        queue = self.queues.get(binding.destination) if binding.destination_type == "queue" else None
        if queue is None:
            raise TopologyError(406, "Destination not found")
        if queue.type != "classic":
            raise TopologyError(406, f"Queue type rabbit_{queue.type}_queue not valid for this exchange type")

    def check_ends(self, binding: Binding) -> None:
        """Refuse a binding, or an unbinding, that names the default exchange."""
        if binding.destination_type == "exchange":
            refuse_default_exchange(binding.destination)
        refuse_default_exchange(binding.source)

    def refuse_missing(self, kind: str, name: str) -> NoReturn:
        """Raise the 404 for an exchange or queue that isn't declared."""
        raise TopologyError(404, f"no {self.named(kind, name)}")

    def named(self, kind: str, name: str) -> str:
        """`queue 'q' in vhost '/'`, as RabbitMQ names a thing."""
        return f"{kind} '{name}' in vhost '{self.vhost}'"


def effective_type(exchange: Exchange) -> str:
    """The type that routes: a delayed-message exchange routes as the type its argument names."""
    return str(exchange.arguments.get("x-delayed-type", "direct")) if exchange.type == DELAYED else exchange.type


def check_carried(item: Exchange | Queue | Binding) -> None:
    """Refuse what no client can send, whatever the broker would say to it.

    Raises:
        TopologyError: 501.
    """
    if isinstance(item, Binding):
        check_shortstr("binding key", item.binding_key)
        check_shortstr("exchange name", item.source)
        check_shortstr(f"{item.destination_type} name", item.destination)
    else:
        check_shortstr("exchange name" if isinstance(item, Exchange) else "queue name", item.name)
    for name, value in item.arguments.items():
        check_shortstr("argument name", name)
        _check_width(name, value)


def check_shortstr(what: str, text: str) -> None:
    """Refuse what does not fit into AMQP's short string.

    Raises:
        TopologyError: 501. A text that is too long RabbitMQ never sees: the client library cannot encode it. One with
            half of a surrogate pair it closes the connection over.
    """
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise TopologyError(501, "Malformed UTF-8 in shortstr") from None
    if size > MAX_SHORTSTR:
        raise TopologyError(501, f"{what} '{text[:20]}...' is {size} bytes long, at most {MAX_SHORTSTR} are allowed")


def _check_width(argument: str, value: Any) -> None:
    if type(value) is int and value not in LONG_INTEGERS:
        raise TopologyError(501, f"argument '{argument}' has an integer that AMQP cannot carry: more than 64 bits")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        _check_width(argument, one)


def refuse_default_exchange(name: str) -> None:
    """Raise the 403 where `name` is the default exchange."""
    if name == DEFAULT_EXCHANGE:
        raise TopologyError(403, "operation not permitted on the default exchange")


def _refuse_reserved(kind: str, name: str) -> None:
    if name.startswith("amq."):
        raise TopologyError(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _check_name_argument(arguments: Mapping[str, Any], argument: str, where: str) -> None:
    if argument in arguments and type_name(arguments[argument]) != "longstr":
        kind = type_name(arguments[argument])
        raise TopologyError(406, f"invalid type '{kind}' for arg '{argument}' in {where}")


def _check_hash_arguments(exchange: Exchange) -> None:
    if exchange.type != "x-consistent-hash":
        return
    if "hash-header" in exchange.arguments and "hash-property" in exchange.arguments:
        raise TopologyError(406, "hash-header and hash-property are mutually exclusive")
    if "hash-header" in exchange.arguments and type_name(exchange.arguments["hash-header"]) != "longstr":
        raise TopologyError(541, "")  # the plugin fails on it, and the connection is closed
    hashed = exchange.arguments.get("hash-property")
    if hashed is not None and hashed not in ("correlation_id", "message_id", "timestamp"):
        raise TopologyError(406, f"Unsupported property: {hashed}")


def _check_history_length(exchange: Exchange) -> None:
    """As the plugin does (rabbit_exchange_type_recent_history.erl, `validate`)."""
    if exchange.type != "x-recent-history" or "x-recent-history-length" not in exchange.arguments:
        return
    length = exchange.arguments["x-recent-history-length"]
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        expected = "'x-recent-history-length' must be a positive integer"
        raise TopologyError(406, f"Invalid argument {written(length)}, {expected}")


def _check_topic_binding(binding: Binding) -> None:
    count = binding.binding_key.split(".").count("#") if "#" in binding.binding_key else 0
    if count > MAX_HASH_WORDS:
        raise TopologyError(
            406,
            f"Topic binding key '{binding.binding_key}' uses {count} '#' wildcards, "
            f"at most {MAX_HASH_WORDS} are allowed",
        )


def _check_headers_binding(binding: Binding) -> None:
    if "x-match" not in binding.arguments:
        return
    mode, kind = binding.arguments["x-match"], type_name(binding.arguments["x-match"])
    expected = "all, any, all-with-x, or any-with-x"
    if kind != "longstr":
        raise TopologyError(406, f"Invalid x-match field type {kind} (value {written(mode)}); expected longstr")
    if mode not in X_MATCH:
        raise TopologyError(406, f"Invalid x-match field value {written(mode)}; expected {expected}")


def _check_hash_binding(binding: Binding) -> None:
    weight = binding.binding_key
    try:
        is_positive = int(weight) > 0
    except ValueError:
        raise TopologyError(406, f"The binding key must be an integer: {written(weight)}") from None
    if not is_positive:
        raise TopologyError(406, "The binding key must be greater than 0")


_BINDING_CHECKS = {
    "topic": _check_topic_binding,
    "headers": _check_headers_binding,
    "x-consistent-hash": _check_hash_binding,
}
