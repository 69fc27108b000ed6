"""Where a lesson plays: a way to note what Celery publishes, and to show who received what."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import IO, Any

from celery.result import AsyncResult
from kombu import Exchange, Queue
from rich.markup import escape

from exchanges.plugins import PLUGINS
from publishers.support import results
from publishers.support.recorder import published
from publishers.support.summary import Tally
from waybill.celery_app.declared import from_celery
from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.celery_app.publication import Publication, message_of
from waybill.cli.terminal import echo, err, out
from waybill.routing import Router
from waybill.routing.walk import Trace
from waybill.testing.delivery import Delivery
from waybill.testing.prediction import differences
from waybill.testing.watch import Watch
from waybill.testing.workers import Zygote
from worker.app import app

# Columns of what was done, before the arrow: as wide as an exchange and a key in the lines of `show`.
WIDTH = 43


class Stage:
    """Where a lesson plays: publish through it, then `show` who received what.

    Attributes:
        watch: sees the receipts.
        router: the declarations, and what a lesson changes in them; the predictions come from it.
        lost: the messages that were returned.
        surprises: messages that went otherwise than predicted.
        tally: how much was shown, and how much of it was as predicted.
        skipped: why a lesson was left out, or a part of one.
        missing_types: exchange types that this broker doesn't know.
        environment: the variables with which a worker uses the same broker and result backend.
        zygote: who starts workers; None where the workers that already run are used.
    """

    def __init__(
        self,
        watch: Watch,
        missing_types: set[str],
        is_json: bool,
        environment: Mapping[str, str] = MappingProxyType({}),
        zygote: Zygote | None = None,
        record: IO[str] | None = None,
    ) -> None:
        self.watch = watch
        self.environment = environment
        self.zygote = zygote
        self.router = Router.of(from_celery(app))
        self.lost: list[Publication] = []
        self.surprises: list[str] = []
        self.tally = Tally()
        self.skipped: list[str] = []
        self.missing_types = missing_types
        self._is_json = is_json
        self._record = record
        self._labels: dict[str, str] = {}
        self._predicted: dict[str, Trace] = {}
        self._late: dict[str, set[str]] = defaultdict(set)
        self._last = ""

    @contextmanager
    def recording(self, label: str = "") -> Iterator[None]:
        """Note what Celery publishes within the block, for `show`, and whether the broker returns it.

        Args:
            label: what to show for the message instead of its routing key.
        """
        with published() as sent:
            yield
        for one in sent:
            self.follow(one, label)

    def follow(self, sent: Publication, label: str = "") -> None:
        """Show a message that was published while nothing recorded; `label` as for `recording`."""
        self.watch.follow(sent)
        self._predicted[sent.task_id] = self.router.trace(message_of(sent))
        self._labels[sent.task_id] = label
        self._last = sent.task_id

    def expect_late(self, queue: Queue) -> None:
        """A queue is bound after the last publication, and gets a copy of it from the exchange's history."""
        self._late[self._last].add(queue.name)

    def say(self, text: str) -> None:
        """A line for people; nothing with --json."""
        if not self._is_json:
            out.print(f"  [dim]{escape(text)}[/dim]")

    def tell(self, what: str, happened: str, **facts: Any) -> None:
        """Print one line of a lesson that is about more than who received what.

        Args:
            what: what was done, `happened` what came of it.
            facts: what `--json` prints beside them.
        """
        self._note({"what": what, "happened": happened, **facts})
        if not self._is_json:
            out.print(f"  {escape(what):<{WIDTH}} → {escape(happened)}")
        self.tally.statements += 1

    def _note(self, happened: Mapping[str, Any]) -> None:
        """One JSON object, for whoever asked for them."""
        line = json.dumps(happened)
        if self._is_json:
            echo(line)
        if self._record is not None:
            self._record.write(f"{line}\n")

    def places(self, *tasks: AsyncResult) -> dict[str, str]:
        """Task id -> where it ran, as `worker (queue)`, once the watch has proven that all receipts are here."""
        received = self.watch.receipts_of(task.id for task in tasks)
        return {task_id: ", ".join(receipt.place for receipt in receipts) for task_id, receipts in received.items()}

    def show(self, order: Callable[[Delivery], Any] | None = None) -> tuple[Delivery, ...]:
        """Wait until it's known who received what was published since the last call, and print it.

        Args:
            order: a sort key; without it in the order of publishing.
        """
        deliveries = self.watch.settle()
        for delivery in sorted(deliveries, key=order) if order else deliveries:
            sent = delivery.publication
            predicted, late = self._predicted.pop(sent.task_id), self._late.pop(sent.task_id, set())
            wrong = differences(self.router, predicted, delivery, self.watch.consumers_by_worker, late)
            self._note({**delivery.to_dict(), "predicted": [*predicted.queues, *late]})
            if not self._is_json:
                self._print(delivery, predicted, wrong)
            self.tally.messages += 1
            self.tally.predicted += not wrong
            if sent.is_returned:
                self.lost.append(sent)
                self.tally.returned += not wrong
            if wrong:
                self.surprises.append(f"{sent.exchange} {sent.routing_key}: {', '.join(wrong)}")
        return deliveries

    def workers_of(self, queue: Queue) -> list[str]:
        """The node names of the workers that consume this queue."""
        return sorted(worker for worker, queues in self.watch.consumers_by_worker.items() if queue.name in queues)

    def serves(self, queues: Iterable[Queue]) -> bool:
        """Return whether workers consume all of these queues; report a skip if not."""
        missing = [queue.name for queue in queues if not self.workers_of(queue)]
        if missing:
            self._skip(f"no worker consumes {', '.join(missing)}")
        return not missing

    def lacks(self, exchange: Exchange) -> bool:
        """Return whether the broker lacks this type of exchange; report a skip if so."""
        if exchange.type not in self.missing_types:
            return False
        brings = f"`rabbitmq-plugins enable {PLUGINS[exchange.type]}`" if exchange.type in PLUGINS else "RabbitMQ"
        self._skip(f"this broker has no exchange type {exchange.type!r}; {brings} brings it")
        return True

    def knows_results(self) -> bool:
        """Return whether the workers' result backend is known; report a skip if not."""
        if not app.conf.result_backend:
            self._skip(f"this lesson reads results, and {results.VARIABLE} is not set")
        return bool(app.conf.result_backend)

    def speaks_amqp(self) -> bool:
        """Return whether the broker speaks AMQP, not as Redis by a virtual transport of Kombu; report a skip if not."""
        driver = self.watch.connection.transport.driver_type
        if driver != "amqp":
            self._skip(f"this lesson needs AMQP, and this broker is {driver}")
        return bool(driver == "amqp")

    def _skip(self, why: str) -> None:
        self.skipped.append(why)
        err.print(f"skipped: {why}", style="yellow")

    def _print(self, delivery: Delivery, predicted: Trace, wrong: Sequence[str]) -> None:
        sent = delivery.publication
        what = self._labels.pop(sent.task_id, "") or sent.routing_key
        if sent.priority:
            what = f"{what} priority={sent.priority}"
        where = f"  {escape(sent.exchange or '(default)'):<14} {escape(what):<28}"
        foretold = ", ".join(predicted.queues) or "returned"
        verdict = (
            f"\n  [bold red]✗ mismatch[/] (predicted {foretold}): {', '.join(wrong)}"
            if wrong
            else "[dim]  ✓ as predicted[/]"
        )
        out.print(f"{where} → {_receivers(delivery, predicted, self._consumed())}{verdict}")

    def _consumed(self) -> set[str]:
        return {queue for queues in self.watch.consumers_by_worker.values() for queue in queues}


