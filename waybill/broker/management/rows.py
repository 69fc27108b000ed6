"""What a vhost, an exchange, a queue, ... looks like in the management API's JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus
from zlib import crc32

from waybill.broker.channel import Channel
from waybill.broker.connection import Connection, State
from waybill.broker.firehose import NODE
from waybill.broker.handshake import BEHAVES_AS
from waybill.broker.limits import DELIVERY_LIMIT
from waybill.broker.node import Node
from waybill.broker.queue import Consumer, Queue
from waybill.broker.vhost import VHost
from waybill.topology.fields import field_key
from waybill.topology.policies import policy_for
from waybill.topology.values import Binding, Exchange
from waybill.topology.values import Queue as Declaration

Row = dict[str, Any]

CONSUMER_TIMEOUT = 1_800_000
"""Milliseconds: RabbitMQ's default, which this broker doesn't enforce."""

NO_RATE = {"rate": 0.0}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One consumer, with all that is around it."""

    vhost: VHost
    queue: Queue
    consumer: Consumer
    connection: Connection
    channel: Channel


def connections(node: Node, vhosts: Iterable[VHost], user: str | None = None) -> list[Connection]:
    """Those that are open in these vhosts, by name; a user's own, where one is named."""
    names = {vhost.name for vhost in vhosts}
    found = [one for one in node.connections if one.state is State.RUNNING and one.agreed.vhost in names]
    if user is not None:
        found = [one for one in found if one.agreed.user == user]
    return sorted(found, key=lambda one: one.name)


def channels(node: Node, vhosts: Iterable[VHost], user: str | None = None) -> list[tuple[Connection, Channel]]:
    """Those that are open in these vhosts; a user's own, where one is named."""
    found = [(one, channel) for one in connections(node, vhosts, user) for _, channel in sorted(one.channels.items())]
    return [(one, channel) for one, channel in found if not channel.is_closing]


def subscriptions(node: Node, vhosts: Iterable[VHost], user: str | None = None) -> list[Subscription]:
    """The consumers of these vhosts, by queue; a user's own, where one is named."""
    found = [
        Subscription(channel.vhost, queue, consumer, connection, channel)
        for connection, channel in channels(node, vhosts, user)
        for queue, consumer in channel.deliveries.consumers.values()
    ]
    return sorted(found, key=lambda one: (one.vhost.name, one.queue.name, one.consumer.number))


def unacked_bytes(node: Node, vhosts: Iterable[VHost]) -> Counter[Queue]:
    """Bytes of the bodies that each queue has out."""
    sizes: Counter[Queue] = Counter()
    for _, channel in channels(node, vhosts):
        for entry, queue, _ in channel.deliveries.unacked.values():
            sizes[queue] += len(entry.message.body)
    return sizes


# vhosts, exchanges, bindings


def of_vhost(vhost: VHost, *, has_statistics: bool = True) -> Row:
    """A vhost."""
    default_type = vhost.router.default_queue_type
    about = {"description": vhost.description, "tags": list(vhost.tags), "default_queue_type": default_type}
    row: Row = {
        "name": vhost.name,
        **about,
        "metadata": about,
        "protected_from_deletion": False,
        "tracing": vhost.is_traced,
        "cluster_state": {NODE: "running"},
    }
    if has_statistics:
        row |= totals(vhost.queues.values())
    return row


def totals(queues: Iterable[Queue]) -> Row:
    """How many messages these queues have."""
    listed = tuple(queues)
    ready, unacked = sum(one.ready.count for one in listed), sum(one.unacked for one in listed)
    return counted({"messages": ready + unacked, "messages_ready": ready, "messages_unacknowledged": unacked})


def counted(counts: Mapping[str, int]) -> Row:
    """Counts, each with its rate: nothing is measured by the second here."""
    return {**counts, **{f"{name}_details": NO_RATE for name in counts}}


def of_exchange(vhost: VHost, exchange: Exchange) -> Row:
    """An exchange."""
    row: Row = {
        "name": exchange.name,
        "vhost": vhost.name,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": exchange.arguments,
        "user_who_performed_action": "rmq-internal",
    }
    name = policy_for(exchange, vhost.router.policies.given).get("name")
    return row if name is None else {**row, "policy": name}


