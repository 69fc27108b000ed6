"""What `bulk_publish` says became of each task, and what the queues really hold: on either broker, on broken lines."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest
from celery import group
from kombu import Connection, Exchange, Queue

from tests.support.brokers import BROKERS, broker_url, fresh
from tests.support.bulk import TASK, agree, app_at, drain, small_batch, states
from tests.support.cut_line import Line, Side, cut_line
from tests.support.slow_line import slow_line
from waybill import Broker, BulkPublishError, bulk_publish
from waybill.broker import Limits
from waybill.errors import BrokerUnavailable, InputError
from waybill.publishing import Outcome
from waybill.publishing.line import MAX_BYTES_IN_FLIGHT


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from broker_url(request)


def declare(url: str, queue: str, **arguments: Any) -> None:
    """Declare a queue as Celery would, and bind it to `amq.direct` by its name."""
    with Connection(url) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False, **arguments)
        channel.queue_bind(queue, "amq.direct", queue)


# the states


def full(name: str) -> Queue:
    """A queue that takes no message at all."""
    return Queue(name, Exchange(""), queue_arguments={"x-max-length": 0, "x-overflow": "reject-publish"})


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_confirmed(url: str, kind: str) -> None:
    app, name = app_at(url), fresh()
    queue = Queue(name, Exchange(""), durable=True, queue_arguments={"x-queue-type": kind})
    with bulk_publish(app) as batch:
        results = [batch.add(app.tasks[TASK].s(number), queue=queue) for number in range(200)]
    assert set(states(batch)) == {"confirmed"}
    batch.raise_for_failures()
    assert [outcome.task_id for outcome in batch.outcomes] == [result.id for result in results]
    assert [outcome.signature.args[0] for outcome in batch.outcomes] == list(range(200))
    assert drain(url, name) == [result.id for result in results]


def test_each_state_with_its_reason(url: str) -> None:
    app, name, jammed, other = app_at(url), fresh(), fresh("full"), fresh("other")
    declare(url, other)
    app.conf.task_queues = [Queue("usa", Exchange("amq.topic", type="topic", no_declare=True), routing_key="usa.#")]
    with bulk_publish(app) as batch:
        batch.add(TASK, (0,), queue=name)
        batch.add(TASK, (1,), exchange="amq.topic", routing_key="eu.sport")
        batch.add(TASK, (2,), queue=full(jammed))
        batch.add(TASK, (3,), exchange="nowhere", routing_key="k")
        batch.add(TASK, (4,), exchange="nowhere", routing_key="k")
        batch.add(TASK, (5,), queue=Queue(other, Exchange(""), queue_arguments={"x-max-length": 9}))
        batch.add(TASK, (6,), queue=name)
    assert states(batch) == ["confirmed", "returned", "nacked", "refused", "refused", "refused", "confirmed"]
    told = [outcome.reason for outcome in batch.outcomes]
    assert told[0] == ""
    assert told[1] == (
        "312 NO_ROUTE: no queue for exchange 'amq.topic' and routing key 'eu.sport'; "
        "bindings that the application declares: usa: first word is `eu`, the binding wants `usa`"
    )
    assert told[2].startswith("basic.nack: ")
    assert told[3].startswith("404 NOT_FOUND - no exchange 'nowhere' in vhost '")
    assert told[4].startswith("not written: the broker refused an earlier message for this exchange: 404 ")
    assert told[5].startswith("not written: its declaration was refused: 406 PRECONDITION_FAILED - inequivalent arg")
    with pytest.raises(
        BulkPublishError, match=r"^5 of 7 tasks not confirmed: 1 returned, 1 nacked, 3 refused; "
    ) as is_told:
        batch.raise_for_failures()
    assert is_told.value.outcomes == batch.outcomes
    agree(batch.outcomes, drain(url, name) + drain(url, jammed) + drain(url, other))


def test_a_nacked_task_may_be_in_another_queue(url: str) -> None:
    app, name, jammed = app_at(url), fresh(), fresh("full")
    declare(url, name)
    declare(url, jammed, arguments=full(jammed).queue_arguments)
    with Connection(url) as connection:
        connection.channel().queue_bind(jammed, "amq.direct", name)
    with bulk_publish(app) as batch:
        result = batch.add(TASK, (0,), exchange="amq.direct", routing_key=name)
    assert states(batch) == ["nacked"]
    assert (drain(url, name), drain(url, jammed)) == ([result.id], [])


@pytest.mark.parametrize("window", [1, 2, 1000])
def test_a_refused_message_among_others(url: str, window: int) -> None:
    """RabbitMQ owes the confirms of those ahead, and doesn't send them: so a doubtful message goes alone."""
    app, name = app_at(url), fresh()
    with bulk_publish(app, window=window) as batch:
        for number in range(30):
            batch.add(TASK, (number,), queue=name, expiration=-5 if number in (7, 8, 20) else None)
    assert states(batch) == ["refused" if number in (7, 8, 20) else "confirmed" for number in range(30)]
    assert all("invalid expiration '-5000'" in batch.outcomes[place].reason for place in (7, 8, 20))
    held = drain(url, name)
    agree(batch.outcomes, held)
    assert held == [outcome.task_id for outcome in batch.outcomes if outcome.state == "confirmed"]  # in their order


