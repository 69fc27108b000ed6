"""The table of all pages, and what each method on them does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from pamqp import commands

from waybill.broker.accounts import Permission
from waybill.broker.channel import Channel
from waybill.broker.connection import Connection
from waybill.broker.firehose import NODE
from waybill.broker.handshake import BEHAVES_AS
from waybill.broker.management import definitions, rows
from waybill.broker.management.call import CREATED, DONE, Answer, Call, Problem
from waybill.broker.management.content import arguments_of, body_of
from waybill.broker.management.operations import MODES, Inside
from waybill.broker.queue import Queue
from waybill.broker.vhost import FOREIGN_TYPES, VHost
from waybill.topology.declarations import EXCHANGE_TYPES
from waybill.topology.documents import OPERATOR_POLICY
from waybill.topology.policies import Policies, Policy
from waybill.topology.queue_arguments import ARGUMENTS_OF, written
from waybill.topology.values import Binding

Act = Callable[[Call], Answer]


# vhosts


def list_vhosts(call: Call) -> Answer:
    """Those that the user may see: whoever may see the broker sees all."""
    seen = call.vhosts()
    if call.is_monitor():
        seen = [one for _, one in sorted(call.node.vhosts.items())]
    return Answer(value=[rows.of_vhost(one, has_statistics=not call.asks("disable_stats")) for one in seen])


def show_vhost(call: Call) -> Answer:
    """One vhost, for administrators."""
    call.need_administrator()
    return Answer(value=rows.of_vhost(call.vhost()))


def put_vhost(call: Call) -> Answer:
    """Make or change a vhost; `tracing` switches the firehose on and off."""
    call.need_administrator()
    name, body = call.names["vhost"], call.body
    default_type = body.get("default_queue_type")
    if default_type not in (None, "undefined", *ARGUMENTS_OF):
        raise Problem.bad(f"Unsupported default queue type '{default_type}'")
    vhost = call.node.vhosts.get(name)
    is_new = vhost is None
    vhost = vhost or call.node.add_vhost(name, call.user)
    if "description" in body:
        vhost.description = call.text("description")
    if "tags" in body:
        vhost.tags = definitions.tags_of(body["tags"])
    if default_type in ARGUMENTS_OF:
        vhost.router.default_queue_type = str(default_type)
    if "tracing" in body:
        vhost.is_traced = call.flag("tracing")
    return CREATED if is_new else DONE


def delete_vhost(call: Call) -> Answer:
    """Delete a vhost."""
    call.need_administrator()
    call.node.delete_vhost(call.vhost().name)
    return DONE


# exchanges


def list_exchanges(call: Call) -> Answer:
    """The exchanges of one vhost, or of all."""
    return Answer(
        value=[
            rows.of_exchange(vhost, one) for vhost in _asked(call) for _, one in sorted(vhost.router.exchanges.items())
        ]
    )


def show_exchange(call: Call) -> Answer:
    """One exchange."""
    vhost = call.vhost()
    found = vhost.router.exchanges.get(call.exchange())
    if found is None:
        raise Problem.missing()
    return Answer(value={**rows.of_exchange(vhost, found), "incoming": [], "outgoing": []})


def put_exchange(call: Call) -> Answer:
    """Declare an exchange."""
    vhost, name = call.written_vhost(), call.exchange()
    is_new = name not in vhost.router.exchanges
    _inside(call, vhost).ask(
        commands.Exchange.Declare,
        exchange=name,
        exchange_type=call.text("type", "direct"),
        durable=call.flag("durable"),
        auto_delete=call.flag("auto_delete"),
        internal=call.flag("internal"),
        passive=False,
        nowait=False,
        arguments=arguments_of(call.table("arguments")),
    )
    return CREATED if is_new else DONE


def delete_exchange(call: Call) -> Answer:
    """Delete an exchange."""
    vhost, name = call.vhost(), call.exchange()
    if name not in vhost.router.exchanges:
        raise Problem.missing()
    _inside(call, vhost).ask(commands.Exchange.Delete, exchange=name, if_unused=call.asks("if-unused"), nowait=False)
    return DONE


def publish(call: Call) -> Answer:
    """Publish a message."""
    vhost = call.written_vhost()
    call.need("properties", "routing_key", "payload", "payload_encoding")
    body = body_of(call.text("payload"), call.text("payload_encoding"))
    inside = _inside(call, vhost)
    is_routed = inside.publish(call.exchange(), call.text("routing_key"), call.table("properties"), body)
    return Answer(value={"routed": is_routed})


# queues


def list_queues(call: Call) -> Answer:
    """The queues of one vhost, or of all."""
    vhosts = _asked(call)
    found = [(vhost, queue) for vhost in vhosts for _, queue in sorted(vhost.queues.items())]
    if call.asks("disable_stats"):
        return Answer(value=[rows.declared(vhost, queue) for vhost, queue in found])
    sizes = rows.unacked_bytes(call.node, vhosts)
    return Answer(value=[rows.of_queue(vhost, queue, sizes[queue]) for vhost, queue in found])


def show_queue(call: Call) -> Answer:
    """One queue, with its consumers."""
    vhost, queue = _queue(call)
    if call.asks("disable_stats"):
        return Answer(value=rows.declared(vhost, queue))
    listed = [one for one in rows.subscriptions(call.node, [vhost]) if one.queue is queue]
    row = rows.of_queue(vhost, queue, rows.unacked_bytes(call.node, [vhost])[queue])
    more = {"consumer_details": [rows.of_consumer(one) for one in listed], "incoming": [], "deliveries": []}
    return Answer(value={**row, **more, "garbage_collection": {}})


def put_queue(call: Call) -> Answer:
    """Declare a queue."""
    vhost, name = call.written_vhost(), call.names["queue"]
    is_new = name not in vhost.queues
    _inside(call, vhost).ask(
        commands.Queue.Declare,
        queue=name,
        durable=call.flag("durable"),
        auto_delete=call.flag("auto_delete"),
        exclusive=False,
        passive=False,
        nowait=False,
        arguments=arguments_of(call.table("arguments")),
    )
    return CREATED if is_new else DONE


def delete_queue(call: Call) -> Answer:
    """Delete a queue."""
    vhost, queue = _queue(call)
    _inside(call, vhost).ask(
        commands.Queue.Delete,
        queue=queue.name,
        if_unused=call.asks("if-unused"),
        if_empty=call.asks("if-empty"),
        nowait=False,
    )
    return DONE


def purge_queue(call: Call) -> Answer:
    """Drop what waits in a queue."""
    vhost, queue = _queue(call)
    _inside(call, vhost).ask(commands.Queue.Purge, queue=queue.name, nowait=False)
    return DONE


def get_messages(call: Call) -> Answer:
    """Take messages out of a queue, and perhaps put them back."""
    vhost = call.written_vhost()
    call.need("ackmode", "count", "encoding")
    mode, encoding = call.text("ackmode"), call.text("encoding")
    if mode not in MODES:
        known = ", ".join(MODES)
        raise Problem.bad(f"Invalid ackmode value: {mode}. Valid values are: {known}")
    if encoding not in ("auto", "base64"):
        raise Problem.bad("Unsupported encoding. Please use auto or base64.")
    truncate = call.number("truncate") if "truncate" in call.body else None
    found = _inside(call, vhost).get(call.names["queue"], call.number("count"), mode, encoding, truncate)
    return Answer(value=found)


# bindings


def list_bindings(call: Call) -> Answer:
    """The bindings of one vhost, or of all."""
    return Answer(value=[rows.of_binding(vhost, one) for vhost in _asked(call) for one in rows.bindings(vhost)])


def list_queue_bindings(call: Call) -> Answer:
    """Those to a queue."""
    vhost, name = call.vhost(), call.names["queue"]
    return _listed(vhost, [Binding("", name, name), *vhost.router.bindings_to(name)])


def list_bindings_out(call: Call) -> Answer:
    """Those from an exchange."""
    vhost, name = call.vhost(), call.exchange()
    return _listed(vhost, [one for one in rows.bindings(vhost) if one.source == name])


def list_bindings_in(call: Call) -> Answer:
    """Those to an exchange."""
    vhost = call.vhost()
    return _listed(vhost, vhost.router.bindings_to(call.exchange(), "exchange"))


def list_bindings_between(call: Call) -> Answer:
    """Those from an exchange to a queue or another exchange."""
    vhost = call.vhost()
    return _listed(vhost, _between(call, vhost))


def _listed(vhost: VHost, found: Iterable[Binding]) -> Answer:
    return Answer(value=[rows.of_binding(vhost, one) for one in rows.in_order(found)])


def _between(call: Call, vhost: VHost) -> list[Binding]:
    kind, name, source = _kind(call), call.names["destination"], call.exchange()
    if not source:
        return [Binding("", name, name)] if kind == "queue" and name in vhost.queues else []
    return [one for one in vhost.router.bindings_to(name, kind) if one.source == source]


def _kind(call: Call) -> str:
    if call.names["kind"] not in ("q", "e"):
        raise Problem.missing()
    return "queue" if call.names["kind"] == "q" else "exchange"


def bind(call: Call) -> Answer:
    """Make a binding."""
    vhost, source, name = call.written_vhost(), call.exchange(), call.names["destination"]
    key, arguments = call.text("routing_key"), arguments_of(call.table("arguments"))
    about: dict[str, Any] = {"routing_key": key, "arguments": arguments, "nowait": False}
    if _kind(call) == "queue":
        _inside(call, vhost).ask(commands.Queue.Bind, exchange=source, queue=name, **about)
        binding = Binding(source, name, key, arguments)
    else:
        _inside(call, vhost).ask(commands.Exchange.Bind, source=source, destination=name, **about)
        binding = Binding(source, name, key, arguments, "exchange")
    path = "/".join(quote_plus(part) for part in (name, rows.properties_key(binding)))
    return Answer(201, headers={"Location": path})


def show_binding(call: Call) -> Answer:
    """One binding."""
    vhost = call.vhost()
    return Answer(value=rows.of_binding(vhost, _binding(call, vhost)))


def unbind(call: Call) -> Answer:
    """Take a binding away."""
    vhost = call.vhost()
    binding = _binding(call, vhost)
    about: dict[str, Any] = {"routing_key": binding.binding_key, "arguments": dict(binding.arguments)}
    if binding.destination_type == "queue":
        _inside(call, vhost).ask(commands.Queue.Unbind, exchange=binding.source, queue=binding.destination, **about)
    else:
        _inside(call, vhost).ask(
            commands.Exchange.Unbind, source=binding.source, destination=binding.destination, nowait=False, **about
        )
    return DONE


def _binding(call: Call, vhost: VHost) -> Binding:
    given, between = call.names["properties_key"], {rows.properties_key(one): one for one in _between(call, vhost)}
    plain = {unquote_plus(key): one for key, one in between.items()}  # some clients don't quote the key once more
    found = between.get(given) or plain.get(unquote_plus(given))
    if found is None:
        raise Problem.missing()
    return found


# consumers, connections, channels


def list_consumers(call: Call) -> Answer:
    """The consumers of one vhost, or of all."""
    return Answer(value=[rows.of_consumer(one) for one in rows.subscriptions(call.node, _asked(call), call.only)])


def list_connections(call: Call) -> Answer:
    """The connections to one vhost, or to all."""
    return Answer(value=[rows.of_connection(one) for one in rows.connections(call.node, _asked(call), call.only)])


def list_connections_of_user(call: Call) -> Answer:
    """A user's connections."""
    found = rows.connections(call.node, call.vhosts(), call.only)
    row = [rows.of_connection(one) for one in found if one.agreed.user == call.names["user"]]
    return Answer(value=[{name: one[name] for name in ("name", "node", "user", "vhost")} for one in row])


