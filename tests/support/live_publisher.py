"""Publish a case's messages over AMQP, mandatory and confirmed, and tell what the broker said to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import amqp
from amqp import serialization

from tests.support.cases.case import Refusal
from waybill.topology import Message

ANSWER_SECONDS = 30
"""How long a broker may be silent before a run fails; nothing here waits for time to pass."""

BATCH = 200
"""Messages under way before their confirms are read, so that what comes back fits into the socket's
buffers."""


@dataclass
class Published:
    """What the broker said: which messages came back, and which closed the channel."""

    returned: frozenset[int] = frozenset()
    refused: dict[str, Refusal] = field(default_factory=dict)


class Publisher:
    """A channel in confirm mode."""

    def __init__(self, connection: amqp.Connection) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._channel.confirm_select()
        self._returned: set[int] = set()
        self._last_tag = 0
        self._unconfirmed: set[int] = set()

    def publish(self, messages: Sequence[Message], suspects: Set[int]) -> Published | None:
        """Publish in order; None when a message that isn't a suspect was refused, so that nobody knows
        which."""
        published = Published()
        self._returned = set()
        for batch in _batches(len(messages), suspects):
            reason = self._publish_batch([(number, messages[number]) for number in batch])
            if reason is not None and len(batch) > 1:
                return None
            if reason is not None:
                published.refused[f"publish {batch[0]}"] = reason
        published.returned = frozenset(self._returned)
        return published

    def _publish_batch(self, batch: Sequence[tuple[int, Message]]) -> Refusal | None:
        try:
            for number, message in batch:
                self._last_tag += 1
                self._unconfirmed.add(self._last_tag)
                self._channel.basic_publish(
                    _encoded(number, message), message.exchange, message.routing_key, mandatory=True
                )
            while self._unconfirmed:
                self._connection.drain_events(timeout=ANSWER_SECONDS)
        except amqp.AMQPError as error:
            self._start_again()
            return refusal(error)
        return None

    def _start_again(self) -> None:
        """After a refusal: py-amqp has opened the channel again, and its tags begin with 1."""
        self._channel.confirm_select()
        self._last_tag, self._unconfirmed = 0, set()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._unconfirmed -= {held for held in self._unconfirmed if held <= tag} if multiple else {tag}

    def _on_nack(self, tag: int, _multiple: bool) -> None:
        raise AssertionError(f"no case fills a queue that rejects, yet publish {tag} was refused by a nack")

    def _on_return(self, error: amqp.AMQPError, _exchange: str, _key: str, message: amqp.Message) -> None:
        assert error.reply_code == 312, error
        self._returned.add(int(message.properties["message_id"]))


def refusal(error: amqp.AMQPError) -> Refusal:
    """The broker's words without the constant that stands for the code."""
    _, separator, sentence = error.reply_text.partition(" - ")
    return Refusal(error.reply_code, sentence if separator else error.reply_text)


def byte_arrays() -> AbstractContextManager[Callable[..., None]]:
    """While entered, py-amqp writes bytes as AMQP's byte array, not as text: cases tell the two apart."""
    write = serialization._write_item

    def write_item(value: Any, out: Callable[[bytes], Any], bits: Any) -> None:
        if isinstance(value, bytes):
            out(b"x" + len(value).to_bytes(4, "big") + value)
        else:
            write(value, out, bits)

    return patch.object(serialization, "_write_item", write_item)


def _batches(count: int, suspects: Set[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for number in range(count):
        if batch and (number in suspects or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(number)
        if number in suspects:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(number: int, message: Message) -> amqp.Message:
    """The number travels in message_id, where no exchange looks for it."""
    properties: dict[str, Any] = {"message_id": str(number), "application_headers": _plain(message.headers)}
    if message.priority is not None:
        properties["priority"] = message.priority
    if message.expiration is not None:
        properties["expiration"] = message.expiration
    return amqp.Message(b"", **properties)


def _plain(headers: Any) -> dict[str, Any]:
    return dict(headers)
