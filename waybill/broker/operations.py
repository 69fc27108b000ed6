"""What the methods on a channel do: the table at the end is the whole of it.

Publishing and settling stand before it, in connection.py, for they are nearly all that comes. Each function takes a
channel and a decoded method and returns the answer, or None where the method has none or asks for none (`nowait`).
Orders of checks and texts are RabbitMQ's (rabbit_channel.erl, `handle_method`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pamqp import base, commands

from waybill.broker.channel import Channel
from waybill.broker.deliveries import Settlement
from waybill.broker.methods import AccessRequest, AccessRequestOk, answer
from waybill.broker.publisher import Publication
from waybill.broker.queue import Consumer, Queue
from waybill.broker.vhost import REPLY_TO, VHost, generated_name
from waybill.errors import ProtocolRefusal
from waybill.topology.queue_arguments import type_name
from waybill.topology.values import Binding, Exchange
from waybill.topology.values import Queue as Declaration

Answer = base.Frame | None

NO_QUEUE = "no previously declared queue"
DEFAULT = "operation not permitted on the default exchange"


# exchanges


def declare_exchange(channel: Channel, method: Any) -> Answer:
    """`exchange.declare`."""
    name = _stripped(method.exchange)
    if method.passive:
        if not name:
            raise ProtocolRefusal(403, DEFAULT)
        channel.vhost.check_exchange(name)
    else:
        _check_declaration(channel, "exchange", name, method.arguments.get("alternate-exchange"))
        channel.vhost.declare_exchange(
            Exchange(
                name,
                method.exchange_type,
                method.durable,
                method.auto_delete,
                method.internal,
                method.arguments,
            )
        )
    return None if method.nowait else answer(commands.Exchange.DeclareOk)


def _check_declaration(channel: Channel, kind: str, name: str, led_to: object) -> None:
    """A declaration that leads messages on reads what it declares and writes to the exchange to which it leads."""
    rights = channel.client.rights
    rights.check("configure", kind, name)
    if isinstance(led_to, str):
        rights.check("read", kind, name)
        rights.check("write", "exchange", led_to)


def delete_exchange(channel: Channel, method: Any) -> Answer:
    """`exchange.delete`."""
    channel.client.rights.check("configure", "exchange", _stripped(method.exchange))
    channel.vhost.delete_exchange(_stripped(method.exchange), if_unused=method.if_unused)
    return None if method.nowait else answer(commands.Exchange.DeleteOk)


def bind_exchange(channel: Channel, method: Any) -> Answer:
    """`exchange.bind`."""
    _check_binding(channel, "exchange", _stripped(method.destination), _stripped(method.source))
    channel.vhost.bind(_between_exchanges(method))
    return None if method.nowait else answer(commands.Exchange.BindOk)


def unbind_exchange(channel: Channel, method: Any) -> Answer:
    """`exchange.unbind`."""
    _check_binding(channel, "exchange", _stripped(method.destination), _stripped(method.source))
    channel.vhost.unbind(_between_exchanges(method))
    return None if method.nowait else answer(commands.Exchange.UnbindOk)


def _check_binding(channel: Channel, kind: str, destination: str, source: str) -> None:
    channel.client.rights.check("write", kind, destination)
    channel.client.rights.check("read", "exchange", source)


def _between_exchanges(method: Any) -> Binding:
    return Binding(
        _stripped(method.source),
        _stripped(method.destination),
        method.routing_key,
        method.arguments,
        "exchange",
    )


# queues


def declare_queue(channel: Channel, method: Any) -> Answer:
    """`queue.declare`."""
    name, vhost = _stripped(method.queue), channel.vhost
    if name.startswith(REPLY_TO):
        # RabbitMQ asks the channel that waits behind an address, and a channel cannot ask itself.
        if name != REPLY_TO and vhost.reply_consumer(name) in (None, channel.deliveries):
            raise ProtocolRefusal(404, f"no queue '{name}' in vhost '{vhost.name}'")
        channel.last_queue = name
        return None if method.nowait else _declared(name, 0, 1)
    if name:
        _check_declaration(channel, "queue", name, method.arguments.get("x-dead-letter-exchange"))
    if method.passive:
        queue = vhost.queue(name, channel.client)
        queue.touch()
    else:
        declaration = Declaration(name, method.durable, method.exclusive, method.auto_delete, method.arguments)
        queue = vhost.declare_queue(declaration, channel.client)
    channel.last_queue = queue.name
    return None if method.nowait else _declared(queue.name, queue.ready.count, queue.active_consumers)


def _declared(name: str, messages: int, consumers: int) -> base.Frame:
    return answer(commands.Queue.DeclareOk, queue=name, message_count=messages, consumer_count=consumers)


def bind_queue(channel: Channel, method: Any) -> Answer:
    """`queue.bind`."""
    binding = _to_queue(channel, method)
    _check_binding(channel, "queue", binding.destination, binding.source)
    channel.vhost.router.check_binding(binding)  # before the question whose queue it is
    channel.vhost.check_access(channel.vhost.queues[binding.destination], channel.client)
    channel.vhost.bind(binding)
    return None if method.nowait else answer(commands.Queue.BindOk)


def unbind_queue(channel: Channel, method: Any) -> Answer:
    """`queue.unbind`, which has no `nowait`; whose queue it is, is asked where there is such a binding."""
    binding, vhost = _to_queue(channel, method), channel.vhost
    _check_binding(channel, "queue", binding.destination, binding.source)
    queue = vhost.queues.get(binding.destination)
    if queue is not None and queue.owner is not None and binding in vhost.router.bindings_from(binding.source):
        vhost.check_access(queue, channel.client)
    vhost.unbind(binding)
    return answer(commands.Queue.UnbindOk)


def _to_queue(channel: Channel, method: Any) -> Binding:
    key = method.routing_key
    if not method.queue and not key:
        key = _named(channel, "")
    queue = _stripped(_named(channel, method.queue))
    if queue.startswith(f"{REPLY_TO}."):
        raise ProtocolRefusal(403, "cannot bind or unbind to a volatile (direct reply-to) queue")
    return Binding(_stripped(method.exchange), queue, key, method.arguments)


def purge_queue(channel: Channel, method: Any) -> Answer:
    """`queue.purge`."""
    name = _named(channel, method.queue)
    channel.client.rights.check("read", "queue", name)
    # A reply goes to its consumer at once: where one waits, nothing is ever there to purge or to get.
    waits = channel.vhost.reply_consumer(name) is not None
    count = 0 if waits else channel.vhost.queue(name, channel.client).purge()
    return None if method.nowait else answer(commands.Queue.PurgeOk, message_count=count)


def delete_queue(channel: Channel, method: Any) -> Answer:
    """`queue.delete`; a queue that isn't there is no error."""
    vhost, name = channel.vhost, _stripped(_named(channel, method.queue))
    channel.client.rights.check("configure", "queue", name)
    queue = vhost.queues.get(name)
    if queue is None:
        return None if method.nowait else answer(commands.Queue.DeleteOk, message_count=0)
    vhost.check_access(queue, channel.client)
    if queue.is_quorum and (method.if_empty or method.if_unused):
        flag = "if-unused" if method.if_unused else "if-empty"
        raise ProtocolRefusal(
            540,
            f"cannot delete {vhost.named(queue)}. queue.delete operations with {flag} flag set are not supported "
            "by quorum queues",
        )
    if method.if_empty and queue.ready.count:
        raise ProtocolRefusal(406, f"{vhost.named(queue)} not empty")
    if method.if_unused and len(queue.consumers):
        raise ProtocolRefusal(406, f"{vhost.named(queue)} in use")
    if not method.nowait:  # before the cancels that go to the queue's consumers, perhaps on this very channel
        channel.write(answer(commands.Queue.DeleteOk, message_count=queue.ready.count))
    vhost.delete_queue(queue)
    return None


