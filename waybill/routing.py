"""Where a message goes: from the exchange it is published to, over every binding that matches, to the queues.

The walk is RabbitMQ's (rabbit_exchange.erl, `route1`): a worklist of exchanges and the set of those seen.

1. The default exchange `''` takes each routing key for a queue's name, and that is all it does.
2. Any other exchange is asked for its matching bindings. Queues are collected, each once; exchanges not seen
   before join the worklist, so that cycles end.
3. Where nothing matched, not even a binding to an exchange that leads nowhere, the alternate exchange joins
   instead. One that doesn't exist is as none, and so is `''`, for the default exchange holds no bindings.
4. A message has its routing key and those in its headers `CC` and `BCC`, each tried like the first.

A publish is refused as RabbitMQ refuses it: 404 for an exchange that doesn't exist, 403 for an internal one, 406
for a `CC` or `BCC` that is no array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from waybill.declarations import Declarations, refuse_default_exchange
from waybill.errors import TopologyError
from waybill.fields import EMPTY
from waybill.matching import Matcher, matcher_for
from waybill.publishing import check_expiration, routing_keys
from waybill.topology import (
    DEFAULT_EXCHANGE,
    DEFAULT_VHOST,
    PREDECLARED,
    Binding,
    Exchange,
    Message,
    Queue,
    Topology,
)

MAX_CACHED_ROUTES = 32_768
"""Routes remembered for one exchange, some 8 MB of them; keys that never repeat must not fill the memory."""


class Router:
    """A vhost's exchanges, queues and bindings, which may change, and the way of every message through them.

    Args:
        vhost: its name, for the refusals' sentences.
    """

    def __init__(self, vhost: str = DEFAULT_VHOST) -> None:
        self._declared = Declarations(vhost)
        self._matchers: dict[str, Matcher] = {name: matcher_for(x) for name, x in PREDECLARED.items()}
        self._held: dict[Binding, None] = {}
        self._into: dict[tuple[str, str], dict[Binding, None]] = {}
        self._out_of: dict[str, int] = {}
        self._links = 0
        self._routes: dict[str, dict[str, tuple[str, ...]]] = {}

    @classmethod
    def of(cls, topology: Topology) -> Router:
        """A router that holds what `topology` holds."""
        router = cls(topology.vhost)
        for exchange in topology.exchanges:
            router.declare_exchange(exchange, is_restored=True)
        for queue in topology.queues:
            router.declare_queue(queue, is_restored=True)
        for binding in topology.bindings:
            router.bind(binding)
        return router

    # -- what is held ------------------------------------------------------------------------------------------

    @property
    def vhost(self) -> str:
        """The vhost's name."""
        return self._declared.vhost

    @property
    def exchanges(self) -> Mapping[str, Exchange]:
        """Every exchange by name, predeclared ones included."""
        return self._declared.exchanges

    @property
    def queues(self) -> Mapping[str, Queue]:
        """Every queue by name."""
        return self._declared.queues

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Every binding, in the order they were made; the default exchange's are implied, not listed."""
        return tuple(self._held)

    def bindings_from(self, exchange: str) -> tuple[Binding, ...]:
        """The bindings whose source is `exchange`."""
        matcher = self._matchers.get(exchange)
        return () if matcher is None else tuple(matcher)

    def bindings_to(self, destination: str, kind: str = "queue") -> tuple[Binding, ...]:
        """The bindings that lead to a queue, or with `kind="exchange"` to an exchange."""
        return tuple(self._into.get((kind, destination), ()))

    def is_in_use(self, exchange: str) -> bool:
        """Whether a binding has `exchange` for its source: then `if-unused` keeps it from being deleted."""
        return self._out_of.get(exchange, 0) > 0

    def topology(self) -> Topology:
        """What is held at this moment, as a value."""
        declared = (exchange for name, exchange in self.exchanges.items() if name not in PREDECLARED)
        return Topology(declared, self.queues.values(), self._held, self.vhost)

    # -- changing it -------------------------------------------------------------------------------------------

    def declare_exchange(self, exchange: Exchange, *, is_restored: bool = False) -> bool:
        """Declare an exchange, or find the same one declared; see `Declarations.declare_exchange`."""
        is_new = exchange.name not in self.exchanges
        self._declared.declare_exchange(exchange, is_restored=is_restored)
        if is_new:
            self._matchers[exchange.name] = matcher_for(exchange)
            self._links += exchange.alternate is not None
            self._forget(exchange.name)
        return is_new

    def declare_queue(self, queue: Queue, *, is_restored: bool = False) -> bool:
        """Declare a queue, or find the same one declared; see `Declarations.declare_queue`."""
        return self._declared.declare_queue(queue, is_restored=is_restored)

    def bind(self, binding: Binding) -> bool:
        """Make a binding; one that is there already stays as it is.

        Returns:
            Whether it is new.

        Raises:
            TopologyError: 403, 404, 406, as RabbitMQ answers.
        """
        if binding in self._held:
            return False
        self._declared.check_binding(binding)
        self._held[binding] = None
        self._matchers[binding.source].add(binding)
        self._into.setdefault((binding.destination_type, binding.destination), {})[binding] = None
        self._out_of[binding.source] = self._out_of.get(binding.source, 0) + 1
        self._links += binding.destination_type == "exchange"
        self._forget(binding.source)
        return True

    def unbind(self, binding: Binding) -> tuple[str, ...]:
        """Take a binding away; one that isn't there is no error.

        Returns:
            The auto-delete exchanges that went with it, having lost their last binding.

        Raises:
            TopologyError: 403 for the default exchange.
        """
        self._declared.check_ends(binding)
        if binding not in self._held:
            return ()
        self._remove(binding)
        return self._auto_delete([binding.source])

    def delete_queue(self, name: str) -> tuple[str, ...]:
        """Delete a queue and the bindings to it; a queue that doesn't exist is no error.

        Returns:
            The auto-delete exchanges that went with it.
        """
        if self._declared.queues.pop(name, None) is None:
            return ()
        return self._auto_delete(self._remove_into("queue", name))

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> tuple[str, ...]:
        """Delete an exchange and the bindings from and to it; one that doesn't exist is no error.

        Returns:
            The auto-delete exchanges that went with it.

        Raises:
            TopologyError: 403 for the default exchange and the `amq.` ones, 406 when `if_unused` and in use.
        """
        refuse_default_exchange(name)
        where = self._declared.named("exchange", name)
        if name.startswith("amq."):
            raise TopologyError(403, f"deletion of system {where} not allowed")
        if name not in self.exchanges:
            return ()
        if if_unused and self.is_in_use(name):
            raise TopologyError(406, f"{where} in use")
        return self._auto_delete(self._delete_exchange(name))

    def _delete_exchange(self, name: str) -> list[str]:
        for binding in tuple(self._matchers[name]):
            self._remove(binding)
        sources = self._remove_into("exchange", name)
        exchange = self._declared.exchanges.pop(name)
        del self._matchers[name]
        self._forget(name)
        self._links -= exchange.alternate is not None
        return sources

    def _remove_into(self, kind: str, name: str) -> list[str]:
        bindings = tuple(self._into.get((kind, name), ()))
        for binding in bindings:
            self._remove(binding)
        return [binding.source for binding in bindings]

    def _remove(self, binding: Binding) -> None:
        del self._held[binding]
        self._matchers[binding.source].remove(binding)
        end = (binding.destination_type, binding.destination)
        del self._into[end][binding]
        if not self._into[end]:
            del self._into[end]
        self._out_of[binding.source] -= 1
        self._forget(binding.source)
        self._links -= binding.destination_type == "exchange"

    def _auto_delete(self, sources: list[str]) -> tuple[str, ...]:
        gone: list[str] = []
        while sources:
            exchange = self.exchanges.get(sources.pop())
            if exchange is not None and exchange.auto_delete and not self.is_in_use(exchange.name):
                gone.append(exchange.name)
                sources += self._delete_exchange(exchange.name)
        return tuple(gone)

    def _forget(self, exchange: str) -> None:
        """Drop the remembered routes that a change at `exchange` may have changed."""
        if self._links:
            self._routes.clear()
        else:
            self._routes.pop(exchange, None)

    # -- routing -----------------------------------------------------------------------------------------------

    def route(self, message: Message) -> tuple[str, ...]:
        """The queues that a publication reaches, each once; empty where it is unroutable.

        Raises:
            TopologyError: the publication is refused: 404, 403 or 406, as RabbitMQ answers.
        """
        if message.expiration is not None:
            check_expiration(message.expiration)
        return self.route_key(message.exchange, message.routing_key, message.headers)

    def route_key(
        self, exchange: str, routing_key: str, headers: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """As `route`, for those who publish often: no message need be built."""
        if not headers or ("CC" not in headers and "BCC" not in headers):
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
        if len(keys) == 1 and not self._reads_headers(name):
            self._remember(name, routing_key, queues)
        return queues

    def check_publish(self, exchange: str) -> None:
        """Refuse a client's publication to an exchange that doesn't exist (404) or is internal (403)."""
        found = self.exchanges.get(exchange)
        if found is None:
            self._declared.refuse_missing("exchange", exchange)
        if found.internal:
            where = self._declared.named("exchange", exchange)
            raise TopologyError(403, f"cannot publish to internal {where}")

    def route_within(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> tuple[str, ...]:
        """As the broker itself routes, a dead letter for one: internal exchanges take it, a missing one loses it.

        Args:
            keys: all its routing keys, the first one first.
        """
        if name == DEFAULT_EXCHANGE:
            return tuple(key for key in dict.fromkeys(keys) if key in self._declared.queues)
        queues: dict[str, None] = {}
        seen = {name}
        worklist = [name] if name in self.exchanges else []
        while worklist:
            exchange = worklist.pop()
            for kind, destination in self._destinations(exchange, keys, headers):
                if kind == "queue":
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    if destination in self.exchanges:
                        worklist.append(destination)
        return tuple(queues)

    def _destinations(
        self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        matcher = self._matchers[exchange]
        is_matched = False
        for key in keys:
            for binding in matcher.match(key, headers):
                is_matched = True
                yield binding.destination_type, binding.destination
        alternate = self.exchanges[exchange].alternate
        if not is_matched and alternate is not None:
            yield "exchange", alternate

    def reads_headers(self, exchange: str) -> bool:
        """Whether the way from `exchange`, should it exist, may depend on headers: if not, none need be decoded."""
        return exchange in self._matchers and self._reads_headers(exchange)

    def _reads_headers(self, name: str) -> bool:
        """Whether a route from `name` may depend on headers: then it cannot be remembered under its key."""
        if not self._links:
            return self._matchers[name].reads_headers
        return any(matcher.reads_headers for matcher in self._matchers.values())

    def _remember(self, exchange: str, routing_key: str, queues: tuple[str, ...]) -> None:
        if exchange == DEFAULT_EXCHANGE:
            return  # one lookup as it is, and queues come and go
        routes = self._routes.setdefault(exchange, {})
        if len(routes) >= MAX_CACHED_ROUTES:
            routes.clear()
        routes[routing_key] = queues