def show_connection(call: Call) -> Answer:
    """One connection; what a list writes as null is empty text here."""
    row = rows.of_connection(_connection(call))
    return Answer(value={name: "" if value is None else value for name, value in row.items()})


def delete_connection(call: Call) -> Answer:
    """Close a connection."""
    _connection(call).force(call.reason or "Closed via management plugin")
    return DONE


def list_channels_of_connection(call: Call) -> Answer:
    """A connection's channels."""
    return Answer(value=_channels(call, _connection(call)))


def list_channels(call: Call) -> Answer:
    """The channels in one vhost, or in all."""
    found = rows.channels(call.node, _asked(call), call.only)
    return Answer(value=[rows.of_channel(connection, one) for connection, one in found])


def show_channel(call: Call) -> Answer:
    """One channel, with its consumers."""
    for connection, channel in rows.channels(call.node, call.vhosts(), call.only):
        if rows.channel_name(connection, channel.number) == call.names["channel"]:
            return Answer(value=_with_consumers(call, connection, channel))
    raise Problem.missing()


def _with_consumers(call: Call, connection: Connection, channel: Channel) -> rows.Row:
    listed = [one for one in rows.subscriptions(call.node, [channel.vhost]) if one.channel is channel]
    more = {"consumer_details": [rows.of_consumer(one) for one in listed], "publishes": [], "deliveries": []}
    return {**rows.of_channel(connection, channel), **more}


