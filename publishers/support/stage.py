"""What the lessons share: a broker, workers, and a way to publish and to show who received what.

A lesson is a function of a `Stage`. `publisher` makes a program of it: with the URL of a broker it uses the workers
that run there; without one it brings up a broker and the workers that the lesson needs, and takes them down again.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import click
from celery.result import AsyncResult
from kombu import Exchange, Queue
from rich.markup import escape

import exchanges
from exchanges.plugins import PLUGINS
from publishers.support import results
from publishers.support.recorder import published
from publishers.support.summary import Tally
from waybill.celery_app.declared import from_celery
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet, Worker
from waybill.celery_app.names import BROADCAST_PREFIX, worker_name
from waybill.celery_app.publication import Publication, message_of
from waybill.cli.ending import ending
from waybill.cli.status import status
from waybill.cli.terminal import echo, err, out, print_error
from waybill.errors import EXIT_FINDINGS, EXIT_OK
from waybill.routing import Router
from waybill.routing.walk import Trace
from waybill.testing import brokers
from waybill.testing.prediction import differences
from waybill.testing.watch import Delivery, Watch
from waybill.testing.workers import LocalWorkers, Zygote
from worker.app import app

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"

BROKERS = {brokers.EMBEDDED: "the embedded broker", brokers.DOCKER: "RabbitMQ in a container"}

# Seconds in which the stage is left after a signal, before the program ends where it stands. Nothing on the embedded
# broker outlives us; any other broker gets back what a lesson has changed there, and a container has to be stopped.
HASTE, PATIENCE = 1.0, 20.0

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


def names(queues: Iterable[Queue]) -> set[str]:
    """The queues' names as `-Q` gives them: a Broadcast by the name of its exchange."""
    return {queue.alias or queue.name for queue in queues}


@contextmanager
def open_stage(
    broker: str,
    needs: Iterable[Queue],
    is_json: bool,
    is_tour: bool = False,
    needs_results: bool = False,
    record: IO[str] | None = None,
) -> Iterator[Stage]:
    """A stage on this broker.

    Args:
        broker: `embedded`, `docker` or a URL.
        needs: the queues whose workers are needed.
        is_tour: also start the fleet on a running broker when no worker answers on it.
        needs_results: refuse a broker whose workers keep their results nobody knows where.
        record: where to write what `--json` prints, in any case.
    """
    is_ours = broker in (brokers.EMBEDDED, brokers.DOCKER)
    with ExitStack() as stack:
        stack.enter_context(ending.time_limit(HASTE if broker == brokers.EMBEDDED else PATIENCE))
        zygote = stack.enter_context(Zygote()) if is_ours else None  # it loads Celery while the broker starts
        with status.working(f"{'starting' if is_ours else 'connecting to'} {title(broker)}"):
            address = stack.enter_context(brokers.broker(broker))
            stack.enter_context(brokers.use_broker(app, address.url))
            with brokers.connect(app) as connection:
                missing = brokers.missing_exchange_types(connection, exchanges.TYPES)
                exchanges.declare(connection, missing)
        fleet = read_fleet(COMPOSE).consuming(names(needs))
        if missing:
            fleet = fleet.without(names(exchanges.QUEUES) - names(exchanges.queues_without(missing)))
        watch = None if is_ours else stack.enter_context(_existing(is_tour))
        where = stack.enter_context(results.kept(app, is_ours=watch is None))
        if needs_results:
            results.require(app)
        # A worker that is killed leaves what it keeps there.
        temporary = stack.enter_context(ending.folder("waybill-workers-"))
        environment = {**brokers.environment(address.url), **where, "TMPDIR": str(temporary)}
        if watch is None:
            zygote = zygote or stack.enter_context(Zygote())
            watch = stack.enter_context(_started(fleet, environment, zygote))
        yield Stage(watch, missing, is_json, environment, zygote, record)


def title(broker: str) -> str:
    """What people call the broker."""
    return BROKERS.get(broker, "the running broker")