# consuming


def set_prefetch(channel: Channel, method: Any) -> Answer:
    """`basic.qos`; RabbitMQ 4.3 takes `global` and treats it as not set."""
    if method.prefetch_size:
        raise ProtocolRefusal(540, f"prefetch_size!=0 ({method.prefetch_size})")
    channel.prefetch = method.prefetch_count
    return answer(commands.Basic.QosOk)


def get(channel: Channel, method: Any) -> Answer:
    """`basic.get`."""
    name, vhost = _named(channel, method.queue), channel.vhost
    channel.client.rights.check("read", "queue", name)
    if vhost.reply_consumer(name) is not None:
        raise ProtocolRefusal(540, f"basic.get not supported by volatile queue '{name}' in vhost '{vhost.name}'")
    queue = vhost.queue(name, channel.client)
    if queue.is_quorum and queue.is_single_active:
        raise ProtocolRefusal(
            405,
            f"cannot obtain access to locked {channel.vhost.named(queue)}. basic.get operations are not "
            'supported by <<"quorum">> queues with single active consumer',
        )
    entry = queue.get(no_ack=method.no_ack)
    if entry is None:
        return answer(commands.Basic.GetEmpty)
    channel.deliveries.send_get(entry, queue, no_ack=method.no_ack)
    return None