def _channels(call: Call, connection: Connection) -> list[rows.Row]:
    found = rows.channels(call.node, call.vhosts(), call.only)
    return [rows.of_channel(one, channel) for one, channel in found if one is connection]


def _connection(call: Call) -> Connection:
    for one in rows.connections(call.node, call.vhosts(), call.only):
        if one.name == call.names["connection"]:
            return one
    raise Problem.missing()


# policies


def list_policies(call: Call) -> Answer:
    """The policies of one vhost, or of all."""
    return Answer(value=[row for one in _asked(call) for row in definitions.policies(one, _policies(call, one))])


def show_policy(call: Call) -> Answer:
    """One policy."""
    vhost = call.vhost()
    return Answer(value=_policy(call, vhost))


def put_policy(call: Call) -> Answer:
    """Set a policy: it holds for living queues and exchanges, too."""
    call.need_policymaker()
    vhost = call.written_vhost()
    call.need("pattern", "definition")
    policy = _checked(call)
    held = _policies(call, vhost)
    is_new = all(one["name"] != policy["name"] for one in held)
    _set_policies(call, vhost, definitions.with_policies(held, (policy,)))
    return CREATED if is_new else DONE


def delete_policy(call: Call) -> Answer:
    """Take a policy away."""
    call.need_policymaker()
    vhost = call.vhost()
    name = _policy(call, vhost)["name"]
    _set_policies(call, vhost, tuple(one for one in _policies(call, vhost) if one["name"] != name))
    return DONE