@contextmanager
def _existing(is_tour: bool) -> Iterator[Watch | None]:
    """Watch the workers that run there; None when the tour has to start them."""
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(app))
        with status.working("looking for the workers that run there"):
            watch.discover_workers()
        if watch.consumers_by_worker or not is_tour:
            yield watch
            return
        stack.close()
        yield None


@contextmanager
def local_workers(
    fleet: Iterable[Worker], environment: Mapping[str, str], zygote: Zygote | None = None
) -> Iterator[LocalWorkers]:
    """The showcase's workers as processes, for the length of the block.

    They are killed at its end, warm shutdown or not: a block that ended well has proven that no message is on its way,
    and of one that was interrupted nothing is needed any more.

    Args:
        zygote: who starts them; None for one of their own.
    """
    # A program that isn't left in time takes them down all the same: the zygote ends with it.
    with ending.time_limit(HASTE), LocalWorkers(fleet, environment, ROOT, zygote) as workers:
        try:
            yield workers
        finally:
            with status.working(f"stopping {len(workers.workers)} workers"):
                workers.stop(grace=0.0)


def gather(watch: Watch, fleet: Collection[Worker], workers: LocalWorkers, others: Iterable[str] = ()) -> None:
    """Wait until these workers, which have been started, and the others have answered the roll call.

    Raises:
        FleetError: a worker has ended, or did not answer in time.
    """
    own = {worker.name for worker in fleet}
    text = f"starting {len(own)} workers"
    with status.working(text) as update:

        def look() -> None:
            workers.check_alive()
            ready = own & set(map(worker_name, watch.consumers_by_worker))
            update(f"{text}: {len(ready)} of {len(own)} are ready")

        watch.discover_workers([*others, *own], look)


@contextmanager
def _started(fleet: Fleet, environment: Mapping[str, str], zygote: Zygote | None) -> Iterator[Watch]:
    """Start the fleet and watch it."""
    with local_workers(fleet, environment, zygote) as workers, Watch(app) as watch:
        gather(watch, tuple(fleet), workers)
        yield watch


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--broker` and `--json`, the same for every publisher."""
    function = click.option("--json", "is_json", is_flag=True, help="One JSON object for each message, one on a line.")(
        function
    )
    return click.option(
        "--broker",
        default=brokers.choice,
        show_default="$WAYBILL_BROKER_URL, $BROKER, or embedded",
        help="`embedded`, `docker` (a container), or the URL of a running broker, with its workers.",
    )(function)


def lesson_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--record`, and those of `broker_options`."""
    return broker_options(
        click.option(
            "--record",
            type=click.File("w", encoding="utf-8", lazy=False),
            help="Also write what --json prints to this file.",
        )(function)
    )


def publisher(needs: Sequence[Queue], needs_results: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """Make a program of a lesson: its own arguments and `lesson_options`; exit code 1 when a message was returned.

    Args:
        needs: the queues that the lesson's messages may reach.
        needs_results: the lesson reads results.
    """

    def decorate(lesson: Callable[..., None]) -> click.Command:
        @lesson_options
        @functools.wraps(lesson)
        def main(broker: str, is_json: bool, record: IO[str] | None, **arguments: Any) -> int:
            with (
                open_stage(broker, needs, is_json, needs_results=needs_results, record=record) as stage,
                status.working("publishing, and waiting for who received what"),
            ):
                lesson(stage, **arguments)
            for sent in stage.lost:
                print_error(
                    f"returned by the broker: no queue takes the routing key {sent.routing_key!r} "
                    f"at the exchange {sent.exchange!r}"
                )
            for surprise in stage.surprises:
                print_error(f"mismatch: {surprise}")
            return EXIT_FINDINGS if stage.lost or stage.surprises else EXIT_OK

        return click.command()(main)

    return decorate


def pairs(values: Sequence[str], what: str = "header") -> Mapping[str, str]:
    """`("format=pdf", ...)` as a mapping.

    Raises:
        click.BadParameter: a value has no `=` or no name before it.
    """
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{what} {value!r}: expected name=value")
    return dict(value.split("=", 1) for value in values)
