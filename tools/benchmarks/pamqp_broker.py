"""The embedded broker with pamqp on every frame, to measure beside the broker as it is.

Only the reading and writing of frames differs: everything that comes goes through `pamqp.frame.unmarshal`, and
deliveries, confirms and their contents are built and marshalled as pamqp's objects.
"""

from __future__ import annotations

from typing import Any

from pamqp import body as content_body
from pamqp import commands, frame
from pamqp import header as content_header

from waybill.broker import frames
from waybill.broker.deliveries import Deliveries
from waybill.broker.message import Message
from waybill.broker.publisher import Publisher

_feed = frames.FrameReader.feed


def _feed_through_pamqp(self: frames.FrameReader, data: bytes) -> list[frames.Frame]:
    found = _feed(self, data)
    for kind, channel, payload in found:
        frame.unmarshal(frames.frame(kind, channel, payload))
    return found


def _send_through_pamqp(
    self: Any, consumer_tag: bytes, tag: int, is_redelivered: bool, message: Message, header: bytes
) -> None:
    number = self._number
    method = commands.Basic.Deliver(
        consumer_tag[1:].decode(), tag, is_redelivered, message.exchange, message.routing_key
    )
    head = content_header.ContentHeader()
    head.unmarshal(header)
    parts = (method, head, content_body.ContentBody(message.body))
    self.output.write(b"".join(frame.marshal(part, number) for part in parts))


def _confirm_through_pamqp(self: Any, method: bytes, number: int, *, is_multiple: bool) -> None:
    kind = commands.Basic.Ack if method.endswith(b"\x50") else commands.Basic.Nack
    self._output.write(frame.marshal(kind(number, is_multiple), self._number))


def install() -> None:
    """Put pamqp in the way of every frame of this process."""
    frames.FrameReader.feed = _feed_through_pamqp  # type: ignore[method-assign]
    Deliveries._send = _send_through_pamqp  # type: ignore[method-assign]
    Publisher._settle_one = _confirm_through_pamqp  # type: ignore[method-assign]
