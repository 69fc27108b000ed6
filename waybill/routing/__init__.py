"""Where a message goes: from the exchange it is published to, over every binding that matches, to the queues.

The walk is RabbitMQ's (rabbit_exchange.erl, `route1`): a worklist of exchanges and the set of those seen.

1. The default exchange `''` takes each routing key for a queue's name, and that is all it does.
2. Any other exchange is asked for its matching bindings. Queues are collected, each once; exchanges not seen
   before join the worklist, so that cycles end.
3. Where nothing matched, not even a binding to an exchange that leads nowhere, the alternate exchange joins
   instead. One that doesn't exist is as none, and so is `''`, for the default exchange holds no bindings.
4. A message has its routing key and those in its headers `CC` and `BCC`, each tried like the first.

A publish is refused as RabbitMQ refuses it: 404 for an exchange that doesn't exist, 403 for an internal one,
406 for a `CC` or `BCC` that is no array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, TypeAlias

from waybill.errors import TopologyError
from waybill.matching import ChoiceMatcher
from waybill.matching.consistent_hash import ConsistentHashMatcher
from waybill.routing.dead_letters import DeadLettering, Deaths, Reason, follow
from waybill.routing.publishing import check_expiration, routing_keys
from waybill.routing.table import RoutingTable
from waybill.routing.trace import Trace
from waybill.routing.walk import trace_route
from waybill.topology import DEFAULT_EXCHANGE, DEFAULT_VHOST, Binding, Exchange, Message, Topology
from waybill.topology.fields import EMPTY
from waybill.topology.policies import NO_POLICIES, Policies

MAX_CACHED_ROUTES = 32_768
"""Routes remembered for one exchange, some 8 MB of them; keys that never repeat must not fill the memory."""

Choose: TypeAlias = Callable[[Exchange, Sequence[Binding], Sequence[str]], Binding]
"""An exchange, the bindings that it chooses from, the message's routing keys -> the one that takes the message."""