def _receivers(delivery: Delivery, predicted: Trace, consumed: Collection[str]) -> str:
    """The workers and their queues, those of a Broadcast together, and the queues where a copy waits for nobody."""
    # Arrival tells nothing between workers, so they are shown by name; a dead letter comes after its first delivery.
    received = sorted(
        (one for one in delivery.received if not one.queue.startswith(BROADCAST_PREFIX)),
        key=lambda one: (one.exchange != delivery.publication.exchange, one.worker_name),
    )
    own = sorted(one.worker_name for one in delivery.received if one.queue.startswith(BROADCAST_PREFIX))
    shown = [
        f"[bold green]{one.worker_name}[/] ({one.queue}){', no such task: discarded' * one.is_discarded}"
        for one in received
    ]
    if own:
        shown.append(f"[bold green]{' '.join(own)}[/] ({len(own)} workers, each by its own {BROADCAST_PREFIX}<uuid>)")
    if predicted.is_certain:
        shown += [
            f"[yellow]nobody[/] ({queue}: no worker consumes it)"
            for queue in predicted.queues
            if queue not in consumed and not (own and queue.startswith(BROADCAST_PREFIX))
        ]
    if delivery.publication.is_returned:
        shown.append("[bold red]returned[/]: no queue took it")
    return ", ".join(shown) or "[yellow]nobody[/]: no worker consumes a queue that it reached"
