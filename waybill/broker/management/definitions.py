"""The document of definitions: of the whole broker, and of one vhost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from waybill.broker.accounts import Permission
from waybill.broker.firehose import NODE
from waybill.broker.management import rows
from waybill.broker.management.call import Call, Problem
from waybill.broker.vhost import VHost
from waybill.errors import InputError, ProtocolRefusal, TopologyError
from waybill.topology import Topology
from waybill.topology.documents import OPERATOR_POLICY, SECTIONS, TELLING, contents, used_vhosts
from waybill.topology.policies import Policies, Policy
from waybill.topology.values import PREDECLARED

POLICY = ("vhost", "name", "pattern", "apply-to", "definition", "priority")


def of_broker(call: Call) -> rows.Row:
    """All that is declared, users and permissions included."""
    node = call.node
    parts = [_contents(vhost) for _, vhost in sorted(node.vhosts.items())]
    return {
        **rows.VERSIONS,
        "rabbit_version": rows.VERSIONS["rabbitmq_version"],
        "rabbitmq_definition_format": "cluster",
        "original_cluster_name": NODE,
        "explanation": f"Definitions of cluster '{NODE}'",
        "users": [rows.of_user(node, name) for name in sorted(node.accounts.tags)],
        "vhosts": [_vhost(vhost) for _, vhost in sorted(node.vhosts.items())],
        "permissions": list(rows.of_permissions(node)),
        "topic_permissions": [],
        "global_parameters": [],
        **{name: [row for part in parts for row in part[name]] for name in SECTIONS},
    }


def of_vhost(vhost: VHost) -> rows.Row:
    """What one vhost holds; the entries don't name it."""
    about = _vhost(vhost)
    return {
        **rows.VERSIONS,
        "rabbit_version": rows.VERSIONS["rabbitmq_version"],
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": vhost.name,
        "explanation": f"Definitions of virtual host '{vhost.name}'",
        "description": vhost.description,
        "metadata": about["metadata"],
        "limits": {},
        **{name: [_without(row, ("vhost",)) for row in found] for name, found in _contents(vhost).items()},
    }


def _vhost(vhost: VHost) -> rows.Row:
    row = rows.of_vhost(vhost, has_statistics=False)
    return {name: row[name] for name in ("name", "description", "tags", "default_queue_type", "metadata")} | {
        "limits": []
    }


def _contents(vhost: VHost) -> dict[str, list[rows.Row]]:
    """RabbitMQ leaves out what a restart wouldn't bring back: internal exchanges, exclusive queues, and its own."""
    router = vhost.router
    exchanges = [one for name, one in sorted(router.exchanges.items()) if name not in PREDECLARED and not one.internal]
    queues = [one for _, one in sorted(vhost.queues.items()) if not one.declaration.exclusive]
    return {
        "exchanges": [
            _without(rows.of_exchange(vhost, one), ("internal", "policy", "user_who_performed_action"))
            for one in exchanges
        ],
        "queues": [
            {
                name: row[name]
                for row in (rows.declared(vhost, one),)
                for name in ("name", "vhost", "type", "durable", "auto_delete", "arguments")
            }
            for one in queues
        ],
        "bindings": [
            _without(rows.of_binding(vhost, one), ("properties_key",)) for one in rows.in_order(router.bindings)
        ],
        "policies": policies(vhost, router.policies.given),
        "parameters": [operator_parameter(row) for row in policies(vhost, router.policies.operators)],
    }


def _without(row: rows.Row, names: Iterable[str]) -> rows.Row:
    return {name: value for name, value in row.items() if name not in names}


def policies(vhost: VHost, listed: Iterable[Policy]) -> list[rows.Row]:
    """Policies as rows."""
    found = [{"vhost": vhost.name, "apply-to": "all", "priority": 0, **one} for one in listed]
    return [{name: row[name] for name in POLICY} for row in sorted(found, key=lambda row: row["name"])]


