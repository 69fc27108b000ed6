"""Exchange types that come with RabbitMQ and wait to be switched on: `rabbitmq-plugins enable ...`.

Recent history (`rabbitmq_recent_history_exchange`) is a fanout that also hands its last messages to a queue that is
bound later; with length 1 it is a last-value cache. Consistent hash (`rabbitmq_consistent_hash_exchange`) gives each
routing key to one queue, always the same one: work on one customer stays in order, customers spread over the queues.

    exchange  messages                            queues
    prices    three prices                        price_log gets three
    prices    price_board bound after the third   price_board gets the third
    shards    customer.1, customer.2, ...         each to shard_1 or shard_2, always the same one for the same key
"""

from __future__ import annotations

from kombu import Exchange, Queue

from exchanges.fanout import ANY_KEY

# Exchange type -> the plugin that brings it.
PLUGINS = {
    "x-recent-history": "rabbitmq_recent_history_exchange",
    "x-consistent-hash": "rabbitmq_consistent_hash_exchange",
}

prices = Exchange("prices", type="x-recent-history", arguments={"x-recent-history-length": 1})
shards = Exchange("shards", type="x-consistent-hash")

price_log = Queue("price_log", prices, routing_key=ANY_KEY)
price_board = Queue("price_board", prices, routing_key=ANY_KEY)

QUEUES = (
    price_log,
    price_board,
    # Here the binding key is a weight: the share of the keys that this queue takes.
    Queue("shard_1", shards, routing_key="1"),
    Queue("shard_2", shards, routing_key="1"),
)
EXCHANGES = (prices, shards)
