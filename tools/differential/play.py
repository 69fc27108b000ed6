"""Play a script to two brokers, and compare the outcomes call by call.

The embedded broker plays a script first. What it answered is what RabbitMQ is then expected to answer, and waited
for: RabbitMQ's queues are processes of their own, and nothing tells when they have done. A step agrees as soon as
everything is as expected, and disagrees when it is not within `PATIENCE` seconds. What comes too much is found in
the next step. Compared are replies, errors with code, text and method, returns, confirms, cancels, every delivery
with its order in its consumer, redelivered flag, routing, properties and headers byte for byte (but for the seconds
in x-death, and for those to a connection that is being closed with an error), and after each step the message and
consumer counts of every queue.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pamqp import commands

from tests.support.wire import Address, Arrived, Closed, Wire
from tools.differential.scripts import OWN_USER, QUEUES, Step, script
from waybill.broker import Broker

PATIENCE = 1.5
"""Seconds in which RabbitMQ must have done what the embedded broker did."""

WAIT = 0.45
"""Seconds of a `wait` step: three times the short time to live of scripts.py."""

LEFT = "RESOURCE_ERROR - failed to deliver message: {not_found"
"""RabbitMQ's answer to a commit for a quorum queue that is gone: a difference left on purpose, which ends a script."""

NAMED = frozenset({"x-dead-letter-exchange", "x-dead-letter-routing-key", "alternate-exchange"})
"""Arguments whose value is one of a script's names."""

Outcome = dict[str, Any]