def of_binding(vhost: VHost, binding: Binding) -> Row:
    """A binding."""
    return {
        "source": binding.source,
        "vhost": vhost.name,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "routing_key": binding.binding_key,
        "arguments": binding.arguments,
        "properties_key": properties_key(binding),
    }


def properties_key(binding: Binding) -> str:
    """What tells a binding from the others between its two ends: the key, and a hash of the arguments."""
    key = quote_plus(binding.binding_key, safe="").replace("~", "%7E")
    if not binding.arguments:
        return key or "~"
    return f"{key}~{crc32(repr(field_key(binding.arguments)).encode()):08x}"


def bindings(vhost: VHost) -> list[Binding]:
    """Those of a vhost, with each queue's to the default exchange."""
    implied = [Binding("", name, name) for name in vhost.queues]
    return in_order([*implied, *vhost.router.bindings])


def in_order(listed: Iterable[Binding]) -> list[Binding]:
    """Bindings as RabbitMQ lists them."""
    return sorted(listed, key=lambda one: (one.source, one.destination_type, one.destination, one.binding_key))


# queues and consumers


def declared(vhost: VHost, queue: Queue) -> Row:
    """A queue's declaration, and what policies make of it."""
    declaration, policies = queue.declaration, vhost.router.policies
    row: Row = {
        "name": queue.name,
        "vhost": vhost.name,
        "type": declaration.type,
        "durable": declaration.durable and not declaration.exclusive,
        "auto_delete": declaration.auto_delete,
        "exclusive": declaration.exclusive,
        "arguments": arguments_of(declaration),
        "internal": False,
        "internal_owner": False,
        "node": NODE,
        "state": "running",
        "policy": policy_for(declaration, policies.given).get("name"),
        "operator_policy": policy_for(declaration, policies.operators).get("name"),
        "effective_policy_definition": declaration.policy,
    }
    if queue.is_quorum:
        limit = declaration.setting("delivery-limit")
        row |= {
            "leader": NODE,
            "members": [NODE],
            "online": [NODE],
            "delivery_limit": DELIVERY_LIMIT if limit is None else limit,
        }
    return row


def arguments_of(declaration: Declaration) -> Mapping[str, Any]:
    """A queue's arguments, its type among them even where the client named none."""
    return {"x-queue-type": declaration.type, **declaration.arguments}


def of_queue(vhost: VHost, queue: Queue, unacked: int) -> Row:
    """A queue with its counts.

    Nothing is kept on a disk, so no message is persistent here.

    Args:
        unacked: bytes that it has out.
    """
    ready, count = queue.ready, queue.ready.count + queue.unacked
    listed = queue.consumers.listed
    holder = next((one.tag for one in listed if one.is_exclusive), None)
    row = declared(vhost, queue) | totals((queue,))
    row |= {
        "consumers": len(listed),
        "consumer_utilisation": 1.0 if listed else 0,
        "consumer_capacity": 1.0 if listed else 0,
        "exclusive_consumer_tag": holder,
        "single_active_consumer_tag": next((one.tag for one in listed if queue.consumers.is_active(one)), None)
        if queue.is_single_active
        else None,
        "memory": ready.size + unacked,
        "message_bytes": ready.size + unacked,
        "message_bytes_ready": ready.size,
        "message_bytes_unacknowledged": unacked,
        "message_bytes_persistent": 0,
        "message_bytes_ram": ready.size + unacked,
        "messages_persistent": 0,
        "messages_ram": count,
        "messages_ready_ram": ready.count,
        "messages_unacknowledged_ram": queue.unacked,
    }
    if queue.published:
        row["message_stats"] = counted({"publish": queue.published})
    return row


def of_consumer(one: Subscription) -> Row:
    """A consumer."""
    is_active = one.queue.consumers.is_active(one.consumer)
    return {
        "queue": {"name": one.queue.name, "vhost": one.vhost.name},
        "consumer_tag": one.consumer.tag,
        "ack_required": not one.consumer.no_ack,
        "exclusive": one.consumer.is_exclusive,
        "prefetch_count": one.consumer.prefetch,
        "arguments": one.consumer.arguments,
        "active": is_active,
        "activity_status": "up" if not one.queue.is_single_active else "single_active" if is_active else "waiting",
        "consumer_timeout": CONSUMER_TIMEOUT,
        "channel_details": _channel_details(one.connection, one.channel.number),
    }


