"""Alternate exchange: where an exchange hands a message that none of its own bindings took.

The publisher isn't told (the message *was* routed), and nothing is lost: somebody looks at `payments_review`.

    exchange  routing key  queues
    payments  card         card_payments
    payments  bitcoin      payments_review
"""

from __future__ import annotations

from kombu import Exchange, Queue

from exchanges.fanout import ANY_KEY

unknown_payments = Exchange("payments.unknown", type="fanout")
payments = Exchange("payments", type="direct", arguments={"alternate-exchange": unknown_payments.name})

QUEUES = (
    Queue("card_payments", payments, routing_key="card"),
    Queue("payments_review", unknown_payments, routing_key=ANY_KEY),
)
EXCHANGES = (unknown_payments, payments)
