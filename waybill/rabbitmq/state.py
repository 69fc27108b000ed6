"""A vhost of a live broker as facts. The management API is sent GET requests only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from waybill.errors import BrokerUnavailable, TopologyError
from waybill.rabbitmq.management import LiveBinding, LiveConsumer, Management
from waybill.routing import Router
from waybill.topology import Exchange, Queue
from waybill.topology.declarations import Declarations
from waybill.topology.policies import Policies


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What exists in a vhost of the broker.

    Attributes:
        denied: the deprecated features that the broker denies.
        default_queue_type: what a queue without `x-queue-type` becomes.
        policies: the users' and the operators'.
        unread: what this user may not see of it.
        router: of what exists there.
    """

    vhost: str
    version: tuple[int, int]
    exchange_types: frozenset[str]
    denied: frozenset[str]
    permitted: frozenset[str]
    default_queue_type: str
    policies: Policies
    exchanges: Mapping[str, Exchange]
    queues: Mapping[str, Queue]
    messages: Mapping[str, int]
    bindings: tuple[LiveBinding, ...]
    consumers: tuple[LiveConsumer, ...]
    router: Router = field(default_factory=Router)
    unread: tuple[str, ...] = ()

    def empty_router(self) -> Router:
        """Of a vhost with the same rules in which nothing is declared yet.

        It takes the types of plugins that the broker hasn't, so that what else is wrong is found, too.
        """
        return Router(self.vhost, self.default_queue_type, self.policies)

    def with_declared(self, declared: Router) -> Router:
        """What the broker holds when it has been declared as well; what it refuses of that is left out."""
        held = Router.of(self.router.topology())
        for exchange in declared.exchanges.values():
            held.refusal(exchange, is_restored=True)  # holds what isn't refused
        for queue in declared.queues.values():
            held.refusal(queue, is_restored=True)
        for binding in declared.bindings:
            if held.refusal(binding) is None:
                held.bind(binding)
        return held

    def declarations(self) -> Declarations:
        """What exists there, as declarations to compare others with."""
        held = Declarations(self.vhost, self.default_queue_type, self.policies, self.exchange_types)
        held.exchanges.update(self.exchanges)
        held.queues.update(self.queues)
        return held


def facts_at(url: str, vhost: str) -> LiveFacts:
    """What exists in the vhost, as this management API says.

    Raises:
        BrokerUnavailable: as `live_facts`.
        InputError: it's not the URL of a management API.
    """
    with Management(url, vhost) as management:
        return live_facts(management, vhost)


def live_facts(management: Management, vhost: str) -> LiveFacts:
    """What exists in the vhost.

    Raises:
        BrokerUnavailable: it doesn't answer, or refuses, or answers something else than RabbitMQ would.
    """
    try:
        return _asked(management, vhost)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # What it said instead is not repeated: it knows the password.
        says = f"no {error} in its answer" if isinstance(error, KeyError) else type(error).__name__
        raise BrokerUnavailable(f"what answers at {management.address} is not RabbitMQ: {says}") from error


def _asked(management: Management, vhost: str) -> LiveFacts:
    overview = management.overview()
    version = version_of(str(overview["rabbitmq_version"]))
    states = management.deprecated_features()
    operators = management.operator_policies()
    policies = Policies(tuple(management.policies()), tuple(operators or ()))
    exchanges = {exchange.name: exchange for exchange in management.exchanges()}
    asked = management.queues()
    queues = {one.queue.name: one.queue for one in asked}
    bindings = tuple(one for one in management.bindings() if one.binding.source)
    default_queue_type = _queue_type(management.vhost().get("default_queue_type"))
    # What there is the broker has accepted: its own list of types says nothing against it.
    router = _router(Router(vhost, default_queue_type, policies), exchanges, queues, bindings)
    return LiveFacts(
        vhost=vhost,
        version=version,
        exchange_types=frozenset(kind["name"] for kind in overview["exchange_types"]),
        denied=frozenset(name for name, state in states.items() if state == "denied"),
        permitted=frozenset(name for name, state in states.items() if state == "permitted"),
        default_queue_type=default_queue_type,
        policies=policies,
        exchanges={name: policies.applied(one) for name, one in exchanges.items()},
        queues={name: policies.applied(one) for name, one in queues.items()},
        messages={one.queue.name: one.messages for one in asked},
        bindings=bindings,
        consumers=tuple(management.consumers()),
        router=router,
        unread=("operator policies, which this user may not see",) if operators is None else (),
    )


def _router(
    router: Router,
    exchanges: Mapping[str, Exchange],
    queues: Mapping[str, Queue],
    bindings: Iterable[LiveBinding],
) -> Router:
    """The live topology; what the engine doesn't know, such as a plugin's queue type, is left out."""
    for exchange in exchanges.values():
        with suppress(TopologyError):
            router.declare_exchange(exchange, is_restored=True)
    for queue in queues.values():
        with suppress(TopologyError):
            router.declare_queue(queue, is_restored=True)
    for one in bindings:
        with suppress(TopologyError):
            router.bind(one.binding)
    return router


def version_of(text: str) -> tuple[int, int]:
    """`4.3.6` or `4.3` as (4, 3).

    Raises:
        ValueError: it doesn't begin with two numbers.
    """
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"expected a version such as 4.3, got {text!r}")
    return int(found[1]), int(found[2])


def _queue_type(given: object) -> str:
    return given if given in ("classic", "quorum", "stream") else "classic"
