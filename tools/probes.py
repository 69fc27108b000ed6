"""What a broker does with a message: each probe declares what it needs, publishes, and says what came of it.

They use Kombu alone, so that the same calls run on every transport that it has. `elsewhere.py` makes a table of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amqp.exceptions import AMQPError, MessageNacked
from kombu import Exchange

from tools.probe_broker import Ground, Observation

TAKEN, MISSED, LOST, RETURNED = "taken", "missed", "lost silently", "returned"

Probe = Callable[[Ground], str]


def taken(kind: str, binding_key: str, key: str, **options: Any) -> Probe:
    """Whether a queue bound so takes this key."""

    def probe(ground: Ground) -> str:
        queue = ground.queue("queue", ground.exchange("exchange", kind), binding_key, **options)
        with Observation(ground, [queue]) as seen:
            ground.publish(queue.exchange, key, headers={"format": "pdf"})
        return TAKEN if seen.taken_by else MISSED

    return probe


def copies(ground: Ground) -> str:
    """How many of two queues of a fanout exchange get a message."""
    exchange = ground.exchange("exchange", "fanout")
    with Observation(ground, [ground.queue(name, exchange) for name in ("one", "other")]) as seen:
        ground.publish(exchange, "")
    return f"{len(seen.taken_by)} copies"


def kept(ground: Ground) -> str:
    """Whether a fanout exchange's queue keeps what comes while nobody consumes it."""
    exchange = ground.exchange("exchange", "fanout")
    queue = ground.queue("queue", exchange)
    ground.publish(exchange, "", "early")
    with Observation(ground, [queue]) as seen:
        pass
    return "kept" if seen.taken_by else LOST


def forwarded(ground: Ground) -> str:
    """Whether a binding may end at another exchange."""
    source, target = ground.exchange("source", "direct"), ground.exchange("target", "fanout")
    queue = ground.queue("queue", target)
    target(ground.connection.default_channel).bind_to(source, routing_key="key")
    with Observation(ground, [queue]) as seen:
        ground.publish(source, "key")
    return TAKEN if seen.taken_by else MISSED


def alternate(ground: Ground) -> str:
    """Whether what no binding takes goes to the alternate exchange."""
    rest = ground.exchange("rest", "fanout")
    queue = ground.queue("queue", rest)
    exchange = ground.exchange("exchange", "direct", arguments={"alternate-exchange": rest.name})
    with Observation(ground, [queue]) as seen:
        ground.publish(exchange, "unbound")
    return TAKEN if seen.taken_by else LOST


def unroutable(ground: Ground) -> str:
    """What becomes of a mandatory message that no queue takes."""
    return LOST if ground.publish(ground.exchange("exchange", "direct"), "unbound") else RETURNED


def nowhere(ground: Ground) -> str:
    """What becomes of a message to an exchange that nobody declared."""
    try:
        ground.publish(Exchange("nobody.declared.this"), "key")
        # The refusal closes the channel, which shows with the next thing done on it.
        ground.connection.default_channel.queue_declare(exclusive=True)
    except AMQPError as error:
        return refusal(error)
    return LOST