def consume(channel: Channel, method: Any) -> Answer:
    """`basic.consume`."""
    name = _named(channel, method.queue)
    if method.consumer_tag and method.consumer_tag in channel.deliveries.consumers:
        raise ProtocolRefusal(530, f"attempt to reuse consumer tag '{method.consumer_tag}'")
    tag = method.consumer_tag or generated_name("amq.ctag")
    if name == REPLY_TO:
        _consume_replies(channel, method, tag)
    else:
        _subscribe(channel, method, tag, name)
    if not method.nowait:
        channel.write(answer(commands.Basic.ConsumeOk, consumer_tag=tag))
    if tag in channel.deliveries.consumers:
        queue, _ = channel.deliveries.consumers[tag]
        queue.dispatch()
    return None


def _consume_replies(channel: Channel, method: Any, tag: str) -> None:
    if not method.no_ack:
        raise ProtocolRefusal(406, "reply consumer cannot acknowledge")
    if channel.deliveries.reply_consumer is not None:
        raise ProtocolRefusal(406, "reply consumer already set")
    channel.add_reply_consumer(tag)


def _subscribe(channel: Channel, method: Any, tag: str, name: str) -> None:
    vhost = channel.vhost
    channel.client.rights.check("read", "queue", name)
    queue = vhost.queue(name, channel.client)
    where = vhost.named(queue)
    arguments = method.arguments
    _check_consume_arguments(arguments, where, queue.declaration.type)
    if _is_refused(queue, is_exclusive=method.exclusive):
        raise ProtocolRefusal(403, f"{where} in exclusive use")
    consumer = Consumer(
        tag,
        channel.deliveries,
        no_ack=method.no_ack,
        is_exclusive=method.exclusive,
        prefetch=channel.prefetch,
        priority=arguments.get("x-priority", 0),
        arguments=arguments,
    )
    channel.deliveries.consumers[tag] = queue, consumer
    queue.subscribe(consumer)


def _is_refused(queue: Queue, *, is_exclusive: bool) -> bool:
    """Whether exclusive consumption keeps a new consumer out: rabbit_amqqueue_process.erl, check_exclusive_access."""
    if queue.is_quorum:  # rabbit_quorum_queue.erl only notes the flag
        return False
    if is_exclusive:
        return queue.is_single_active or len(queue.consumers) > 0
    return queue.consumers.is_exclusively_held()