class AtWire:
    """A connection of a script and the channels it uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connect()

    def connect(self) -> None:
        """Connect anew: nothing is out."""
        self.wire = Wire(self.url)
        self.channels: set[int] = set()
        self.out: dict[int, list[tuple[str, bytes, int]]] = {}
        self.unconfirmed: dict[int, list[int]] = {}
        self.published: dict[int, int] = {}
        """Publications since `confirm.select`, which is when they begin to be counted."""

    def use(self, number: int) -> Wire:
        """The wire, with this channel open."""
        if number not in self.channels:
            self.wire.send(number, commands.Channel.Open())
            self.wire.wait_for("Channel.OpenOk")
            self.channels.add(number)
            self.out[number] = []
            self.unconfirmed[number] = []
            self.published.pop(number, None)
        return self.wire


@dataclass
class Stage:
    """One broker, being played a script.

    Args:
        prefix: stands before every name, so that scripts never meet.
    """

    url: str
    prefix: str
    sent: int = 0
    no_ack: set[tuple[int, int, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connections = [AtWire(self.url), AtWire(self.url)]
        self.control = AtWire(self.url)

    def play(self, step: Step) -> None:
        """Make the call; what comes back is collected by `observe`."""
        one = self.connections[step.at]
        wire = one.use(step.channel)
        getattr(self, f"_{step.do}")(one, wire, step.channel, step.with_)

    def name(self, name: str) -> str:
        """A script's name as it goes over the wire."""
        return f"{self.prefix}{name}" if re.fullmatch(r"[qxc]\d", name) else name

    # the calls

    def _wait(self, *_: Any) -> None:
        time.sleep(WAIT)  # the step is time itself: what expires, expires on RabbitMQ's clock

    def _send(self, wire: Wire, number: int, kind: Any, given: dict[str, Any], **others: Any) -> None:
        """Send a method with the arguments that the step gives and the others; what neither names is empty."""
        method = kind.__new__(kind)
        for name in method.__slots__:
            setattr(method, name, others.get(name, given.get(name, _EMPTY[method.amqp_type(name)])))
        wire.send(number, method)

    def _declare_queue(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._send(wire, number, Declare, given, queue=self.name(given["name"]), arguments=self._arguments(given))

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        return {key: self.name(value) if key in NAMED else value for key, value in given.get("arguments", {}).items()}

    def _delete_queue(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._send(wire, number, Delete, given, queue=self.name(given["queue"]))

    def _purge(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._send(wire, number, Purge, given, queue=self.name(given["queue"]))

    def _declare_exchange(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        names = {"exchange": self.name(given["name"]), "exchange_type": given["type"]}
        self._send(wire, number, ExchangeDeclare, given, **names, arguments=self._arguments(given))

    def _delete_exchange(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._send(wire, number, ExchangeDelete, given, exchange=self.name(given["name"]))

    def _bind_queue(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any], kind: Any = None) -> None:
        names = {"queue": self.name(given["queue"]), "exchange": self.name(given["exchange"])}
        self._send(wire, number, kind or Bind, given, **names, routing_key=self.name(given["key"]))

    def _unbind_queue(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._bind_queue(one, wire, number, given, Unbind)

    def _bind_exchange(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any], kind: Any = None) -> None:
        names = {"destination": self.name(given["to"]), "source": self.name(given["from"])}
        self._send(wire, number, kind or ExchangeBind, given, **names, routing_key=self.name(given["key"]))

    def _unbind_exchange(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._bind_exchange(one, wire, number, given, ExchangeUnbind)

    def _publish(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self.sent += 1
        if number in one.published:
            one.published[number] += 1
            one.unconfirmed[number].append(one.published[number])
        content = b"%03d" % self.sent + b"." * given["size"] if given["size"] else b""
        properties = {name: given[name] for name in _PROPERTIES if name in given}
        if properties.get("user_id") == OWN_USER:
            properties["user_id"] = wire.address.user
        headers = properties.get("headers")
        if headers and isinstance(headers.get("CC") or headers.get("BCC"), list):
            properties["headers"] = {key: [self.name(one) for one in value] for key, value in headers.items()}
        method = commands.Basic.Publish(
            exchange=self.name(given["exchange"]),
            routing_key=self.name(given["key"]),
            mandatory=given.get("mandatory", False),
            immediate=given.get("immediate", False),
        )
        wire.publish(number, method, content, **properties)

    def _get(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self.no_ack.discard((id(wire), number, "get"))
        if given["no_ack"]:
            self.no_ack.add((id(wire), number, "get"))
        self._send(wire, number, Get, given, queue=self.name(given["queue"]))

    def _consume(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        tag = self.name(given["tag"])
        key = (id(wire), number, tag)
        self.no_ack.discard(key)
        if given["no_ack"]:
            self.no_ack.add(key)
        self._send(wire, number, Consume, given, queue=self.name(given["queue"]), consumer_tag=tag)

    def _cancel(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        self._send(wire, number, Cancel, given, consumer_tag=self.name(given["tag"]))

    def _qos(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        wire.send(number, commands.Basic.Qos(0, given["count"], given.get("is_global", False)))

    def _chosen(self, one: AtWire, number: int, which: int) -> int | None:
        # By content and consumer, not by tag: two consumers' deliveries may come in either order.
        out = sorted(one.out[number])
        if not out:
            return None
        chosen = out[which % len(out)]
        one.out[number].remove(chosen)
        return chosen[2]

    def _ack(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        tag = self._chosen(one, number, given["which"])
        if tag is not None:
            self._settle(wire, number, tag, "ack")

    def _nack(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        tag = self._chosen(one, number, given["which"])
        if tag is not None:
            self._settle(wire, number, tag, "requeue" if given["requeue"] else "nack")

    def _reject(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        tag = self._chosen(one, number, given["which"])
        if tag is not None:
            wire.send(number, commands.Basic.Reject(tag, given["requeue"]))

    def _settle_up_to(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        # Only of one consumer: in which order two of them were served is RabbitMQ's chance.
        is_multiple = len({source for source, _, _ in one.out[number]}) == 1
        tag = self._chosen(one, number, given["which"])
        if tag is None:
            return
        if is_multiple:
            one.out[number] = [left for left in one.out[number] if left[2] > tag]
        self._settle(wire, number, tag, given["how"], is_multiple=is_multiple)

    def _settle(self, wire: Wire, number: int, tag: int, how: str, *, is_multiple: bool = False) -> None:
        if how == "ack":
            wire.send(number, commands.Basic.Ack(tag, is_multiple))
        else:
            wire.send(number, commands.Basic.Nack(tag, is_multiple, how == "requeue"))

    def _settle_all(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        one.out[number] = []
        self._settle(wire, number, 0, given["how"], is_multiple=True)

    def _unknown_tag(self, _: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        kinds = {"ack": commands.Basic.Ack, "nack": commands.Basic.Nack, "reject": commands.Basic.Reject}
        wire.send(number, kinds[given["how"]](999))

    def _recover(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        one.out[number] = []
        wire.send(number, commands.Basic.Recover(given["requeue"]))

    def _confirm_select(self, one: AtWire, wire: Wire, number: int, given: dict[str, Any]) -> None:
        one.published.setdefault(number, 0)
        self._send(wire, number, commands.Confirm.Select, given)

    def _tx_select(self, _: AtWire, wire: Wire, number: int, __: dict[str, Any]) -> None:
        wire.send(number, commands.Tx.Select())

    def _tx_commit(self, _: AtWire, wire: Wire, number: int, __: dict[str, Any]) -> None:
        wire.send(number, commands.Tx.Commit())
        # RabbitMQ refuses whatever comes while it commits (504), the question of `_barrier` too.
        wire.waiting.append(wire.wait_for("Tx.CommitOk", "Channel.Close", "Connection.Close"))

    def _tx_rollback(self, _: AtWire, wire: Wire, number: int, __: dict[str, Any]) -> None:
        wire.send(number, commands.Tx.Rollback())

    def _close_channel(self, one: AtWire, wire: Wire, number: int, _: dict[str, Any]) -> None:
        wire.send(number, commands.Channel.Close(200, "", 0, 0))
        wire.wait_for("Channel.CloseOk")
        one.channels.discard(number)

    def _close_all_but(self, one: AtWire, wire: Wire, kept: int) -> None:
        # In which order the channels of a lost connection end is RabbitMQ's chance: here only one is left.
        for number in sorted(one.channels - {kept}):
            self._close_channel(one, wire, number, {})

    def _close_connection(self, one: AtWire, wire: Wire, number: int, _: dict[str, Any]) -> None:
        self._close_all_but(one, wire, number)
        wire.send(0, commands.Connection.Close(200, "", 0, 0))
        wire.wait_for("Connection.CloseOk")
        wire.drop()
        one.connect()

    def _drop_connection(self, one: AtWire, wire: Wire, number: int, _: dict[str, Any]) -> None:
        self._close_all_but(one, wire, number)
        wire.drop()
        one.connect()

    # what came of it

    def observe(self, seen: Outcome) -> None:
        """Add to `seen` what has come since."""
        for place, one in enumerate(self.connections):
            arrivals = _barrier(one)
            for arrived in arrivals:
                self._note(seen, place, one, arrived)
        seen["counts"] = self._counts()

    def _note(self, seen: Outcome, place: int, one: AtWire, arrived: Arrived) -> None:
        where, number = f"{place}.{arrived.channel}", arrived.channel
        fields = {name: self._plain(value) for name, value in arrived.method}
        name = arrived.name
        if name in ("Basic.Deliver", "Basic.GetOk"):
            tag, source = fields.pop("delivery_tag"), fields.get("consumer_tag", "get")
            if (id(one.wire), number, self.name(source)) not in self.no_ack:
                one.out[number].append((source, arrived.body or b"", tag))
            seen.setdefault(f"{where} {name} {source}", []).append((fields, *self._content(arrived)))
        elif name == "Basic.Return":
            seen.setdefault(f"{where} {name}", []).append((fields, *self._content(arrived)))
        elif name in ("Basic.Ack", "Basic.Nack"):
            confirms = seen.setdefault(f"{where} confirms", {})
            _note_confirm(confirms, one.unconfirmed[number], name, arrived.method)
        else:
            seen.setdefault(f"{where} answers", []).append((name, fields))
        if name == "Channel.Close":
            one.wire.send(number, commands.Channel.CloseOk())
            one.channels.discard(number)
        elif name == "Connection.Close":
            # What its refused channel had is offered to its others: whether they still write it is RabbitMQ's chance.
            for key in [key for key in seen if key.startswith(f"{place}.") and "Basic.Deliver" in key]:
                del seen[key]
            one.wire.send(0, commands.Connection.CloseOk())
            one.wire.drop()
            one.connect()

    def _content(self, arrived: Arrived) -> tuple[Any, bytes | None]:
        raw = re.sub(rb"\x04timeT.{8}", b"\x04timeT", arrived.raw_header or b"", flags=re.DOTALL)
        return self._plain(raw), arrived.body

    def _plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(self.prefix, "")
        return value.replace(self.prefix.encode(), b"") if isinstance(value, bytes) else value

    def _counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for name in QUEUES:
            wire = self.control.use(1)
            self._send(wire, 1, Declare, {"passive": True}, queue=self.name(name))
            answer = wire.wait_for("Queue.DeclareOk", "Channel.Close").method
            if isinstance(answer, commands.Channel.Close):
                wire.send(1, commands.Channel.CloseOk())
                self.control.channels.clear()
                counts[name] = answer.reply_code
            else:
                counts[name] = (answer.message_count, answer.consumer_count)
        return counts

    def clean(self) -> None:
        """Delete what the script made and close every socket."""
        for one in self.connections:
            one.wire.drop()
        for name in QUEUES:
            self._send(self.control.use(1), 1, Delete, {}, queue=self.name(name))
            if self.control.wire.wait_for("Queue.DeleteOk", "Channel.Close").name == "Channel.Close":
                self.control.wire.send(1, commands.Channel.CloseOk())
                self.control.channels.clear()
        for name in ("x0", "x1", "x2"):
            self._send(self.control.use(1), 1, ExchangeDelete, {}, exchange=self.name(name))
            self.control.wire.wait_for("Exchange.DeleteOk")
        self.control.wire.drop()


def _unchecked(kind: Any) -> Any:
    """A method without pamqp's checks: what a broker refuses must be sent to be refused."""
    return type(kind.__name__, (kind,), {"__slots__": list(kind.__slots__), "validate": lambda _: None})


Declare, Delete, Purge, Bind, Unbind = map(
    _unchecked,
    (
        commands.Queue.Declare,
        commands.Queue.Delete,
        commands.Queue.Purge,
        commands.Queue.Bind,
        commands.Queue.Unbind,
    ),
)
ExchangeDeclare, ExchangeDelete, ExchangeBind, ExchangeUnbind = map(
    _unchecked,
    (
        commands.Exchange.Declare,
        commands.Exchange.Delete,
        commands.Exchange.Bind,
        commands.Exchange.Unbind,
    ),
)
Get, Consume, Cancel = map(_unchecked, (commands.Basic.Get, commands.Basic.Consume, commands.Basic.Cancel))
_EMPTY: dict[str, Any] = {"bit": False, "shortstr": "", "longstr": "", "table": {}, "short": 0, "long": 0, "octet": 0}
_PROPERTIES = ("priority", "expiration", "headers", "delivery_mode", "correlation_id", "message_id", "user_id")


def _barrier(one: AtWire) -> list[Arrived]:
    """What has come, and everything up to each channel's answer to a question that changes nothing."""
    arrivals: list[Arrived] = []
    closed: set[int] = set()
    try:
        for number in sorted(one.channels):
            if number in closed:
                continue
            one.wire.send(number, commands.Channel.Flow(True))
            while number not in closed:
                arrived = one.wire.next()
                if arrived.name == "Channel.FlowOk":
                    break
                arrivals.append(arrived)
                if arrived.name == "Channel.Close":
                    closed.add(arrived.channel)
                if arrived.name == "Connection.Close":
                    return arrivals
    except Closed:
        arrivals.append(Arrived(0, commands.Connection.Close(0, "closed without a word", 0, 0)))
    return arrivals


def _note_confirm(confirms: dict[int, str], out: list[int], name: str, method: Any) -> None:
    """Frames may be one for many: what counts is what became of each publication."""
    last = method.delivery_tag
    settled = [tag for tag in out if tag <= last] if method.multiple else [last]
    for tag in settled:
        out.remove(tag)
        confirms[tag] = name


@dataclass
class Disagreement:
    """The first step of a script whose outcomes differ."""

    steps: list[Step]
    at: int
    embedded: Outcome
    live: Outcome

    def __str__(self) -> str:
        lines = [f"  {place}: {step}" for place, step in enumerate(self.steps)]
        lines.append(f"  at step {self.at}, {self.steps[self.at]}:")
        for key in sorted({*self.embedded, *self.live}):
            ours, theirs = self.embedded.get(key), self.live.get(key)
            if ours != theirs:
                lines += [f"    {key}", f"      embedded {ours}", f"      RabbitMQ {theirs}"]
        return "\n".join(lines)


def compare(steps: list[Step], embedded: str, live: str, prefix: str) -> Disagreement | None:
    """Play a script to both brokers; the first disagreement, or None."""
    ours, theirs = Stage(embedded, prefix), Stage(live, prefix)
    try:
        for place, step in enumerate(steps):
            expected: Outcome = {}
            ours.play(step)
            ours.observe(expected)
            seen: Outcome = {}
            theirs.play(step)
            deadline = time.monotonic() + PATIENCE
            while True:
                theirs.observe(seen)
                if seen == expected:
                    break
                if LEFT in str(seen):
                    return None
                if time.monotonic() > deadline:
                    return Disagreement(steps, place, expected, seen)
                time.sleep(0.002)  # RabbitMQ is still at it, or wrong; nothing else can be waited for
        return None
    finally:
        ours.clean()
        theirs.clean()


def shrink(found: Disagreement, embedded: str, live: str, prefix: str) -> Disagreement:
    """The same disagreement with as few steps as can be found by leaving out one after another."""
    best, tries = found, 0
    steps = list(found.steps[: found.at + 1])
    place = len(steps) - 2
    while place >= 0:
        shorter = steps[:place] + steps[place + 1 :]
        tries += 1
        smaller = compare(shorter, embedded, live, f"{prefix}s{tries}-")
        if smaller is not None:
            steps, best = shorter[: smaller.at + 1], smaller
            place = min(place, len(steps) - 1)
        place -= 1
    return best


def run(live: str, seeds: range, *, shrinks: bool = True, stop_at: float | None = None) -> tuple[int, list[str]]:
    """Play the scripts of these seeds.

    Args:
        stop_at: the monotonic time at which no further script is begun.

    Returns:
        How many were played, and a text for each disagreement.
    """
    played, texts = 0, []
    mark = f"{os.getpid():x}{int(time.time() * 1000) & 0xFFFFFF:x}"
    there = Address.of(live)
    with Broker(users={there.user: there.password}) as broker:  # errors name the user and the vhost
        ours = f"{broker.url.rpartition('/')[0]}/{quote(there.vhost, safe='')}"
        for seed in seeds:
            if stop_at is not None and time.monotonic() > stop_at:
                break
            prefix = f"d{mark}-{seed}-"
            found = compare(script(seed), ours, live, prefix)
            played += 1
            if found is not None:
                smallest = shrink(found, ours, live, prefix) if shrinks else found
                texts.append(f"seed {seed}:\n{smallest}")
                print(texts[-1], flush=True)
    return played, texts
