"""What flows now: each message on its way through exchanges and queues to the worker that took it.

    events.py       the firehose's copies, read
    names.py        nodes and edges: how they are called, and which of them are nobody's business
    shape.py        what is there: publishers, exchanges, queues, workers and the ways between them
    layout.py       where it stands on a page
    flow.py         messages: from a publication over its deliveries, correlated, counted, the last ones kept
    collector.py    shape and flow together, and what of it is new
    source.py       the broker: its firehose and its management API, the only AMQP
    serving.py      the page and its API

All but the last two are values and pure functions, with the time passed in.
"""
