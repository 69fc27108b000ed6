"""The embedded broker: RabbitMQ's behaviour with nothing installed, for tests and demos on one machine.

    with Broker() as broker:
        app.conf.broker_url = broker.url

It keeps everything in memory; with a file, what is durable is there again at the next start. For anything that must
survive a crash, there is RabbitMQ.
See docs/explanation/embedded-broker.md.

    limits.py, tables.py, frames.py, methods.py, content.py, properties.py    bytes and what they mean
    clock.py, memory.py, accounts.py, output.py    time, what the queues hold, users, what a client is to be sent
    message.py, deaths.py, history.py     a message and what is remembered of it
    ready.py, consumers.py, queue.py      a queue: what waits, whose turn it is, and what happens to both
    vhost.py                              queues, and the router between them
    handshake.py                          from the protocol header to an agreement
    client.py, firehose.py                what a channel needs of its connection; copies of all messages
    publisher.py, deliveries.py, channel.py    a channel, in two halves
    operations.py, connection.py          what the methods do, and which may come when
    faults.py, streams.py, line.py        faults on purpose, between a client's socket and its connection
    node.py, store.py                     all connections; what is durable, as a document
    management                            the management API, a package
    server.py                             the sockets and the file

Each file imports only from those above it, and says in a Protocol what it needs of one below.
"""

from waybill.broker.faults import Faults
from waybill.broker.limits import Limits
from waybill.broker.server import Broker

__all__ = ["Broker", "Faults", "Limits"]