def _policies(call: Call, vhost: VHost) -> tuple[Policy, ...]:
    return vhost.router.policies.operators if _is_operators(call) else vhost.router.policies.given


def _set_policies(call: Call, vhost: VHost, policies: tuple[Policy, ...]) -> None:
    held = vhost.router.policies
    vhost.set_policies(Policies(held.given, policies) if _is_operators(call) else Policies(policies, held.operators))


def _is_operators(call: Call) -> bool:
    return call.names.get("page") == "operator-policies"


def _policy(call: Call, vhost: VHost) -> rows.Row:
    for row in definitions.policies(vhost, _policies(call, vhost)):
        if row["name"] == call.names["policy"]:
            return row
    raise Problem.missing()


NUMBERS = {
    "message-ttl": "message TTL",
    "expires": "queue expiry",
    "max-length": "maximum length",
    "max-length-bytes": "maximum length in bytes",
    "max-in-memory-length": "maximum memory in messages",
    "max-in-memory-bytes": "maximum memory in bytes",
    "delivery-limit": "delivery limit",
    "consumer-timeout": "consumer timeout",
    "stream-max-segment-size-bytes": "segment size",
    "initial-cluster-size": "initial cluster size",
    "target-group-size": "target group size",
    "queue-version": "queue version",
}
"""Settings that are whole numbers -> what RabbitMQ calls them."""

TEXTS = frozenset(
    {"alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy", "queue-mode"}
    | {"overflow", "max-age", "queue-leader-locator", "queue-master-locator"}
)

OF_OPERATORS = frozenset(
    {"expires", "message-ttl", "max-length", "max-length-bytes", "max-in-memory-length", "max-in-memory-bytes"}
    | {"delivery-limit", "target-group-size", "overflow"}
)
"""What an operator may set."""

KINDS = ("queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all")