def _channel_details(connection: Connection, number: int) -> Row:
    return {
        "name": channel_name(connection, number),
        "number": number,
        "node": NODE,
        "user": connection.agreed.user,
        "connection_name": connection.name,
        "peer_host": _ends(connection)["peer_host"],
        "peer_port": _ends(connection)["peer_port"],
    }


# connections and channels


def channel_name(connection: Connection, number: int) -> str:
    """`peer host:port -> host:port (1)`."""
    return f"{connection.name} ({number})"


def _ends(connection: Connection) -> Row:
    peer, _, here = connection.name.partition(" -> ")
    ends: Row = {}
    for prefix, end in (("peer_", peer), ("", here)):
        host, _, port = end.rpartition(":")
        ends[f"{prefix}host"] = host.strip("[]")
        ends[f"{prefix}port"] = int(port) if port.isdigit() else 0
    return ends


def of_connection(connection: Connection) -> Row:
    """A connection."""
    agreed, traffic = connection.agreed, connection.traffic
    return {
        "name": connection.name,
        "node": NODE,
        "vhost": agreed.vhost,
        "user": agreed.user,
        "user_who_performed_action": agreed.user,
        "protocol": "AMQP 0-9-1",
        "type": "network",
        "state": "blocked" if connection.is_blocked else "running",
        "auth_mechanism": agreed.mechanism,
        "channels": len(connection.channels),
        "channel_max": agreed.channel_max,
        "frame_max": agreed.frame_max,
        "timeout": agreed.heartbeat,
        "connected_at": int(traffic.since * 1000),
        "client_properties": agreed.properties,
        **_ends(connection),
        "ssl": False,
        **dict.fromkeys(("ssl_protocol", "ssl_cipher", "ssl_hash", "ssl_key_exchange")),
        **dict.fromkeys(("peer_cert_subject", "peer_cert_issuer", "peer_cert_validity", "peer_cert_serial_number")),
        "recv_cnt": traffic.reads,
        "recv_oct": traffic.received,
        "recv_oct_details": NO_RATE,
        "send_cnt": traffic.writes,
        "send_oct": traffic.sent,
        "send_oct_details": NO_RATE,
        "send_pend": connection.output.unsent,
    }


def of_channel(connection: Connection, channel: Channel) -> Row:
    """A channel; what it has sent and taken is counted from its tags."""
    publisher, deliveries = channel.publisher, channel.deliveries
    counts = {"deliver_get": deliveries.next_tag - 1}
    if publisher.count is not None:
        counts |= {"publish": publisher.count}
    ends = _ends(connection)
    return {
        "name": channel_name(connection, channel.number),
        "number": channel.number,
        "node": NODE,
        "vhost": channel.vhost.name,
        "user": connection.agreed.user,
        "user_who_performed_action": connection.agreed.user,
        "state": "running",
        "connection_details": {
            "name": connection.name,
            "peer_host": ends["peer_host"],
            "peer_port": ends["peer_port"],
        },
        "consumer_count": len(deliveries.consumers) + (deliveries.reply_consumer is not None),
        "confirm": publisher.count is not None,
        "transactional": publisher.held is not None,
        "prefetch_count": channel.prefetch,
        "global_prefetch_count": 0,
        "messages_unacknowledged": len(deliveries.unacked),
        "messages_unconfirmed": 0,
        "messages_uncommitted": len(publisher.held or ()),
        "acks_uncommitted": sum(len(taken) for _, taken in deliveries.held or ()),
        "message_stats": counted({name: count for name, count in counts.items() if count}),
    }


# the broker


def of_permissions(node: Node) -> Iterator[Row]:
    """Who may what, in each vhost."""
    for (vhost, user), one in sorted(node.accounts.permissions.items()):
        yield {"user": user, "vhost": vhost, "configure": one.configure, "write": one.write, "read": one.read}


def of_user(node: Node, name: str) -> Row:
    """A user; RabbitMQ shows administrators the hash of a password, too."""
    return {
        "name": name,
        "tags": list(node.accounts.tags[name]),
        "password_hash": node.accounts.hash_of(name),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "limits": {},
    }


VERSIONS: Row = {
    "rabbitmq_version": BEHAVES_AS,
    "product_name": "RabbitMQ",
    "product_version": BEHAVES_AS,
}