def operator_parameter(row: rows.Row) -> rows.Row:
    """An operator policy as it stands among the parameters."""
    return {
        "vhost": row["vhost"],
        "component": OPERATOR_POLICY,
        "name": row["name"],
        "value": _without(row, ("vhost", "name")),
    }


# in


def load_into_broker(call: Call, document: Mapping[str, Any]) -> None:
    """Take a whole broker's document: vhosts and users are made, what is there stays."""
    node = call.node
    for entry in _entries(document, "vhosts"):
        if entry.get("name") not in node.vhosts:
            node.add_vhost(str(entry.get("name")), call.user)
    for entry in _entries(document, "users"):
        name, tags = str(entry.get("name")), entry.get("tags", ())
        if name not in node.accounts.tags:  # of a password only the hash is known, by which nobody can log in here
            node.accounts.put(name, entry.get("password"), tags_of(tags))
    for entry in _entries(document, "permissions"):
        vhost, user = str(entry.get("vhost")), str(entry.get("user"))
        if vhost in node.vhosts and user in node.accounts.tags:
            node.accounts.permissions[vhost, user] = Permission(
                *(str(entry.get(name, "")) for name in ("configure", "write", "read"))
            )
    try:
        named = used_vhosts(document, "definitions")
    except InputError as error:
        raise Problem.bad(str(error)) from None
    for name in sorted(named):
        if name not in node.vhosts:
            raise Problem.bad(f'Please create virtual host "{name}" prior to importing definitions.')
    for name in sorted(named):
        of_it = {one: [row for row in _entries(document, one) if row.get("vhost") == name] for one in SECTIONS}
        load_into_vhost(node.vhosts[name], of_it)


def load_into_vhost(vhost: VHost, document: Mapping[str, Any]) -> None:
    """Take what a document holds, whichever vhost its entries name.

    What is there stays; policies are replaced by those of their name.
    """
    if not TELLING & document.keys():
        return
    try:
        exchanges, queues, bindings, _, default_type, new = contents(
            _with_ends(vhost, document), vhost.name, "definitions"
        )
        _merge(vhost, new)
        vhost.restore(Topology(exchanges, queues, bindings, vhost.name, default_type, vhost.router.policies))
    except InputError as error:
        raise Problem.bad(str(error)) from None
    except (TopologyError, ProtocolRefusal) as refusal:
        raise Problem.bad(refusal.text) from None


def _with_ends(vhost: VHost, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document with what is in the vhost already: bindings may lead from and to that."""
    listed = {name: [_without(dict(one), ("vhost",)) for one in _entries(document, name)] for name in SECTIONS}
    named = {name: {one.get("name") for one in listed[name]} for name in ("exchanges", "queues")}
    exchanges = [one for name, one in vhost.router.exchanges.items() if name not in PREDECLARED]
    for one in exchanges:
        if one.name not in named["exchanges"]:
            listed["exchanges"].append(rows.of_exchange(vhost, one))
    for queue in vhost.queues.values():
        if queue.name not in named["queues"]:
            listed["queues"].append(rows.declared(vhost, queue))
    return listed


def _merge(vhost: VHost, new: Policies) -> None:
    if not new.given and not new.operators:
        return
    held = vhost.router.policies
    vhost.set_policies(Policies(with_policies(held.given, new.given), with_policies(held.operators, new.operators)))


def with_policies(held: tuple[Policy, ...], new: tuple[Policy, ...]) -> tuple[Policy, ...]:
    """Policies with others, which take the place of those of their name."""
    names = {one["name"] for one in new}
    return (*(one for one in held if one["name"] not in names), *new)


def tags_of(given: object) -> tuple[str, ...]:
    """A user's tags, as a list or as text with commas."""
    listed = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else ()
    return tuple(one.strip() for one in map(str, listed) if one.strip())


def _entries(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = document.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise Problem.bad(f"{name}: expected a list of objects")
    return found
