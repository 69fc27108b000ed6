"""`bulk_publish`: a block in which tasks are published, and afterwards an outcome for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from celery import Celery
from celery.canvas import Signature

from waybill.celery_app.producers import producer_of_this_thread
from waybill.errors import BulkPublishError, InputError
from waybill.publishing.ledger import Item
from waybill.publishing.outcome import CONFIRMED, RETURNED, SAFE_TO_RETRY, STATES, UNKNOWN, Outcome, State
from waybill.publishing.session import Call, Session, open_session
from waybill.publishing.why import Declared

NOT_OURS = frozenset({"producer", "publisher", "connection"})
"""Options of `apply_async` that name another connection."""


def bulk_publish(app: Celery, *, window: int = 1000, timeout: float = 30.0) -> Batch:
    """Publish many tasks over one confirmed connection, and learn what became of each.

    Use it as a context manager, in one thread. Celery's own `apply_async` runs for each task, with its routers, signals
    and headers. Messages are published `mandatory`, are written together where they come quickly, and are confirmed
    while the next ones are published. Leaving the block waits for the last confirms. It raises nothing for tasks that
    weren't confirmed: read `outcomes`, or call `raise_for_failures`.

    - `batch.add(signature, args=None, kwargs=None, **options)` publishes a task, as `signature.apply_async(...)` does,
      and returns its result. A task's name does in place of a signature.
    - `batch.capture()`: within this block, each `delay` and `apply_async` of the application in this thread joins the
      batch, unless it names a producer or connection of its own.
    - `batch.apply(group(...))` publishes a canvas, and returns its result.
    - `batch.outcomes`: an `Outcome` for each task, in the order in which they were published.
    - `batch.raise_for_failures()` raises `BulkPublishError` unless all are confirmed.
    - `batch.retry(*states, may_duplicate=False)`, after the block, publishes the same messages again over a new
      connection: those returned, nacked and unsent, or those of the states named. "unknown" needs
      `may_duplicate=True`: such a task may run twice.

    After a lost connection or a timeout nothing more is written: the tasks that follow are "unsent". Over a transport
    other than AMQP each outcome is "unknown".

    Args:
        window: how many messages may wait for their confirm; publishing another one waits. At most 8 MiB of them, or
            one message.
        timeout: seconds to wait with no answer at all from the broker: for confirms, for a full window, and while it
            blocks the connection (`connection.blocked`).

    Returns:
        The batch, a context manager.

    Raises:
        BrokerUnavailable: when the block is entered, no broker answers.
        InputError: `window` or `timeout` isn't positive, or `task_always_eager` is set: nothing would be published.

    Example:
        >>> from celery import Celery
        >>> from waybill import Broker, bulk_publish, use_broker
        >>> app = Celery("shop")
        >>> @app.task(name="shop.report")
        ... def report(day): ...
        >>> with Broker() as broker, use_broker(app, broker.url):
        ...     with bulk_publish(app) as batch:
        ...         for day in range(3):
        ...             result = batch.add(report.s(day))
        ...         result = batch.add("shop.report", (3,), routing_key="nowhere", exchange="amq.topic")
        >>> [outcome.state for outcome in batch.outcomes]
        ['confirmed', 'confirmed', 'confirmed', 'returned']
        >>> why = batch.outcomes[3].reason.partition("; ")
        >>> print(why[0])
        312 NO_ROUTE: no queue for exchange 'amq.topic' and routing key 'nowhere'
        >>> print(why[2])
        the application binds nothing to exchange 'amq.topic'
    """
    return Batch(app, window=window, timeout=timeout)


class Batch:
    """What `bulk_publish` gives: the tasks published in a block, with their outcomes."""

    def __init__(self, app: Celery, *, window: int, timeout: float) -> None:
        if window < 1 or timeout <= 0:
            raise InputError(f"bulk_publish: window={window!r} and timeout={timeout!r} must be positive")
        self._app = app
        self._window = window
        self._timeout = timeout
        self._items: list[Item] = []
        self._session: Session | None = None
        self._adding: Signature | None = None
        self._declared = Declared(app)

    def __enter__(self) -> Self:
        if self._session is not None or self._items:
            raise InputError("bulk_publish: a batch is entered once")
        if self._app.conf.task_always_eager:
            raise InputError("bulk_publish: with task_always_eager, Celery runs tasks here and publishes none")
        self._session = self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(self._opened(), writes=kind is None)

    def add(
        self,
        task: Signature | str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Publish a task, as `apply_async` does.

        Args:
            task: a signature of the application's, or a task's name.
            args, kwargs, options: as for `Signature.apply_async`.

        Returns:
            What `apply_async` returns: the task's AsyncResult.

        Raises:
            InputError: nothing was published over the batch's connection.
            Exception: whatever Celery raises before it publishes: arguments that can't be serialized, a missing queue.
        """
        signature = self._app.signature(task) if isinstance(task, str) else task
        if NOT_OURS & options.keys():
            raise InputError(f"bulk_publish: {', '.join(sorted(NOT_OURS & options.keys()))}: a batch has its own")
        count = len(self._items)
        is_plain = not signature.get("subtask_type")
        if is_plain:
            given = args or kwargs or options
            self._adding = signature.clone(args, kwargs, **options) if given else signature
        try:
            with self.capture():
                result = signature.apply_async(args, kwargs, **options)
        finally:
            self._adding = None
        if len(self._items) == count:
            name = signature.get("task")
            raise InputError(f"bulk_publish: apply_async of {name!r} published nothing over the batch's connection")
        return result

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Let each `delay` and `apply_async` of the application join the batch: in this thread, within the block."""
        with producer_of_this_thread(self._app, self._opened().producer):
            yield

    def apply(self, canvas: Signature, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Publish a group, or another canvas: the result that Celery gives, a GroupResult for a group."""
        with self.capture():
            return canvas.apply_async(args, kwargs or {})

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What is known of each task, in order. Within the block some may still change."""
        return tuple(item.outcome() for item in self._items)

    def raise_for_failures(self) -> None:
        """Raise an error unless all tasks are confirmed.

        Raises:
            BulkPublishError: some aren't; it has all outcomes.
        """
        outcomes = self.outcomes
        if any(outcome.state != CONFIRMED for outcome in outcomes):
            raise BulkPublishError(outcomes)

    def retry(self, *states: State, may_duplicate: bool = False) -> tuple[Outcome, ...]:
        """Publish the same messages again, over a new connection, and wait for their outcomes.

        Args:
            states: those to publish again; without any, those in which another try may help: returned, nacked and
                unsent. A nacked task that goes to several queues may be in one of them already.
            may_duplicate: allow "unknown": the broker may have such a task already.

        Returns:
            The new outcomes of these tasks; `outcomes` has them too, at the same places.

        Raises:
            InputError: a state that isn't published again, or the block hasn't ended.
            BrokerUnavailable: no broker answers.
        """
        wanted = states or SAFE_TO_RETRY
        if self._session is not None:
            raise InputError("bulk_publish: retry after the block, when the outcomes are known")
        if unfit := sorted(set(wanted) - set(STATES) | set(wanted) & {CONFIRMED}):
            raise InputError(f"bulk_publish: no retry of {', '.join(unfit)}: one of {', '.join(sorted(STATES))} is")
        if UNKNOWN in wanted and not may_duplicate:
            raise InputError("bulk_publish: unknown tasks may be in a queue: retry them with may_duplicate=True")
        again = [item for item in self._items if item.state in wanted and item.call is not None]
        if again:
            session = self._session = self._open()
            is_whole = False
            try:
                for item in again:
                    session.publish(item)
                is_whole = True
            finally:
                self._end(session, writes=is_whole)
        return tuple(item.outcome() for item in again)

    def _open(self) -> Session:
        return open_session(self._app, self._window, self._timeout, self._note)

    def _opened(self) -> Session:
        if self._session is None:
            raise InputError("bulk_publish: use the batch within its block")
        return self._session

    def _end(self, session: Session, writes: bool) -> None:
        try:
            session.finish(writes)
        finally:
            session.close()
            self._session = None
            self._explain()

    def _explain(self) -> None:
        """Say of what was returned why, as far as the application's declarations tell."""
        for item in self._items:
            if item.state == RETURNED and item.call is not None and not item.is_explained:
                item.is_explained = True
                headers = item.call[1].get("headers")
                if why := self._declared.why_unroutable(item.exchange, item.routing_key, headers):
                    item.reason = f"{item.reason}; {why}"

    def _note(self, call: Call) -> Item:
        """A task's message is about to be published: the item for it."""
        body, options = call
        headers = options.get("headers") or {}
        told = headers if "task" in headers else body  # protocol 1 has it in the body
        if self._adding is not None and self._adding.task == told["task"]:  # a handler of a signal may publish, too
            signature, self._adding = self._adding, None
        else:
            args, kwargs = body[:2] if isinstance(body, (tuple, list)) else (body.get("args"), body.get("kwargs"))
            exchange = getattr(options.get("exchange"), "name", options.get("exchange"))
            where = {"exchange": exchange, "routing_key": options.get("routing_key"), "task_id": told["id"]}
            signature = self._app.signature(told["task"], args, kwargs, where)
        item = Item(told["id"], signature, call)
        self._items.append(item)
        return item
