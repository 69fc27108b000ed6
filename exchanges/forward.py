"""Exchange to exchange: a binding may end at another exchange, and follows the rules of the exchange it starts from.

The shop publishes to its own topic exchange and knows nobody. The billing team owns the exchange `billing`, takes from
the shop what it needs with one binding, and hangs its queues behind it without asking anybody.

    exchange  routing key    queues
    shop      shop.paid      shop_log, and through `billing`: invoices, ledger
    shop      shop.returned  shop_log
"""

from __future__ import annotations

from kombu import Exchange, Queue, binding

from exchanges.fanout import ANY_KEY

shop = Exchange("shop", type="topic")
billing = Exchange("billing", type="fanout")

QUEUES = (
    Queue("shop_log", shop, routing_key="shop.*"),
    Queue("invoices", billing, routing_key=ANY_KEY),
    Queue("ledger", billing, routing_key=ANY_KEY),
)
EXCHANGES = (shop, billing)
EXCHANGE_BINDINGS = {billing: (binding(shop, routing_key="shop.paid"),)}
