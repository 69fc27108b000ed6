"""Every bound of the embedded broker: its name, its unit and its reason.

A bound that RabbitMQ has carries RabbitMQ 4.3's default. One of the embedded broker's own is there because the
broker runs inside a test or a laptop's terminal, where it must never be what brings the machine down.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_NESTING = 64
"""Tables and arrays inside one another. Real headers stay below 5; Python's own stack ends near 1,000."""

MIN_FRAME_MAX = 8192
"""Bytes. RabbitMQ refuses to negotiate smaller frames (`frame_max_min`, raised in 4.1)."""

PRE_LOGIN_FRAME_MAX = 8192
"""Bytes of one frame before the connection is open: enough for client properties, no room for mischief."""

FRAME_SLACK = 8
"""Bytes that a frame may exceed the negotiated size by; clients are often wrong by the frame's own overhead."""

MAX_BODY_BYTES = 536_870_912
"""Bytes of one message's body that a header may announce (RabbitMQ's highest `max_message_size`)."""

MAX_MESSAGE_BYTES = 16_777_216
"""Bytes of one message's body that are taken (RabbitMQ 4's default `max_message_size`, 16 MiB)."""

LINGER = 30
"""Seconds after `connection.close-ok` in which the client closes the socket (RabbitMQ's `CLOSING_TIMEOUT`)."""

DELIVERY_LIMIT = 20
"""Returns of a message to a quorum queue before it is dead-lettered or dropped (RabbitMQ 4.0 and later)."""


@dataclass(frozen=True)
class Limits:
    """What one broker allows.

    Args:
        frame_max: bytes of a frame, as offered to clients.
        channel_max: channels open at once on one connection, as offered to clients.
        heartbeat: seconds between heartbeats, as offered to clients; the peer is given twice that.
        connections: connections open at once; the next one is closed as soon as it is accepted.
        queue_bytes: bytes that clients make the broker keep above which publishers are blocked, as by RabbitMQ's memory
            alarm, until it keeps less: messages in queues, in open transactions and histories, with 128 bytes for each
            in each place, bodies that are still incomplete, and answers that nobody reads.
        write_buffer: bytes waiting for one slow reader above which its consumers get no more deliveries.
        handshake: seconds a client may take until `connection.open` (RabbitMQ's `handshake_timeout`).
        closing: seconds a client may take to answer a close (RabbitMQ waits 30; a test should not).
        silent_close: seconds before a refused client's socket is closed, so that it can read why and so that
            guessing passwords is slow.
    """

    frame_max: int = 131_072
    channel_max: int = 2047
    heartbeat: int = 60
    connections: int = 1000
    queue_bytes: int = 512 * 1024 * 1024
    write_buffer: int = 1024 * 1024
    handshake: float = 10.0
    closing: float = 5.0
    silent_close: float = 0.5


DEFAULT_LIMITS = Limits()