def _checked(call: Call) -> Policy:
    definition = call.table("definition")
    known = OF_OPERATORS if _is_operators(call) else TEXTS | NUMBERS.keys()
    unknown = {name: value for name, value in definition.items() if name not in known}
    kind = call.body.get("apply-to") or "all"
    if kind not in KINDS:
        listed = "'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'"
        raise _invalid(f"apply-to '{kind}' unrecognised; should be one of: {listed}")
    priority = call.body.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise _invalid(f"priority should be a number, actually was {written(priority)}")
    pattern = call.text("pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise _invalid(f"pattern should be regular expression but is invalid: {error}") from None
    if not definition:
        raise _invalid("no policy provided")
    if unknown:
        listed = ",".join(f"{{{written(name)},{written(value)}}}" for name, value in unknown.items())
        raise _invalid(f"[{listed}] are not recognised policy settings")
    for name, value in definition.items():
        if name in NUMBERS and not _is_count(name, value):
            raise _invalid(f"{written(value)} is not a valid {NUMBERS[name]}")
        if name in TEXTS and not isinstance(value, str):
            raise _invalid(f"{written(value)} is not a valid {name}")
    name = call.names["policy"]
    return {"name": name, "pattern": pattern, "apply-to": kind, "priority": priority, "definition": dict(definition)}


def _is_count(name: str, value: object) -> bool:
    least = -1 if name == "delivery-limit" else 0
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _invalid(what: str) -> Problem:
    return Problem.bad(f"Validation failed\n\n{what}\n")


def list_parameters(call: Call) -> Answer:
    """The operator policies, as they stand among the parameters; this broker has no other."""
    return Answer(
        value=[
            definitions.operator_parameter(row)
            for vhost in _asked(call)
            if call.names.get("component", OPERATOR_POLICY) == OPERATOR_POLICY
            for row in definitions.policies(vhost, vhost.router.policies.operators)
        ]
    )


# users and permissions


def list_users(call: Call) -> Answer:
    """All users."""
    call.need_administrator()
    return Answer(value=[rows.of_user(call.node, name) for name in sorted(call.node.accounts.tags)])


def list_users_without_permissions(call: Call) -> Answer:
    """Those who may open no vhost."""
    call.need_administrator()
    accounts = call.node.accounts
    able = {user for _, user in accounts.permissions}
    return Answer(value=[rows.of_user(call.node, name) for name in sorted(accounts.tags) if name not in able])


def show_user(call: Call) -> Answer:
    """One user."""
    call.need_administrator()
    return Answer(value=rows.of_user(call.node, _user(call)))


def put_user(call: Call) -> Answer:
    """Make or change a user."""
    call.need_administrator()
    if "tags" not in call.body:
        raise Problem.bad("tags_not_present")
    if call.body.get("password_hash") and "password" not in call.body:
        raise Problem.bad("this broker needs the password itself: by its hash nobody can log in")
    is_new = call.node.accounts.put(
        call.names["user"], call.text("password") or None, definitions.tags_of(call.body["tags"])
    )
    return CREATED if is_new else DONE


def delete_user(call: Call) -> Answer:
    """Delete a user."""
    call.need_administrator()
    call.node.accounts.delete(_user(call))
    return DONE


def _user(call: Call) -> str:
    name = call.names["user"]
    if name not in call.node.accounts.tags:
        raise Problem.missing()
    return name


def list_permissions(call: Call) -> Answer:
    """All permissions, or a vhost's, or a user's."""
    call.need_administrator()
    found: Iterable[rows.Row] = rows.of_permissions(call.node)
    if "vhost" in call.names:
        name = call.vhost().name
        found = [one for one in found if one["vhost"] == name]
    if "user" in call.names:
        name = _user(call)
        found = [one for one in found if one["user"] == name]
    return Answer(value=list(found))


def show_permission(call: Call) -> Answer:
    """One permission."""
    found: list[rows.Row] = list_permissions(call).value
    if not found:
        raise Problem.missing()
    return Answer(value=found[0])


def put_permission(call: Call) -> Answer:
    """Give a user a permission."""
    call.need_administrator()
    call.need("configure", "write", "read")
    key, accounts = (call.names["vhost"], call.names["user"]), call.node.accounts
    if key[0] not in call.node.vhosts or key[1] not in accounts.tags:
        raise Problem.bad("vhost_or_user_not_found")
    is_new = key not in accounts.permissions
    accounts.permissions[key] = Permission(*(call.text(name) for name in ("configure", "write", "read")))
    return CREATED if is_new else DONE


def delete_permission(call: Call) -> Answer:
    """Take a permission away."""
    show_permission(call)
    del call.node.accounts.permissions[call.names["vhost"], call.names["user"]]
    return DONE


# definitions


def export_definitions(call: Call) -> Answer:
    """All that is declared."""
    call.need_administrator()
    if "vhost" in call.names:
        return Answer(value=definitions.of_vhost(call.vhost()))
    return Answer(value=definitions.of_broker(call))


def import_definitions(call: Call) -> Answer:
    """Declare what a document holds."""
    call.need_administrator()
    if "vhost" in call.names:
        definitions.load_into_vhost(call.written_vhost(), call.body)
    else:
        definitions.load_into_broker(call, call.body)
    return DONE


# the broker


def overview(call: Call) -> Answer:
    """What the broker says of itself."""
    node, site, vhosts = call.node, call.site, call.vhosts()
    queues = [queue for vhost in vhosts for queue in vhost.queues.values()]
    channels = rows.channels(node, vhosts)
    churn = ("connection_created", "connection_closed", "queue_declared", "queue_created", "queue_deleted")
    return Answer(
        value={
            "management_version": BEHAVES_AS,
            "rates_mode": "none",
            "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
            "exchange_types": _exchange_types(),
            **rows.VERSIONS,
            "cluster_name": NODE,
            "cluster_tags": {},
            "node_tags": {},
            "node": NODE,
            "erlang_version": "none",
            "erlang_full_version": "none: Waybill's embedded broker, in Python",
            "disable_stats": False,
            "enable_queue_totals": False,
            "is_op_policy_updating_enabled": True,
            "default_queue_type": "classic",
            "statistics_db_event_queue": 0,
            "message_stats": {},
            "churn_rates": rows.counted(dict.fromkeys((*churn, "channel_created", "channel_closed"), 0)),
            "queue_totals": rows.totals(queues),
            "object_totals": {
                "connections": len(rows.connections(node, vhosts)),
                "channels": len(channels),
                "consumers": sum(len(channel.deliveries.consumers) for _, channel in channels),
                "exchanges": sum(len(vhost.router.exchanges) for vhost in vhosts),
                "queues": len(queues),
            },
            "listeners": [_listener(call, "amqp", site.port), _listener(call, "http", site.management_port)],
            "contexts": [
                {
                    "node": NODE,
                    "description": "RabbitMQ Management",
                    "path": "/",
                    "port": str(site.management_port),
                    "ssl_opts": [],
                }
            ],
        }
    )


def _listener(call: Call, protocol: str, port: int) -> rows.Row:
    about = {"protocol": protocol, "ip_address": call.site.host, "port": port, "socket_opts": [], "tls": False}
    return {"node": NODE, **about}


def _exchange_types() -> list[rows.Row]:
    kinds = sorted(EXCHANGE_TYPES - FOREIGN_TYPES)
    return [{"name": one, "description": f"exchange type {one}", "enabled": True} for one in kinds]


def whoami(call: Call) -> Answer:
    """Who asks."""
    return Answer(value={"name": call.user, "tags": list(call.tags), "is_internal_user": True})


def version(_: Call) -> Answer:
    """The version of RabbitMQ that it behaves as."""
    return Answer(value=BEHAVES_AS)


def cluster_name(_: Call) -> Answer:
    """The cluster's name, which is the node's."""
    return Answer(value={"name": NODE})


def list_nodes(call: Call) -> Answer:
    """The one node."""
    call.need_monitor()
    return Answer(value=[_node(call)])


def show_node(call: Call) -> Answer:
    """The one node."""
    call.need_monitor()
    if call.names["node"] != NODE:
        raise Problem.missing()
    return Answer(value=_node(call))


def _node(call: Call) -> rows.Row:
    node = call.node
    return {
        "name": NODE,
        "type": "disc",
        "running": True,
        "being_drained": False,
        "os_pid": str(os.getpid()),
        "processors": os.cpu_count() or 1,
        "uptime": int((node.clock.wall - call.site.started) * 1000),
        "run_queue": 0,
        "rates_mode": "none",
        "mem_used": node.memory.held,
        "mem_limit": node.memory.limit,
        "mem_alarm": node.memory.is_alarmed,
        "disk_free": 0,
        "disk_free_limit": 0,
        "disk_free_alarm": False,
        "fd_used": len(node.connections),
        "fd_total": node.limits.connections,
        "sockets_used": len(node.connections),
        "sockets_total": node.limits.connections,
        "proc_used": 0,
        "proc_total": 0,
        "partitions": [],
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_management_agent"],
        "exchange_types": _exchange_types(),
        "applications": [],
        "auth_mechanisms": [],
        "log_files": [],
        "config_files": [],
        "contexts": [],
        "net_ticktime": 60,
    }


DEPRECATED: Mapping[str, tuple[str, str]] = {
    "queue_master_locator": ("denied_by_default", "denied"),
    "global_qos": ("denied_by_default", "denied"),
    "amqp_filter_set_bug": ("denied_by_default", "denied"),
    "amqp_address_v1": ("denied_by_default", "denied"),
    "management_metrics_collection": ("permitted_by_default", "permitted"),
    "transient_nonexcl_queues": ("permitted_by_default", "permitted"),
    "classic_queue_mirroring": ("removed", "denied"),
    "ram_node_type": ("removed", "denied"),
}
"""Deprecated feature -> its phase and state in RabbitMQ 4.3.6."""


def list_deprecated(_: Call) -> Answer:
    """The deprecated features, as a RabbitMQ whose settings nobody has changed."""
    about = {"desc": "", "doc_url": "", "provided_by": "rabbit"}
    found = DEPRECATED.items()
    return Answer(
        value=[{"name": name, "deprecation_phase": phase, "state": state, **about} for name, (phase, state) in found]
    )


def list_deprecated_in_use(call: Call) -> Answer:
    """Those that a queue here makes use of."""
    every = [queue.declaration for vhost in call.node.vhosts.values() for queue in vhost.queues.values()]
    name = "transient_nonexcl_queues"
    if all(one.durable or one.exclusive for one in every):
        return Answer(value=[])
    row = {"name": name, "deprecation_phase": DEPRECATED[name][0], "desc": "", "doc_url": "", "provided_by": "rabbit"}
    return Answer(value=[row])


def nothing(_: Call) -> Answer:
    """An empty list: this broker has none of these."""
    return Answer(value=[])


# health


def is_well(_: Call) -> Answer:
    """It answers."""
    return Answer(value={"status": "ok"})


def check_alarms(call: Call) -> Answer:
    """Whether too much is kept."""
    if not call.node.memory.is_alarmed:
        return Answer(value={"status": "ok"})
    alarms = [{"node": NODE, "resource": "memory"}]
    return Answer(503, {"status": "failed", "reason": "There are alarms in effect in the cluster", "alarms": alarms})


def check_quorum(_: Call) -> Answer:
    """One node is all there is."""
    return Answer(value={"status": "ok", "reason": "single node cluster"})


def check_port(call: Call) -> Answer:
    """Whether something listens at a port."""
    if not call.names["port"].isascii() or not call.names["port"].isdigit():
        raise Problem.bad("Invalid port")
    port, ports = int(call.names["port"]), [call.site.management_port, call.site.port]
    if port in ports:
        return Answer(value={"status": "ok", "port": port})
    return Answer(503, {"status": "failed", "reason": "No active listener", "missing": port, "ports": ports})


def check_protocol(call: Call) -> Answer:
    """Whether a protocol is listened for."""
    protocols, asked = ["amqp", "http"], call.names["protocol"]
    if asked in (*protocols, "amqp091", "amqp0-9-1"):
        return Answer(value={"status": "ok", "protocols": protocols})
    failed = {"status": "failed", "reason": "No active listener", "missing": [asked], "protocols": protocols}
    return Answer(503, failed)


def check_aliveness(call: Call) -> Answer:
    """A vhost that is there is alive."""
    call.vhost()
    return Answer(value={"status": "ok"})


# what the pages share


def _asked(call: Call) -> list[VHost]:
    """The vhost that the path names, or all that the user may see."""
    return [call.vhost()] if "vhost" in call.names else call.vhosts()


def _queue(call: Call) -> tuple[VHost, Queue]:
    vhost = call.vhost()
    found = vhost.queues.get(call.names["queue"])
    if found is None:
        raise Problem.missing()
    return vhost, found


def _inside(call: Call, vhost: VHost) -> Inside:
    return Inside(call.user, call.node.accounts.rights(call.user, vhost.name), vhost)


@dataclass(frozen=True, slots=True)
class Page:
    """One path: what each method does there.

    Args:
        path: after `/api/`, a name in braces for whatever stands there.
        is_paged: `?page=` cuts its list into pages.
    """

    path: str
    get: Act | None = None
    put: Act | None = None
    post: Act | None = None
    delete: Act | None = None
    is_paged: bool = False

    def act(self, method: str) -> Act | None:
        """What a method does; HEAD is GET."""
        found: Act | None = getattr(self, "get" if method == "HEAD" else method.lower(), None)
        return found

    @property
    def allowed(self) -> str:
        """The methods, as the header `Allow` lists them."""
        known = [name.upper() for name in ("get", "put", "post", "delete") if getattr(self, name) is not None]
        return ", ".join([*(["HEAD"] if self.get else []), *known, "OPTIONS"])


BETWEEN = "bindings/{vhost}/e/{exchange}/{kind}/{destination}"

PAGES = (
    Page("overview", overview),
    Page("whoami", whoami),
    Page("version", version),
    Page("cluster-name", cluster_name),
    Page("nodes", list_nodes),
    Page("nodes/{node}", show_node),
    Page("extensions", nothing),
    Page("vhosts", list_vhosts),
    Page("vhosts/{vhost}", show_vhost, put=put_vhost, delete=delete_vhost),
    Page("vhosts/{vhost}/permissions", list_permissions),
    Page("vhosts/{vhost}/topic-permissions", nothing),
    Page("vhosts/{vhost}/connections", list_connections, is_paged=True),
    Page("vhosts/{vhost}/channels", list_channels, is_paged=True),
    Page("exchanges", list_exchanges, is_paged=True),
    Page("exchanges/{vhost}", list_exchanges, is_paged=True),
    Page("exchanges/{vhost}/{exchange}", show_exchange, put=put_exchange, delete=delete_exchange),
    Page("exchanges/{vhost}/{exchange}/publish", post=publish),
    Page("exchanges/{vhost}/{exchange}/bindings/source", list_bindings_out),
    Page("exchanges/{vhost}/{exchange}/bindings/destination", list_bindings_in),
    Page("queues", list_queues, is_paged=True),
    Page("queues/{vhost}", list_queues, is_paged=True),
    Page("queues/{vhost}/{queue}", show_queue, put=put_queue, delete=delete_queue),
    Page("queues/{vhost}/{queue}/contents", delete=purge_queue),
    Page("queues/{vhost}/{queue}/get", post=get_messages),
    Page("queues/{vhost}/{queue}/bindings", list_queue_bindings),
    Page("bindings", list_bindings),
    Page("bindings/{vhost}", list_bindings),
    Page(BETWEEN, list_bindings_between, post=bind),
    Page(BETWEEN + "/{properties_key}", show_binding, delete=unbind),
    Page("consumers", list_consumers),
    Page("consumers/{vhost}", list_consumers),
    Page("connections", list_connections, is_paged=True),
    Page("connections/username/{user}", list_connections_of_user),
    Page("connections/{connection}", show_connection, delete=delete_connection),
    Page("connections/{connection}/channels", list_channels_of_connection),
    Page("channels", list_channels, is_paged=True),
    Page("channels/{channel}", show_channel),
    *(
        page
        for kind in ("policies", "operator-policies")
        for page in (
            Page(kind, list_policies),
            Page(kind + "/{vhost}", list_policies),
            Page(kind + "/{vhost}/{policy}", show_policy, put=put_policy, delete=delete_policy),
        )
    ),
    Page("parameters", list_parameters),
    Page("parameters/{component}", list_parameters),
    Page("parameters/{component}/{vhost}", list_parameters),
    Page("global-parameters", nothing),
    Page("vhost-limits", nothing),
    Page("vhost-limits/{vhost}", nothing),
    Page("user-limits", nothing),
    Page("user-limits/{user}", nothing),
    Page("users", list_users),
    Page("users/without-permissions", list_users_without_permissions),
    Page("users/{user}", show_user, put=put_user, delete=delete_user),
    Page("users/{user}/permissions", list_permissions),
    Page("users/{user}/topic-permissions", nothing),
    Page("permissions", list_permissions),
    Page("permissions/{vhost}/{user}", show_permission, put=put_permission, delete=delete_permission),
    Page("topic-permissions", nothing),
    Page("definitions", export_definitions, post=import_definitions),
    Page("definitions/{vhost}", export_definitions, post=import_definitions),
    Page("deprecated-features", list_deprecated),
    Page("deprecated-features/used", list_deprecated_in_use),
    Page("feature-flags", nothing),
    Page("health/checks/alarms", check_alarms),
    Page("health/checks/local-alarms", check_alarms),
    Page("health/checks/node-is-quorum-critical", check_quorum),
    Page("health/checks/virtual-hosts", is_well),
    Page("health/checks/is-in-service", is_well),
    Page("health/checks/ready-to-serve-clients", is_well),
    Page("health/checks/below-node-connection-limit", is_well),
    Page("health/checks/certificate-expiration/{within}/{unit}", is_well),
    Page("health/checks/metadata-store/initialized", is_well),
    Page("health/checks/quorum-queues-without-elected-leaders/all-vhosts", is_well),
    Page("health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}", is_well),
    Page("health/checks/port-listener/{port}", check_port),
    Page("health/checks/protocol-listener/{protocol}", check_protocol),
    Page("aliveness-test/{vhost}", check_aliveness),
    Page("healthchecks/node", is_well),
)


def page_for(segments: tuple[str, ...]) -> tuple[Page, dict[str, str]]:
    """The page at a path, and the names in it.

    Args:
        segments: of the path after `/api/`, decoded.

    Raises:
        Problem: there is none.
    """
    for page in PAGES:
        parts = page.path.split("/")
        if len(parts) != len(segments):
            continue
        if all(part.startswith("{") or part == given for part, given in zip(parts, segments, strict=True)):
            named = zip(parts, segments, strict=True)
            return page, {part[1:-1]: given for part, given in named if part.startswith("{")} | {"page": parts[0]}
    raise Problem.missing()
