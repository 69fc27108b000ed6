"""`waybill live`: each message on its way, in a browser or on the terminal, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waybill.broker.management.serving import Serving, is_installed
from waybill.broker.server import Broker
from waybill.celery_app.broker_url import masked, url_of
from waybill.cli import terminal
from waybill.cli.application import application_of, fleet_of, is_application_given
from waybill.cli.commands.parameters import fleet_options, management_option
from waybill.diff import declared_by
from waybill.errors import EXIT_FINDINGS, EXIT_OK, BrokerUnavailable, InputError
from waybill.testing.brokers import environment, existing
from waybill.topology import DEFAULT_VHOST

if TYPE_CHECKING:
    from waybill.live.flow import Flowing
    from waybill.live.serving import Watchers
    from waybill.live.source import Source

AMQP_PORT, PAGE_PORT = 5672, 15673
HOST = "127.0.0.1"


@click.command()
@management_option("Watch this broker: the URL of its management API")
@click.option("--broker", metavar="URL", help="Its AMQP URL, if it isn't that of the application.")
@fleet_options
@click.option("--trace", "may_trace", is_flag=True, help="Switch the vhost's firehose on while this runs.")
@click.option("--port", default=PAGE_PORT, show_default=True, help="The page's port; 0 takes a free one.")
@click.option("--text", "is_text", is_flag=True, help="Lines on the terminal in place of the page.")
@click.option("--json", "is_json", is_flag=True, help="The same as JSON, a line for each step of a message.")
@click.option("--bodies", "has_bodies", is_flag=True, help="Show bodies, too: JSON, without passwords and the like.")
@click.option("--expect", is_flag=True, help="Exit with 1 if a message goes otherwise than predicted.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in a browser.")
@click.pass_context
def live(
    ctx: click.Context,
    management: str | None,
    broker: str | None,
    port: int,
    fleet: tuple[Path, ...],
    without_fleet: bool,
    ignored: tuple[str, ...],
    *,
    may_trace: bool,
    is_text: bool,
    is_json: bool,
    has_bodies: bool,
    expect: bool,
    is_opened: bool,
) -> int:
    """Watch where every message goes, as it goes there.

    Alone, it starts the embedded broker and watches that; with --fleet it starts the workers at it, too. With
    --management it watches a broker by its firehose, which has to be on or is switched on by --trace, and is left as it
    was.
    """
    if not is_installed():
        raise InputError("waybill live needs `pip install waybill[live]`")
    from waybill.live.collector import Collector
    from waybill.live.serving import Watchers
    from waybill.live.source import Source
    from waybill.testing.workers import LocalWorkers

    app = application_of(ctx) if is_application_given(ctx) else None
    with ExitStack() as stack:
        kind = "firehose"
        if management is None:
            embedded = stack.enter_context(_embedded())
            url, vhost, kind = embedded.url, DEFAULT_VHOST, "embedded"
            management = str(embedded.management_url)
            terminal.print_note(f"broker  {embedded.address} (embedded, user guest)")
        elif named := broker or (url_of(app) if app is not None else None):
            url = named
            vhost = existing(url).vhost
            terminal.print_note(f"broker  {masked(url)}")
        else:
            raise click.UsageError("expected --broker URL or -A APP beside --management")
        if fleet:
            if kind != "embedded" or app is None:
                raise click.UsageError("--fleet starts workers at the embedded broker: it takes -A and no --management")
            described = fleet_of(ctx, app, fleet, without_fleet, ignored) or ()
            stack.enter_context(LocalWorkers(tuple(described), environment(url), Path.cwd()))
            terminal.print_note(f"workers {', '.join(worker.name for worker in described)}")
        source = stack.enter_context(Source(url, management, vhost, may_trace=may_trace))
        declared = None if app is None else declared_by(app)
        watchers = Watchers(Collector(source.facts(), declared, source=kind, has_bodies=has_bodies))
        if is_text or is_json:
            watchers.on_message = _printer(watchers, is_json=is_json)
        source.start(watchers)
        asyncio.run(_watch(watchers, source, None if is_text or is_json else port, is_opened=is_opened))
        if watchers.error is not None:
            raise watchers.error
        return EXIT_FINDINGS if expect and watchers.collector.mismatches else EXIT_OK


@contextmanager
def _embedded() -> Iterator[Broker]:
    """The embedded broker, on RabbitMQ's port if that is free."""
    for port in (AMQP_PORT, 0):
        broker = Broker(port=port, tracing=True, management=True)
        try:
            broker.__enter__()
        except BrokerUnavailable:
            continue
        try:
            yield broker
        finally:
            broker.__exit__(None, None, None)
        return


def _printer(watchers: Watchers, *, is_json: bool) -> Callable[[Flowing], None]:
    from waybill.live.serving import line

    def show(one: Flowing) -> None:
        with watchers.lock:
            row = watchers.collector.row(one)
        if is_json:
            terminal.echo(json.dumps(row))
        else:
            terminal.print_line(line(row))

    return show


async def _watch(watchers: Watchers, source: Source, port: int | None, *, is_opened: bool) -> None:
    """Serve the page, or only wait, until Ctrl-C, SIGTERM or the broker's end."""
    from waybill.live.serving import application

    loop, is_over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, is_over.set)
    watchers.on_end(lambda: loop.call_soon_threadsafe(is_over.set))
    if port is None:
        terminal.print_note("watching; Ctrl-C ends it")
        await is_over.wait()
        return
    serving = Serving(HOST, port)
    serving.listen()
    serving.start(lambda: application(watchers, source.send, frozenset({"localhost", "127.0.0.1", "::1"})))
    page = f"http://{HOST}:{serving.port}/"
    terminal.print_note(f"page    {page}")
    terminal.print_note(f"watched vhost '{watchers.collector.facts.vhost}': {watchers.collector.said} Ctrl-C ends it.")
    if is_opened:
        click.launch(page)
    try:
        await is_over.wait()
    finally:
        await serving.stop()
