"""RabbitMQ's management API on the embedded broker: the pages that clients, tools and Waybill itself ask for.

    call.py         one request: its names, query, body and user, and the refusals
    content.py      properties and bodies of messages between JSON and AMQP
    rows.py         what a vhost, a queue, a binding, ... looks like in JSON
    operations.py   what is written goes through the same operations as AMQP's methods
    definitions.py  the document of all definitions, out and in
    pages.py        the table of all paths
    application.py  ASGI: authentication, paging, columns, errors
    serving.py      its socket, on the broker's loop

Its answers come from the vhosts as they are at that moment. Forms, statuses and sentences are RabbitMQ 4.3.6's,
recorded from one; what it counts by the second (rates, reductions, memory of processes) is left out or 0.
"""