def _check_consume_arguments(arguments: dict[str, Any], where: str, kind: str) -> None:
    priority = arguments.get("x-priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        got = type_name(priority)
        raise ProtocolRefusal(406, f"invalid arg 'x-priority' for {where}: \"expected integer, got {got}\"")
    if "x-stream-offset" in arguments:
        raise ProtocolRefusal(406, f"invalid arg 'x-stream-offset' for {where} of queue type rabbit_{kind}_queue")


def cancel(channel: Channel, method: Any) -> Answer:
    """`basic.cancel`; a tag that isn't there is no error."""
    tag = method.consumer_tag
    if tag == channel.deliveries.reply_consumer:
        channel.drop_reply_consumer()
    if tag in channel.deliveries.consumers:
        queue, consumer = channel.deliveries.consumers.pop(tag)
        is_over = queue.unsubscribe(consumer)
        if queue.is_single_active:
            queue.dispatch()
        if is_over:
            channel.vhost.delete_queue(queue)
    return None if method.nowait else answer(commands.Basic.CancelOk, consumer_tag=tag)


def recover(channel: Channel, method: Any) -> Answer:
    """`basic.recover`."""
    recover_without_answer(channel, method)
    return answer(commands.Basic.RecoverOk)


def recover_without_answer(channel: Channel, method: Any) -> Answer:
    """`basic.recover-async`."""
    if not method.requeue:
        raise ProtocolRefusal(540, "requeue=false")
    channel.deliveries.apply("return", channel.deliveries.take_all())
    return None


# confirms and transactions


def select_confirms(channel: Channel, method: Any) -> Answer:
    """`confirm.select`."""
    if channel.publisher.held is not None:
        raise ProtocolRefusal(406, "cannot switch from tx to confirm mode")
    if channel.publisher.count is None:
        channel.publisher.count = 0
    return None if method.nowait else answer(commands.Confirm.SelectOk)


def select_transactions(channel: Channel, _: Any) -> Answer:
    """`tx.select`."""
    if channel.publisher.count is not None:
        raise ProtocolRefusal(406, "cannot switch from confirm to tx mode")
    if channel.publisher.held is None:
        channel.begin_transaction()
    return answer(commands.Tx.SelectOk)


def commit(channel: Channel, _: Any) -> Answer:
    """`tx.commit`: the publications in order, up to the first whose queue is gone, then the settlements."""
    publications, settlements = _held(channel)
    channel.begin_transaction()
    is_whole = True
    with channel.vhost.deferred_dead_letters():  # the publications follow each other before any queue has acted
        for message, names, is_mandatory, queues in publications:
            try:
                there = _still_there(channel.vhost, names, queues)
            except ProtocolRefusal:
                _restore(channel, settlements)  # the connection is closed, and none of them has come about
                raise
            is_whole &= there == names
            is_whole &= channel.publisher.send_on(message, there, 0, is_mandatory=is_mandatory and not names)
    for outcome, taken in settlements:
        channel.deliveries.apply(outcome, taken)
    if not is_whole:
        raise ProtocolRefusal(406, "partial tx completion")
    return answer(commands.Tx.CommitOk)


def _still_there(vhost: VHost, names: tuple[str, ...], queues: tuple[Queue | None, ...]) -> tuple[str, ...]:
    """Those of the queues that a publication was routed to that take it at the commit.

    A classic queue is known by its process: one that was deleted and declared again takes nothing of it.

    Raises:
        ProtocolRefusal: 506, one of them is gone.
    """
    there = []
    for name, before in zip(names, queues, strict=True):
        now = vhost.queues.get(name)
        if before is not None and now is None:
            gone = f'{{not_found,{{resource,<<"{vhost.name}">>,queue,<<"{name}">>}}}}'
            raise ProtocolRefusal(506, f"failed to deliver message: {gone}")
        if now is before or (now is not None and now.is_quorum):
            there.append(name)
    return tuple(there)


def roll_back(channel: Channel, _: Any) -> Answer:
    """`tx.rollback`: publications are forgotten, settled deliveries are out again."""
    _, settlements = _held(channel)
    channel.begin_transaction()
    _restore(channel, settlements)
    return answer(commands.Tx.RollbackOk)


def _restore(channel: Channel, settlements: Iterable[Settlement]) -> None:
    for _, taken in settlements:
        channel.deliveries.restore(taken)


def _held(channel: Channel) -> tuple[list[Publication], list[Settlement]]:
    publications, settlements = channel.publisher.held, channel.deliveries.held
    if publications is None or settlements is None:
        raise ProtocolRefusal(406, "channel is not transactional")
    return publications, settlements


def flow(_: Channel, method: Any) -> Answer:
    """`channel.flow`; RabbitMQ never holds back on a client's word."""
    if not method.active:
        raise ProtocolRefusal(540, "active=false")
    return answer(commands.Channel.FlowOk, active=True)


# the channel


def close(channel: Channel, _: Any) -> Answer:
    """`channel.close`."""
    channel.end()
    channel.client.forget_channel(channel.number)
    return answer(commands.Channel.CloseOk)


def open_again(_: Channel, method: Any) -> Answer:
    """`channel.open` of one that is open."""
    raise ProtocolRefusal(504, "second 'channel.open' seen", method.index)


def request_access(_: Channel, __: Any) -> Answer:
    """`access.request`: RabbitMQ hands everyone ticket 1."""
    return answer(AccessRequestOk, ticket=1)


def not_implemented(_: Channel, method: Any) -> Answer:
    """A method that is not in the table."""
    raise ProtocolRefusal(503, "unimplemented method", method.index)


def _named(channel: Channel, name: str) -> str:
    if name:
        return name
    if not channel.last_queue:
        raise ProtocolRefusal(404, NO_QUEUE)
    return channel.last_queue


def _stripped(name: str) -> str:
    return name.replace("\n", "").replace("\r", "")


OPERATIONS: dict[int, Callable[[Channel, Any], Answer]] = {
    commands.Exchange.Declare.index: declare_exchange,
    commands.Exchange.Delete.index: delete_exchange,
    commands.Exchange.Bind.index: bind_exchange,
    commands.Exchange.Unbind.index: unbind_exchange,
    commands.Queue.Declare.index: declare_queue,
    commands.Queue.Bind.index: bind_queue,
    commands.Queue.Unbind.index: unbind_queue,
    commands.Queue.Purge.index: purge_queue,
    commands.Queue.Delete.index: delete_queue,
    commands.Basic.Qos.index: set_prefetch,
    commands.Basic.Get.index: get,
    commands.Basic.Consume.index: consume,
    commands.Basic.Cancel.index: cancel,
    commands.Basic.Recover.index: recover,
    commands.Basic.RecoverAsync.index: recover_without_answer,
    commands.Confirm.Select.index: select_confirms,
    commands.Tx.Select.index: select_transactions,
    commands.Tx.Commit.index: commit,
    commands.Tx.Rollback.index: roll_back,
    commands.Channel.Flow.index: flow,
    commands.Channel.Open.index: open_again,
    commands.Channel.Close.index: close,
    AccessRequest.index: request_access,
}
