"""What the methods of the handshake do, between the protocol header and `connection.open-ok`.

Whoever has not logged in is told little: RabbitMQ closes such a connection without a word, and not at once, unless
the client has announced that it understands a refused login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pamqp import commands

from waybill.broker import handshake
from waybill.broker.handshake import State
from waybill.broker.methods import answer
from waybill.errors import ProtocolRefusal

if TYPE_CHECKING:
    from waybill.broker.connection import Connection

LOGIN_REFUSED = "Login was refused"


def on_start_ok(connection: Connection, method: Any) -> None:
    """`connection.start-ok`: who is there, and what the client understands."""
    given = method.client_properties.get("capabilities")
    capabilities: dict[str, Any] = given if isinstance(given, dict) else {}
    connection.is_told_of_cancels = capabilities.get("consumer_cancel_notify") is True
    connection.is_told_of_blocks = capabilities.get("connection.blocked") is True
    try:
        user = handshake.user_of(method.mechanism, method.response, connection.node.users)
    except ValueError:
        connection.fall_silent()
        return
    if user is None:
        if capabilities.get("authentication_failure_close") is not True:
            connection.fall_silent()
            return
        how = f"using authentication mechanism {method.mechanism}. For details see the broker logfile."
        raise ProtocolRefusal(403, f"{LOGIN_REFUSED} {how}")
    connection.user = user
    connection.state = State.TUNING
    limits = connection.node.limits
    offer = {"channel_max": limits.channel_max, "frame_max": limits.frame_max, "heartbeat": limits.heartbeat}
    connection.write_method(answer(commands.Connection.Tune, **offer), 0)


def on_tune_ok(connection: Connection, method: Any) -> None:
    """`connection.tune-ok`: no more than was offered."""
    limits = connection.node.limits
    for name, offered in (("frame_max", limits.frame_max), ("channel_max", limits.channel_max)):
        problem = handshake.tuning_problem(name, getattr(method, name), offered, handshake.LEAST[name])
        if problem is not None:
            raise ProtocolRefusal(530, problem)
    connection.agree(method.frame_max, method.channel_max, method.heartbeat)
    connection.state = State.OPENING


def on_open(connection: Connection, method: Any) -> None:
    """`connection.open`: a vhost is made when it is first opened."""
    connection.start_running(connection.node.vhost(method.virtual_host))
    connection.write_method(answer(commands.Connection.OpenOk), 0)


STEPS: dict[tuple[State, int], Callable[[Connection, Any], None]] = {
    (State.STARTING, commands.Connection.StartOk.index): on_start_ok,
    (State.TUNING, commands.Connection.TuneOk.index): on_tune_ok,
    (State.OPENING, commands.Connection.Open.index): on_open,
}
