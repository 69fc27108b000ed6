"""Why an assertion about queues fails: the engine's reason for each queue that is missing or not expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from difflib import get_close_matches

from waybill.celery_app.declared import record
from waybill.celery_app.installed import DELAYED_DELIVERY_EXCHANGE
from waybill.celery_app.names import MARKER, is_delayed
from waybill.celery_app.publication import Publication, message_of
from waybill.cli.rendering import trace_node, tree
from waybill.errors import WaybillError
from waybill.routing import Router
from waybill.routing.walk import Trace
from waybill.testing.delivery import ByName, Queues, discarded_by
from waybill.testing.watch import Watch
from waybill.topology import DEFAULT_EXCHANGE, DEFAULT_VHOST, Message
from waybill.topology.text import binding_label, exchange_name

# Publications whose trees are drawn; a test may have published many.
MAX_TREES = 3

# A worker's or a task's name, or none, and a queue.
Pair = tuple[str, str]


def explained(watch: Watch, left: object, right: object) -> list[str] | None:
    """The lines that pytest shows in place of its own; None where it isn't ours to say."""
    ours, expected = (left, right) if isinstance(left, Queues | ByName) else (right, left)
    if not isinstance(ours, Queues | ByName) or not isinstance(expected, Set | Mapping):
        return None
    reasons = _Reasons(watch, ours)
    found, wanted = set(_pairs(ours, reasons.keyed_by)), set(_pairs(expected, reasons.keyed_by))
    return [
        f"{_shown(left)} == {_shown(right)}",
        *(f"missing: {_place(pair)}: {reasons.missing(pair)}" for pair in sorted(wanted - found)),
        *(f"not expected: {_place(pair)}: {reasons.unexpected(pair)}" for pair in sorted(found - wanted)),
        *(f"discarded: {discarded_by(one)}" for one in reasons.receipts if one.is_discarded and one.task != MARKER),
        *reasons.trees(),
    ]


def _shown(value: object) -> str:
    """A value as Python would show it, with names in their order."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name!r}: {_shown(value[name])}' for name in sorted(value, key=str))}}}"
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(map(repr, value)))}}}" if value else "set()"
    return repr(value)


def _place(pair: Pair) -> str:
    return f"{pair[0]} from {pair[1]}" if pair[0] and pair[1] else pair[0] or pair[1]


def _pairs(value: object, keyed_by: str) -> Iterator[Pair]:
    if not isinstance(value, Mapping):
        assert isinstance(value, Iterable)
        yield from (("", str(queue)) for queue in value)
        return
    for name, given in value.items():
        values = [given] if isinstance(given, str) else list(given)
        yield from ((str(one), str(name)) if keyed_by == "queue" else (str(name), str(one)) for one in values or [""])


class _Reasons:
    """The reasons for one comparison.

    Args:
        ours: what was seen.
    """

    def __init__(self, watch: Watch, ours: Queues | ByName) -> None:
        self.keyed_by = ours.keyed_by if isinstance(ours, ByName) else ""
        self.receipts = ours.receipts
        self._publications = ours.publications
        self._consumers = watch.consumers_by_worker
        try:
            self._router = Router.of(record(watch.app).topology(DEFAULT_VHOST))
        except WaybillError:
            self._router = Router()

    def missing(self, pair: Pair) -> str:
        """Why it was not received from there."""
        name, queue = pair
        sent = self._of(name)
        if not sent:
            return "this process published no such task"
        if not queue:
            return "it was received from no queue"
        if any(one.queue == queue and one.is_discarded and self._is_of(one.task, name) for one in self.receipts):
            return "it was thrown away there"
        if not any(queue in trace.queues for trace in self._traces(sent)):
            return "; ".join(dict.fromkeys(self._why_not(trace, queue) for trace in self._traces(sent)))
        return self._why_lost(name, queue, sent)

    def _why_lost(self, name: str, queue: str, sent: Iterable[Publication]) -> str:
        """Why a message that is routed to a queue was not received from there, or not by this worker."""
        consumers = [worker.partition("@")[0] for worker, queues in self._consumers.items() if queue in queues]
        if all(is_delayed(one.exchange) for one in sent):
            return "RabbitMQ keeps it until its countdown has passed, and routes it there then"
        if self.keyed_by in ("worker", "queue") and consumers and name not in consumers:
            return f"it is routed there, and {name} doesn't consume it; {', '.join(consumers)} does"
        return "it is routed there" + (
            f", and consumed by {', '.join(consumers)}" if consumers else ", and no worker of this test consumes it"
        )

    def unexpected(self, pair: Pair) -> str:
        """Why it was received from there."""
        name, queue = pair
        deaths = {
            one.death for one in self.receipts if one.queue == queue and one.death and self._is_of(one.task, name)
        }
        if deaths:
            return "; ".join(f"a dead letter, {reason} in {where}" for reason, where in sorted(deaths))
        found = dict.fromkeys(why for trace in self._traces(self._of(name)) if (why := _why(trace, queue)))
        return "; ".join(found) or "nothing that the application declares leads there"

    def trees(self) -> Iterator[str]:
        """The ways of what was published."""
        shown: dict[tuple[str, str, str], Trace] = {}
        for one, trace in zip(self._publications, self._traces(self._publications), strict=False):
            shown.setdefault((one.task, one.exchange, one.routing_key), trace)
        for (task, _, key), trace in list(shown.items())[:MAX_TREES]:
            yield ""
            yield f"{task} was published with the routing key `{key}`:"
            yield from tree(trace_node(trace)).splitlines()
        if len(shown) > MAX_TREES:
            yield f"and {len(shown) - MAX_TREES} publications more"

    def _is_of(self, task: str, name: str) -> bool:
        return self.keyed_by != "task" or task == name

    def _of(self, name: str) -> list[Publication]:
        return [one for one in self._publications if self._is_of(one.task, name)]

    def _traces(self, sent: Iterable[Publication]) -> list[Trace]:
        known = [one for one in sent if one.exchange in self._router.exchanges or one.exchange == DEFAULT_EXCHANGE]
        return [self._trace(message_of(one)) for one in known]

    def _trace(self, message: Message) -> Trace:
        """The way of a message; where RabbitMQ keeps it for its countdown, its way after that."""
        if not is_delayed(message.exchange):
            return self._router.trace(message)
        trace = self._router.trace(replace(message, exchange=DELAYED_DELIVERY_EXCHANGE))
        return replace(trace, root=replace(trace.root, reached_by="after the delay"))

    def _why_not(self, trace: Trace, queue: str) -> str:
        if queue not in self._router.queues:
            near = get_close_matches(queue, sorted(self._router.queues), n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            return f"the application declares no such queue{hint}"
        if dying := [
            one for one in trace.queues if queue in self._router.dead_letters(one, trace.message, "rejected").queues
        ]:
            return (
                f"only dead letters of {', '.join(dying)} go there, and none was seen: a task that is acknowledged "
                "before it runs (acks_late is off) leaves none"
            )
        tried = [
            f"{binding_label(attempt.binding, visit.type)} of {exchange_name(visit.exchange)}: {attempt.reason}"
            for visit in trace.visits()
            for attempt in visit.attempts
            if attempt.binding.destination == queue
        ]
        return "; ".join(tried) or f"no binding leads there from {exchange_name(trace.root.exchange)}"


def _why(trace: Trace, queue: str) -> str:
    matched = [
        f"{binding_label(attempt.binding, visit.type)} of {exchange_name(visit.exchange)}: {attempt.reason}"
        for visit in trace.visits()
        for attempt in visit.matched
        if attempt.binding.destination == queue
    ]
    return "; ".join(matched)
