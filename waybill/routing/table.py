"""A vhost that changes: exchanges, queues and bindings that come and go, as RabbitMQ lets them.

- Declaring or binding the same twice changes nothing; unbinding what isn't bound is no error.
- A queue or an exchange that goes takes its bindings with it (rabbit_binding.erl).
- An auto-delete exchange goes with the last binding *from* it, and takes those to it along.

Each binding stands in its source's matcher and under its destination, so that deleting a queue touches only
the bindings that lead to it.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from waybill.errors import TopologyError
from waybill.matching import Matcher, matcher_for
from waybill.topology import DEFAULT_VHOST, PREDECLARED, Binding, Exchange, Topology
from waybill.topology.declarations import Declarations, refuse_default_exchange
from waybill.topology.policies import NO_POLICIES, Policies


class RoutingTable(Declarations):
    """A vhost's exchanges, queues and bindings, ready to be matched."""

    def __init__(
        self,
        vhost: str = DEFAULT_VHOST,
        default_queue_type: str = "classic",
        policies: Policies = NO_POLICIES,
        exchange_types: Set[str] | None = None,
    ) -> None:
        super().__init__(vhost, default_queue_type, policies, exchange_types)
        self._matchers: dict[str, Matcher] = {name: matcher_for(x) for name, x in PREDECLARED.items()}
        self._held: dict[Binding, int] = {}  # and in which turn it was made
        self._turn = 0
        self._into: dict[tuple[str, str], dict[Binding, None]] = {}
        self._out_of: dict[str, int] = {}
        self._ways: dict[str, dict[str, int]] = {}  # from exchange to exchange: bindings and alternates, counted
        for name in PREDECLARED:
            self._open_alternate(name)

    # -- what is held ------------------------------------------------------------

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Every binding, in the order they were made; the default exchange's are implied, not listed."""
        return tuple(self._held)

    def bindings_from(self, exchange: str) -> tuple[Binding, ...]:
        """The bindings whose source is `exchange`, in the order they were made."""
        matcher = self._matchers.get(exchange)
        return () if matcher is None else tuple(sorted(matcher, key=self._held.__getitem__))

    def bindings_to(self, destination: str, kind: str = "queue") -> tuple[Binding, ...]:
        """The bindings that lead to a queue, or with `kind="exchange"` to an exchange."""
        return tuple(self._into.get((kind, destination), ()))

    def is_in_use(self, exchange: str) -> bool:
        """Whether a binding has `exchange` for its source: then `if-unused` keeps it from being deleted."""
        return self._out_of.get(exchange, 0) > 0

    def topology(self) -> Topology:
        """What is held at this moment, as a value."""
        declared = (exchange for name, exchange in self.exchanges.items() if name not in PREDECLARED)
        return Topology(declared, self.queues.values(), self._held, self.vhost, self.default_queue_type, self.policies)

    # -- changing it ------------------------------------------------------------

    def declare_exchange(self, exchange: Exchange, *, is_restored: bool = False) -> bool:
        """Declare an exchange, or find the same one declared; see `Declarations.declare_exchange`."""
        is_new = super().declare_exchange(exchange, is_restored=is_restored)
        if is_new:
            self._matchers[exchange.name] = matcher_for(exchange)
            self._open_alternate(exchange.name)
            self._changed(exchange.name)
        return is_new

    def bind(self, binding: Binding) -> bool:
        """Make a binding; one that is there already stays as it is.

        Returns:
            Whether it is new.

        Raises:
            TopologyError: 403, 404, 406, as RabbitMQ answers.
        """
        if binding in self._held:
            return False
        self.check_binding(binding)
        self._turn += 1
        self._held[binding] = self._turn
        self._matchers[binding.source].add(binding)
        self._into.setdefault((binding.destination_type, binding.destination), {})[binding] = None
        self._out_of[binding.source] = self._out_of.get(binding.source, 0) + 1
        if binding.destination_type == "exchange":
            self._open_way(binding.source, binding.destination)
        self._changed(binding.source)
        return True

    def unbind(self, binding: Binding) -> tuple[str, ...]:
        """Take a binding away; one that isn't there is no error.

        Returns:
            The auto-delete exchanges that went with it, having lost their last binding.

        Raises:
            TopologyError: 403 for the default exchange.
        """
        self.check_ends(binding)
        if binding not in self._held:
            return ()
        self._remove(binding)
        return self._auto_delete([binding.source])

    def delete_queue(self, name: str) -> tuple[str, ...]:
        """Delete a queue and the bindings to it; a queue that doesn't exist is no error.

        Returns:
            The auto-delete exchanges that went with it.
        """
        if self.queues.pop(name, None) is None:
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
        where = self.named("exchange", name)
        if name.startswith("amq."):
            raise TopologyError(403, f"deletion of system {where} not allowed")
        if name not in self.exchanges:
            return ()
        if if_unused and self.is_in_use(name):
            raise TopologyError(406, f"{where} in use")
        return self._auto_delete(self._delete_exchange(name))

    def set_policies(self, policies: Policies) -> None:
        """Let other policies hold, for what is declared already as well."""
        self.policies = policies
        for name, queue in self.queues.items():
            self.queues[name] = replace(queue, policy=policies.setting_for(queue))
        for name, exchange in self.exchanges.items():
            if exchange.alternate is not None:
                self._close_way(name, exchange.alternate)
            self.exchanges[name] = replace(exchange, policy=policies.setting_for(exchange))
            self._open_alternate(name)
            self._changed(name)

    def _delete_exchange(self, name: str) -> list[str]:
        for binding in tuple(self._matchers[name]):
            self._remove(binding)
        sources = self._remove_into("exchange", name)
        exchange = self.exchanges.pop(name)
        del self._matchers[name]
        self._changed(name)
        if exchange.alternate is not None:
            self._close_way(name, exchange.alternate)
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
        self._changed(binding.source)
        if binding.destination_type == "exchange":
            self._close_way(binding.source, binding.destination)

    def _auto_delete(self, sources: list[str]) -> tuple[str, ...]:
        gone: list[str] = []
        while sources:
            exchange = self.exchanges.get(sources.pop())
            if exchange is not None and exchange.auto_delete and not self.is_in_use(exchange.name):
                gone.append(exchange.name)
                sources += self._delete_exchange(exchange.name)
        return tuple(gone)

    def _open_alternate(self, name: str) -> None:
        alternate = self.exchanges[name].alternate
        if alternate is not None:
            self._open_way(name, alternate)

    def _open_way(self, source: str, destination: str) -> None:
        ways = self._ways.setdefault(source, {})
        ways[destination] = ways.get(destination, 0) + 1

    def _close_way(self, source: str, destination: str) -> None:
        ways = self._ways[source]
        ways[destination] -= 1
        if not ways[destination]:
            del ways[destination]
        if not ways:
            del self._ways[source]

    def _changed(self, exchange: str) -> None:
        """Called after each change that may alter a route through `exchange`."""