def test_a_refusal_that_nobody_expected(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind it is skipped by the broker, and written again. What is ahead may be unknown."""
    monkeypatch.setattr("waybill.publishing.ledger.Ledger.is_sure", lambda *_: True)
    app, name = app_at(url), fresh()
    with bulk_publish(app) as batch:
        for number in range(100):
            batch.add(TASK, (number,), queue=name, expiration=-5 if number in (30, 31, 70) else None)
    assert [place for place, state in enumerate(states(batch)) if state == "refused"] == [30, 31, 70]
    assert set(states(batch)) <= {"confirmed", "refused", "unknown"}
    assert set(states(batch)[71:]) == {"confirmed"}
    held = drain(url, name)
    agree(batch.outcomes, held)
    assert held == [outcome.task_id for outcome in batch.outcomes if outcome.state != "refused"]


def test_a_refusal_that_is_heard_while_a_queue_is_declared(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a declaration comes behind it, on another channel: nothing is written on the closed one."""
    monkeypatch.setattr("waybill.publishing.ledger.Ledger.is_sure", lambda *_: True)
    monkeypatch.setattr("waybill.publishing.line.PAUSE", 0.0)  # each is written at once
    app, names = app_at(url), [fresh() for _ in range(20)]
    with bulk_publish(app) as batch:
        for name in names:
            for number in range(3):
                batch.add(TASK, (number,), queue=name, expiration=-5 if number == 2 else None)
    assert Counter(states(batch))["refused"] == 20
    assert states(batch)[-2:] == ["confirmed", "refused"] or states(batch)[-2:] == ["unknown", "refused"]
    agree(batch.outcomes, [task for name in names for task in drain(url, name)])


@pytest.mark.parametrize("option", [{"user_id": "eve"}, {"headers": {"CC": "no list"}}], ids=["user_id", "CC"])
def test_other_things_that_rabbitmq_refuses(url: str, option: dict[str, Any]) -> None:
    app, name = app_at(url), fresh()
    with bulk_publish(app) as batch:
        for number in range(9):
            batch.add(TASK, (number,), queue=name, **(option if number in (3, 4, 8) else {}))
    assert states(batch) == ["refused" if number in (3, 4, 8) else "confirmed" for number in range(9)]
    assert all(batch.outcomes[place].reason.startswith("406 PRECONDITION_FAILED - ") for place in (3, 4, 8))
    agree(batch.outcomes, drain(url, name))


def test_a_message_that_is_too_large(url: str) -> None:
    app, name = app_at(url), fresh()
    with bulk_publish(app) as batch:
        batch.add(TASK, (0,), queue=name)
        batch.add(TASK, ("x" * 17_000_000,), queue=name)
        batch.add(TASK, ("x" * 1_000_000,), queue=name)
    assert states(batch) == ["confirmed", "refused", "confirmed"]
    assert "is larger than configured max size 16777216" in batch.outcomes[1].reason
    agree(batch.outcomes, drain(url, name))


def test_many_returned_among_many_confirmed(url: str) -> None:
    """Returns carry no tag, and acks come for several at once."""
    app, name = app_at(url), fresh()
    declare(url, name)
    with bulk_publish(app, window=50) as batch:
        for number in range(400):
            batch.add(TASK, (number,), exchange="amq.direct", routing_key=name if number % 3 else "no" + name)
    assert states(batch) == ["confirmed" if number % 3 else "returned" for number in range(400)]
    agree(batch.outcomes, drain(url, name))


def test_no_answer_in_time(url: str) -> None:
    """What is written is unknown, and the window bounds it; the rest is unsent."""
    app, name = app_at(url), fresh()
    with cut_line(url) as line:
        app.conf.broker_url = line.url
        with bulk_publish(app, window=5, timeout=0.3) as batch:
            batch.add(TASK, (0,), queue=name)
            silence(line)
            for number in range(1, 20):
                batch.add(TASK, (number,), queue=name)
    assert states(batch) == ["confirmed"] + ["unknown"] * 5 + ["unsent"] * 14
    assert batch.outcomes[1].reason == "written, no confirm: no answer within 0.3 seconds"
    assert batch.outcomes[6].reason == "not written: no answer within 0.3 seconds"
    agree(batch.outcomes, drain(url, name))


def test_the_window_is_bounded_in_bytes_too(url: str) -> None:
    app, name = app_at(url), fresh()
    with cut_line(url) as line:
        app.conf.broker_url = line.url
        with bulk_publish(app, timeout=0.3) as batch:
            batch.add(TASK, (0,), queue=name)
            silence(line)
            for _ in range(120):
                batch.add(TASK, ("x" * 100_000,), queue=name)
    found = Counter(states(batch))
    assert (found["confirmed"], found["unknown"] + found["unsent"]) == (1, 120)
    assert MAX_BYTES_IN_FLIGHT - 200_000 < found["unknown"] * 100_000 < MAX_BYTES_IN_FLIGHT + 100_000
    agree(batch.outcomes, drain(url, name))


def silence(line: Line) -> None:
    line.is_cut = line.is_silent = True


def test_blocked_and_unblocked() -> None:
    """A broker that keeps too much blocks whoever publishes: nothing is written until it unblocks."""
    with Broker(limits=Limits(queue_bytes=20_000)) as broker:
        app = app_at(broker.url)
        with bulk_publish(app, window=5, timeout=0.5) as batch:
            for _ in range(60):
                batch.add(TASK, ("x" * 1000,), queue="q")
        found = Counter(states(batch))
        assert found["confirmed"] > 10
        assert found["unsent"] > 10
        assert batch.outcomes[-1].reason == (
            "not written: no answer within 0.5 seconds; the broker had blocked the connection (connection.blocked): "
            "low on memory"
        )
        agree(batch.outcomes, drain(broker.url, "q"))
        assert batch.retry("unsent")  # as far as there is room
        assert Counter(states(batch))["confirmed"] > found["confirmed"]

        # Somebody empties the queue meanwhile.
        ended = threading.Event()
        reader = threading.Thread(target=empty, args=(broker.url, "q", ended))
        reader.start()
        try:
            with bulk_publish(app, timeout=30) as batch:
                for _ in range(200):
                    batch.add(TASK, ("x" * 1000,), queue="q")
        finally:
            ended.set()
            reader.join()
        assert set(states(batch)) == {"confirmed"}


def empty(url: str, queue: str, ended: threading.Event) -> None:
    with Connection(url) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False)
        while not ended.is_set():
            channel.basic_get(queue, no_ack=True)