class Router(RoutingTable):
    """Say which queues a message reaches in a vhost, and why: as RabbitMQ would route it.

    The vhost may change: exchanges, queues and bindings can be declared and deleted.

    Args:
        vhost: its name, for the refusals' sentences.
        default_queue_type, policies, exchange_types: as of `Declarations`.

    Example:
        >>> from waybill import Message, Router, Topology
        >>> router = Router.of(Topology.from_definitions({
        ...     "exchanges": [{"name": "news", "type": "topic", "vhost": "/"}],
        ...     "queues": [{"name": "usa", "vhost": "/", "durable": True}],
        ...     "bindings": [
        ...         {"source": "news", "vhost": "/", "destination": "usa", "destination_type": "queue",
        ...          "routing_key": "usa.#", "arguments": {}},
        ...     ],
        ... }))
        >>> router.route(Message("news", "usa.sports"))
        ('usa',)
        >>> trace = router.trace(Message("news", "eu.sports"))
        >>> for attempt in trace.root.attempts:
        ...     print(attempt.binding.destination, attempt.is_match, attempt.reason)
        usa False first word is `eu`, the binding wants `usa`
    """

    def __init__(
        self,
        vhost: str = DEFAULT_VHOST,
        default_queue_type: str = "classic",
        policies: Policies = NO_POLICIES,
        exchange_types: Set[str] | None = None,
    ) -> None:
        super().__init__(vhost, default_queue_type, policies, exchange_types)
        self._routes: dict[str, dict[str, tuple[str, ...]]] = {}
        self._listed: dict[str, tuple[Binding, ...]] = {}
        self._header_bound: dict[str, bool] = {}
        self.choose: Choose | None = None
        """How exchanges such as `x-random` choose; None gives all that they choose from."""

    @classmethod
    def of(cls, topology: Topology) -> Router:
        """A router that holds what `topology` holds."""
        router = cls(topology.vhost, topology.default_queue_type, topology.policies)
        for exchange in topology.exchanges:
            router.declare_exchange(exchange, is_restored=True)
        for queue in topology.queues:
            router.declare_queue(queue, is_restored=True)
        for binding in topology.bindings:
            router.bind(binding)
        return router

    def route(self, message: Message) -> tuple[str, ...]:
        """The queues that a publication reaches, each once; empty where it is unroutable.

        Raises:
            TopologyError: the publication is refused: 404, 403 or 406, as RabbitMQ answers.
        """
        if message.expiration is not None:
            self.check_publish(message.exchange)  # RabbitMQ looks at the exchange first
            check_expiration(message.expiration)
        return self.route_key(message.exchange, message.routing_key, message.headers)

    def route_key(self, exchange: str, routing_key: str, headers: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """As `route`, for those who publish often: no message need be built."""
        if not headers or ("CC" not in headers and "BCC" not in headers):
            if exchange == DEFAULT_EXCHANGE:
                return (routing_key,) if routing_key in self.queues else ()
            routes = self._routes.get(exchange)
            if routes is not None:
                queues = routes.get(routing_key)
                if queues is not None:
                    return queues
        return self._route_publish(exchange, routing_key, headers or EMPTY)

    def _route_publish(self, name: str, routing_key: str, headers: Mapping[str, Any]) -> tuple[str, ...]:
        self.check_publish(name)
        keys = routing_keys(routing_key, headers)
        queues = self.route_within(name, keys, headers)
        if len(keys) == 1 and not self._reads_headers(name) and not self._chooses(name):
            self._remember(name, routing_key, queues)
        return queues

    def check_publish(self, exchange: str) -> None:
        """Refuse a client's publication to an exchange that doesn't exist (404) or is internal (403)."""
        found = self.exchanges.get(exchange)
        if found is None:
            self.refuse_missing("exchange", exchange)
        if found.internal:
            where = self.named("exchange", exchange)
            raise TopologyError(403, f"cannot publish to internal {where}")

    def route_within(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> tuple[str, ...]:
        """As the broker itself routes, a dead letter for one: internal exchanges take it too.

        Args:
            keys: all its routing keys, the first one first.
        """
        if name == DEFAULT_EXCHANGE:
            return tuple(key for key in dict.fromkeys(keys) if key in self.queues)
        if name not in self.exchanges:
            return ()
        if name not in self._ways:  # none leads on to a second exchange
            return tuple(dict.fromkeys([b.destination for b in self.matched_at(name, keys, headers)]))
        queues = (b.destination for _, matched in self._walk(name, keys, headers) for b in matched if _to_queue(b))
        return tuple(dict.fromkeys(queues))

    def exchanges_within(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> tuple[str, ...]:
        """The exchanges that a message of the broker's own comes by, `name` first; arguments as for `route_within`."""
        return tuple(exchange for exchange, _ in self._walk(name, keys, headers)) if name in self.exchanges else ()

    def _walk(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> Iterator[tuple[str, list[Binding]]]:
        """Each exchange on the way once, and its bindings that take the message."""
        seen = {name}
        worklist = [name]
        while worklist:
            exchange = worklist.pop()
            matched = self.matched_at(exchange, keys, headers)
            yield exchange, matched
            ahead = [binding.destination for binding in matched if not _to_queue(binding)]
            alternate = self.exchanges[exchange].alternate
            if not matched and alternate is not None:
                ahead.append(alternate)
            for onward in ahead:
                if onward not in seen and onward in self.exchanges:
                    worklist.append(onward)
                seen.add(onward)

    def matched_at(self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]) -> list[Binding]:
        """The bindings of one exchange that take such a message; one may be listed twice."""
        matcher = self._matchers[exchange]
        if isinstance(matcher, ChoiceMatcher):
            matched = matcher.match(keys[0], headers)
            return [self.choose(self.exchanges[exchange], matched, keys)] if matched and self.choose else matched
        if len(keys) == 1 or isinstance(matcher, ConsistentHashMatcher):  # by the first key alone
            return matcher.match(keys[0], headers)
        return [binding for key in keys for binding in matcher.match(key, headers)]

    def tried_at(self, exchange: str) -> tuple[Binding, ...]:
        """Every binding of one exchange, as they are now."""
        listed = self._listed.get(exchange)
        if listed is None:
            listed = self._listed[exchange] = self.bindings_from(exchange)
        return listed

    def trace(self, message: Message) -> Trace:
        """As `route`, with every exchange on the way, every binding tried there, and why (not)."""
        self.check_publish(message.exchange)
        if message.expiration is not None:
            check_expiration(message.expiration)
        return trace_route(self, message)

    def dead_letters(
        self, queue: str, message: Message, reason: Reason, deaths: Deaths = (), keys: Sequence[str] | None = None
    ) -> DeadLettering:
        """Where `message` goes when it leaves `queue` for `reason`; arguments as of `dead_letters.follow`."""
        return follow(self, queue, message, reason, deaths, keys=keys)

    def _changed(self, exchange: str) -> None:
        self._listed.pop(exchange, None)
        if self._ways:
            self._routes.clear()
            self._header_bound.clear()
        else:
            self._routes.pop(exchange, None)

    def reads_headers(self, exchange: str) -> bool:
        """Whether the way from `exchange` may depend on headers; if not, none need be read."""
        return exchange in self._matchers and self._reads_headers(exchange)

    def _reads_headers(self, name: str) -> bool:
        """Whether a route from `name` may depend on headers: then it cannot be remembered under its key."""
        if name not in self._ways:
            return self._matchers[name].reads_headers
        reads = self._header_bound.get(name)
        if reads is None:
            reads = self._header_bound[name] = any(self._matchers[x].reads_headers for x in self._reach(name))
        return reads

    def _chooses(self, name: str) -> bool:
        """Whether a second message of the same key may go elsewhere."""
        if self.choose is None:
            return False
        return any(isinstance(self._matchers[exchange], ChoiceMatcher) for exchange in self._reach(name))

    def _reach(self, name: str) -> set[str]:
        """Every exchange that a message may come by from `name` on."""
        reached = {name}
        worklist = [name]
        while worklist:
            ahead = [x for x in self._ways.get(worklist.pop(), ()) if x not in reached and x in self.exchanges]
            reached.update(ahead)
            worklist += ahead
        return reached

    def _remember(self, exchange: str, routing_key: str, queues: tuple[str, ...]) -> None:
        if exchange == DEFAULT_EXCHANGE:
            return  # one lookup as it is, and queues come and go
        routes = self._routes.setdefault(exchange, {})
        if len(routes) >= MAX_CACHED_ROUTES:
            routes.clear()
        routes[routing_key] = queues


def _to_queue(binding: Binding) -> bool:
    return binding.destination_type == "queue"
