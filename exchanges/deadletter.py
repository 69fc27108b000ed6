"""Dead-letter exchange: where a *queue* hands a message that was rejected, expired, or pushed out.

A task that raises `Reject(requeue=False)` ends here instead of vanishing, with an `x-death` header that tells why.
Celery acknowledges a task that merely fails; only a reject is a dead letter.

    exchange  routing key  the task ...  queues
    orders    order        succeeds      orders
    orders    order        rejects       orders, then orders_dead
"""

from __future__ import annotations

from kombu import Exchange, Queue

from exchanges.fanout import ANY_KEY

dead_orders = Exchange("orders.dead", type="fanout")
orders = Exchange("orders", type="direct")

QUEUES = (
    Queue("orders", orders, routing_key="order", queue_arguments={"x-dead-letter-exchange": dead_orders.name}),
    Queue("orders_dead", dead_orders, routing_key=ANY_KEY),
)
EXCHANGES = (dead_orders, orders)
