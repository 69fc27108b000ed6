"""Look at the dead letters in the queue `parked` without losing them, and put them back where they died.

dead_letter_commands.py has the commands. AMQP has none to look at a queue: each message is taken without an
acknowledgement and given back at the end, to its place. What is put back is published first, confirmed by the broker,
and only then acknowledged here: whoever breaks off in between has it twice and never loses it. While somebody looks
nobody else sees these messages, and afterwards they are marked as redelivered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from amqp import Channel, Message
from amqp.exceptions import MessageNacked, NotFound
from kombu import Connection

from exchanges.reliability import parked
from waybill.errors import InputError, UnknownName
from worker.reliability import REQUEUED

# What the broker writes into the headers when a message dies; put back, it begins anew.
DEATHS = ("x-death", "x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message in `parked`, and how it got there.

    Attributes:
        id: the task's; that of the message where it is no task, and empty where it has none.
        task: the task's name, empty where it is no task.
        queue: where it died last, and is put back to; empty when it was published to `parked` itself.
        reason: rejected, expired, maxlen or delivery_limit.
        died: when, on the broker's clock, in UTC; None where it doesn't say.
        requeued: how often it was put back before.
        headers, properties, body: as they came; the body is text where the message names its encoding.
    """

    id: str
    task: str
    queue: str
    reason: str
    died: datetime | None
    requeued: int
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: bytes | str

    @classmethod
    def from_message(cls, message: Message) -> DeadLetter:
        properties = dict(message.properties)
        headers = properties.pop("application_headers", None) or {}
        last = _last_death(headers)
        time, requeued = last.get("time"), headers.get(REQUEUED)
        return cls(
            id=str(headers.get("id") or properties.get("correlation_id") or properties.get("message_id") or ""),
            task=str(headers.get("task") or ""),
            queue=str(last.get("queue") or ""),
            reason=str(last.get("reason") or ""),
            died=time.astimezone(UTC) if isinstance(time, datetime) else None,
            requeued=requeued if isinstance(requeued, int) else 0,
            headers=headers,
            properties=properties,
            body=message.body,
        )

    @property
    def summary(self) -> dict[str, Any]:
        """As `list --json` prints it."""
        named = {name: getattr(self, name) for name in ("id", "task", "queue", "reason", "requeued")}
        return {**named, "died": self.died.isoformat() if self.died else None}

    @property
    def content(self) -> Any:
        """The body where it is JSON, else its size: nothing is unpickled to be looked at."""
        kind = self.properties.get("content_type")
        try:
            return json.loads(self.body) if kind == "application/json" else f"{len(self.body)} bytes of {kind}"
        except (ValueError, RecursionError):
            return f"{len(self.body)} bytes that are no JSON"


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The latest entry of `x-death`, which stands first; empty where there is none, or something else of that name."""
    deaths = headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


@contextmanager
def taken(connection: Connection) -> Iterator[Iterator[Message]]:
    """The messages one after the other; those that aren't acknowledged within the block go back to their places.

    Raises:
        InputError: this broker has no queue `parked`.
    """
    with connection.channel() as channel:
        try:
            count = channel.queue_declare(parked.name, passive=True).message_count
        except NotFound as error:
            raise InputError(
                f"no queue {parked.name!r} in vhost {connection.virtual_host!r}: a worker of the showcase declares it"
            ) from error
        try:
            yield filter(None, (channel.basic_get(parked.name) for _ in range(count)))
        finally:
            # Closing the channel would give them back too, but RabbitMQ may answer that before it has done it.
            channel.basic_recover(requeue=True)
            channel.queue_declare(parked.name, passive=True)


def look(connection: Connection) -> list[DeadLetter]:
    """All dead letters, the oldest first; they stay where they are."""
    with taken(connection) as messages:
        return [DeadLetter.from_message(message) for message in messages]


def put_back(connection: Connection, ids: Collection[str] | None = None) -> tuple[list[DeadLetter], list[DeadLetter]]:
    """Publish dead letters to the queue in which they died, and take them out of `parked`.

    Args:
        ids: which of them; all without.

    Returns:
        Those that are back, and those that are still parked: no queue takes them.

    Raises:
        UnknownName: no dead letter has such an id; then none is put back.
    """
    back: list[DeadLetter] = []
    left: list[DeadLetter] = []
    with taken(connection) as messages, connection.channel() as channel:
        letters = [(message, DeadLetter.from_message(message)) for message in messages]
        refuse_unknown(ids or (), [letter for _, letter in letters])
        for message, letter in letters:
            if ids is not None and letter.id not in ids:
                continue
            if letter.queue and publish(channel, letter):
                message.channel.basic_ack(message.delivery_tag)
                back.append(letter)
            else:
                left.append(letter)
    return back, left


def refuse_unknown(ids: Collection[str], letters: Collection[DeadLetter]) -> None:
    """Refuse an id that no dead letter has."""
    known = {letter.id for letter in letters}
    for id_ in ids:
        if id_ not in known:
            raise UnknownName("dead letter", id_, known, f"the queue {parked.name!r}")


def publish(channel: Channel, letter: DeadLetter) -> bool:
    """Publish to the queue itself, by the default exchange: a fanout would give other queues a second copy.

    Returns:
        False when no queue took it.
    """
    headers = {name: value for name, value in letter.headers.items() if not name.startswith(DEATHS)}
    message = Message(letter.body, application_headers=headers | {REQUEUED: letter.requeued + 1}, **letter.properties)
    returned: list[object] = []
    # The return comes before the confirm, so it's here when the call is over.
    channel.events["basic_return"] = {lambda *why: returned.append(why)}
    try:
        channel.basic_publish_confirm(message, routing_key=letter.queue, mandatory=True)
    except MessageNacked:
        return False
    return not returned