def full(ground: Ground) -> str:
    """What a publisher hears of a queue that is full and rejects what comes."""
    queue = ground.queue("queue", queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    try:
        for _ in range(2):
            ground.publish(None, queue.name)
    except MessageNacked:
        return "refused (nack)"
    return "nothing, it is taken"


def bounded(ground: Ground) -> str:
    """How many of two messages a queue with a length limit of one keeps."""
    queue = ground.queue("queue", queue_arguments={"x-max-length": 1})
    for body in ("first", "second"):
        ground.publish(None, queue.name, body)
    return " and ".join(message.payload for _ in range(2) if (message := ground.get(queue)))


def prioritized(ground: Ground) -> str:
    """In which order a filled queue with ten priorities is served."""
    queue = ground.queue("queue", max_priority=9)
    for priority in (1, 9, 0, 5):
        ground.publish(None, queue.name, str(priority), priority=priority)
    return " ".join(message.payload for _ in range(4) if (message := ground.get(queue)))


def rejected(ground: Ground) -> str:
    """What becomes of a message that is rejected, where the queue has a dead-letter exchange."""
    dead = ground.queue("dead", ground.exchange("letters", "fanout"))
    arguments = {"x-dead-letter-exchange": dead.exchange.name}
    queue = ground.queue("queue", queue_arguments=arguments)
    with Observation(ground, [dead]) as seen:
        ground.publish(None, queue.name)
        message = ground.get(queue, no_ack=False)
        assert message is not None
        message.reject()
    return "dead-lettered" if seen.taken_by else LOST


def changed(ground: Ground) -> str:
    """What comes of declaring a queue again with another argument."""
    ground.queue("queue", queue_arguments={"x-max-length": 1})
    try:
        ground.queue("queue", queue_arguments={"x-max-length": 2})
    except AMQPError as error:
        return refusal(error)
    return "nothing, it stays as it was"


def counted(ground: Ground) -> str:
    """How many consumers the broker counts on a queue that has one."""
    queue = ground.queue("queue")
    with Observation(ground, [queue]):
        count = ground.connection.default_channel.queue_declare(queue.name, passive=True).consumer_count
    return f"{count}"


def left_open(ground: Ground) -> str:
    """What becomes of a message that wasn't acknowledged when its consumer's connection closed."""
    queue = ground.queue("queue")
    ground.publish(None, queue.name)
    with ground.connection.clone() as other:
        assert queue(other.default_channel).get(no_ack=False) is not None
    message = ground.get(queue)
    if message is None:
        return "gone"
    return "delivered again, marked" if message.delivery_info.get("redelivered") else "delivered again, unmarked"


def refusal(error: AMQPError) -> str:
    """The reply code and its name, as in `404 NOT_FOUND`."""
    return f"{error.reply_code} {str(error.reply_text).partition(' ')[0]}"


PROBES: tuple[tuple[str, Probe], ...] = (
    ("direct exchange: the key equals the binding key", taken("direct", "video", "video")),
    ("topic exchange: `*.news` and `usa.news`", taken("topic", "*.news", "usa.news")),
    ("topic exchange: `usa.#` and `usa.sports.nba`", taken("topic", "usa.#", "usa.sports.nba")),
    ("topic exchange: `usa.#` and `usa`", taken("topic", "usa.#", "usa")),
    ("topic exchange: `#.news` and `news`", taken("topic", "#.news", "news")),
    ("topic exchange: `*.news` and `news`", taken("topic", "*.news", "news")),
    ("fanout exchange: two queues", copies),
    ("fanout exchange: a binding key, another key", taken("fanout", "bound", "other")),
    ("fanout exchange: nobody consumes yet", kept),
    (
        "headers exchange: `format=pdf`",
        taken("headers", "", "", binding_arguments={"x-match": "all", "format": "pdf"}),
    ),
    ("consistent-hash exchange (a plugin)", taken("x-consistent-hash", "1", "customer.1")),
    ("recent-history exchange (a plugin)", taken("x-recent-history", "", "price")),
    ("exchange to exchange", forwarded),
    ("alternate exchange", alternate),
    ("no queue takes it: published `mandatory`", unroutable),
    ("to an exchange that doesn't exist", nowhere),
    ("a full queue with `reject-publish`: the publisher hears", full),
    ("`x-max-length` 1: of two messages there stay", bounded),
    ("priorities 1 9 0 5 are served as", prioritized),
    ("rejected, with a dead-letter exchange", rejected),
    ("declared again with another argument", changed),
    ("consumers counted, of 1", counted),
    ("not acknowledged, and the connection closed", left_open),
)


def attempt(url: str, probe: Probe) -> str:
    """What came of a probe; what the transport can't do at all is an outcome too."""
    with Ground(url) as ground:
        try:
            return probe(ground)
        except (KeyError, NotImplementedError):
            return "not there"
        except AMQPError as error:
            return refusal(error)