# what the caller does


def test_an_exception_in_the_block(url: str) -> None:
    """What is written is waited for; what isn't is unsent."""
    app, name = app_at(url), fresh()
    batch = bulk_publish(app)

    def fail() -> None:
        with batch:
            for number in range(10):
                batch.add(TASK, (number,), queue=name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert states(batch)[0] == "confirmed"
    assert set(states(batch)) <= {"confirmed", "unsent"}
    agree(batch.outcomes, drain(url, name))


def test_what_celery_refuses_is_raised_and_costs_nothing(url: str) -> None:
    app, name = app_at(url), fresh()
    with bulk_publish(app) as batch:
        batch.add(TASK, (0,), queue=name)
        with pytest.raises(TypeError):
            batch.add(app.tasks[TASK].s(), queue=name)
        with pytest.raises(Exception, match="not JSON serializable"):
            batch.add(TASK, (object(),), queue=name)
        with pytest.raises(InputError, match="connection: a batch has its own"):
            batch.add(TASK, (1,), connection=None)
        batch.add(TASK, (2,), queue=name)
    confirmed = [outcome for outcome in batch.outcomes if outcome.state == "confirmed"]
    assert [outcome.signature.args for outcome in confirmed] == [(0,), (2,)]
    assert Counter(states(batch)) == {"confirmed": 2, "unsent": 1}
    assert batch.outcomes[1].reason.startswith("not written: EncodeError: Object of type object is not JSON")
    assert batch.retry() == ()  # it can't be published
    agree(batch.outcomes, drain(url, name))


def test_capture_takes_the_calls_of_its_thread_only(url: str) -> None:
    app, name, other = app_at(url), fresh(), fresh("other")
    report = app.tasks[TASK]
    app.conf.task_default_queue = name
    with bulk_publish(app) as batch:
        with batch.capture():
            inside = report.delay(0)
            elsewhere = threading.Thread(target=report.apply_async, args=((1,),), kwargs={"queue": other})
            elsewhere.start()
            elsewhere.join()
            named = app.send_task("elsewhere.task", (2,))
        outside = report.apply_async((3,), queue=other)
    assert [outcome.task_id for outcome in batch.outcomes] == [inside.id, named.id]
    assert [outcome.signature.task for outcome in batch.outcomes] == [TASK, "elsewhere.task"]
    assert states(batch) == ["confirmed", "confirmed"]
    assert drain(url, name) == [inside.id, named.id]
    assert len(drain(url, other)) == 2
    assert outside.id


@pytest.mark.parametrize("protocol", [1, 2])
def test_celerys_own_signals_events_and_results(url: str, protocol: int) -> None:
    from celery.signals import after_task_publish, before_task_publish

    app = app_at(url, task_send_sent_event=True, task_protocol=protocol)
    app.conf.task_default_queue = name = fresh()
    heard = []
    before = lambda headers, **_: headers.update(shop="north")  # noqa: E731
    after = lambda sender, **_: heard.append(sender)  # noqa: E731
    before_task_publish.connect(before, weak=False)
    after_task_publish.connect(after, weak=False)
    try:
        with bulk_publish(app) as batch:
            result = batch.apply(group(app.tasks[TASK].s(number) for number in range(3)))
    finally:
        before_task_publish.disconnect(before)
        after_task_publish.disconnect(after)
    assert heard == [TASK] * 3
    assert [child.id for child in result.results] == [outcome.task_id for outcome in batch.outcomes]
    assert states(batch) == ["confirmed"] * 3
    with Connection(url) as connection:
        message = connection.channel().basic_get(name)
        assert message.headers["shop"] == "north"
    drain(url, name)


def test_retry(url: str) -> None:
    app, name = app_at(url), fresh()
    with bulk_publish(app) as batch:
        batch.add(TASK, (0,), queue=name)
        batch.add(TASK, (1,), exchange="amq.direct", routing_key="later" + name)
        with pytest.raises(InputError, match="after the block"):
            batch.retry()
    assert states(batch) == ["confirmed", "returned"]
    for unfit in ("confirmed", "reutrned"):
        with pytest.raises(InputError, match=f"no retry of {unfit}"):
            batch.retry(unfit)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="may_duplicate=True"):
        batch.retry("unknown")
    assert [outcome.state for outcome in batch.retry()] == ["returned"]
    declare(url, "later" + name)
    assert [outcome.state for outcome in batch.retry()] == ["confirmed"]
    assert batch.retry() == ()
    assert states(batch) == ["confirmed", "confirmed"]
    agree(batch.outcomes, drain(url, name) + drain(url, "later" + name))


