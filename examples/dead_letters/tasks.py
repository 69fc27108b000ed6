"""Dead letters with retry: a failed message waits in a queue without consumers, comes back, and ends parked."""

from celery import Celery, Task
from celery.exceptions import Reject
from kombu import Exchange, Queue

orders = Exchange("orders", type="direct")
dead = Exchange("orders.dead", type="direct")

app = Celery("tasks", broker="amqp://guest:guest@127.0.0.1:5672//")
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_queues = [
    Queue("orders", orders, routing_key="orders", queue_arguments={"x-dead-letter-exchange": "orders.dead"}),
    Queue(
        "orders_wait",  # nobody consumes it: after half a second each message goes back to `orders`
        dead,
        routing_key="orders",
        queue_arguments={"x-message-ttl": 500, "x-dead-letter-exchange": "orders"},
    ),
    Queue("orders_parked", dead, routing_key="parked"),
]
app.conf.task_default_queue = "orders"
ATTEMPTS = 3


@app.task(bind=True, acks_late=True)  # a rejection means nothing to a message that was acknowledged early
def ship(self: Task, order: str) -> None:
    """Fail for an order that is broken: twice it comes back, then it is parked."""
    deaths = self.request.get("x-death") or []
    attempt = 1 + sum(death["count"] for death in deaths if death["queue"] == "orders")
    print(f"received {order}, attempt {attempt}")
    if order == "broken" and attempt < ATTEMPTS:
        raise Reject(requeue=False)
    if order == "broken":
        self.apply_async((order,), exchange="orders.dead", exchange_type="direct", routing_key="parked", mandatory=True)