def test_what_a_batch_refuses(url: str) -> None:
    app = app_at(url)
    for wrong in ({"window": 0}, {"timeout": 0}):
        with pytest.raises(InputError, match="must be positive"):
            bulk_publish(app, **wrong)
    batch = bulk_publish(app)
    for call in (lambda: batch.add(TASK, (1,)), lambda: batch.apply(group([])), lambda: batch.capture().__enter__()):
        with pytest.raises(InputError, match="within its block"):
            call()
    app.conf.task_always_eager = True
    with pytest.raises(InputError, match="task_always_eager"), batch:
        pass
    with (
        pytest.raises(BrokerUnavailable, match=r"^no connection to amqp://guest:\*\*@127.0.0.1:1//: "),
        bulk_publish(app_at("amqp://guest:guest@127.0.0.1:1//")),
    ):
        pass


def test_another_transport_is_said(caplog: pytest.LogCaptureFixture) -> None:
    app = app_at("memory://")
    with bulk_publish(app) as batch:
        batch.add(TASK, (1,))
    assert states(batch) == ["unknown"]
    assert batch.outcomes[0].reason == "the transport 'memory' doesn't say what becomes of a message"
    assert "every outcome is unknown" in caplog.text


# broken lines


@pytest.mark.parametrize("side", ["client", "broker"])
def test_a_line_that_breaks_at_any_frame(url: str, side: Side) -> None:
    """And in the middle of one. What the queues hold is looked at last: by then the broker has done all it will."""
    app = app_at(url)
    with cut_line(url) as line:
        app.conf.broker_url = line.url
        whole = small_batch(app, fresh("cut"))
    assert whole is not None
    assert Counter(states(whole))["refused"] == 1
    places = line.boundaries(side)
    assert len(places) > 20
    seen: list[tuple[str, tuple[Outcome, ...]]] = []
    for place in sorted({*places, *(one + 5 for one in places)}):
        name = fresh("cut")
        with cut_line(url, side, place) as line:
            app.conf.broker_url = line.url
            batch = small_batch(app, name)
        seen.append((name, batch.outcomes if batch else ()))
    for name, outcomes in seen:
        held = drain(url, name)
        assert outcomes or not held
        agree(outcomes, held)
    found = Counter(outcome.state for _, outcomes in seen for outcome in outcomes)
    assert found.keys() == {"confirmed", "returned", "refused", "unsent", "unknown"}


# why not py-amqp's own


def test_what_basic_publish_confirm_takes_for_its_own(url: str) -> None:
    """The queue holds one message. The second is rejected and lost, and its publication returns as if confirmed."""
    name = fresh()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    declare(url, name, arguments=arguments)
    with slow_line(url, 0.3) as slow:
        with Connection(slow, transport_options={"confirm_publish": True}) as connection:
            channel = connection.channel()
            publish: Callable[..., Any] = lambda body, **options: channel.basic_publish(  # noqa: E731
                channel.prepare_message(body, content_encoding="utf-8"), routing_key=name, **options
            )
            channel.confirm_select()
            with pytest.raises(TimeoutError):
                publish("first", confirm_timeout=0.01)
            publish("second")  # lost; and it returns, for the ack of the first
            with pytest.raises(amqp.exceptions.MessageNacked):
                publish("third")  # the nack of the second
        with Connection(url) as connection:
            assert connection.channel().basic_get(name, no_ack=True).body == "first"
        app = app_at(slow)
        queue = Queue(name, Exchange(""), queue_arguments=arguments)
        with bulk_publish(app) as batch:
            for number in range(3):
                batch.add(TASK, (number,), queue=queue)
    assert states(batch) == ["confirmed", "nacked", "nacked"]
    agree(batch.outcomes, drain(url, name))
