"""The tasks: small on purpose, since the showcase is about how a message gets to them."""

from __future__ import annotations

from time import sleep
from typing import Any

from celery import Task
from celery.exceptions import Reject

from worker.app import app


@app.task
def work(label: str = "") -> str:
    """The default task: takes any message there is."""
    return label


@app.task
def add(x: float, y: float) -> float:
    """The sum of two numbers."""
    return x + y


@app.task
def total(numbers: list[float]) -> float:
    """The sum of a list, such as a chord hands to its body."""
    return sum(numbers)


@app.task
def divide(x: float, y: float) -> float:
    """A quotient; by zero the task fails."""
    return x / y


@app.task
def encode(path: str) -> str:
    """Turn a video or an image into another format. The exchange `by_task` knows it by its name."""
    return f"{path}.webm"


@app.task
def report(headline: str) -> str:
    """Pass on a piece of news."""
    return headline.capitalize()


@app.task(ignore_result=True)
def announce(text: str) -> str:
    """Tell every worker; with results, the copies would overwrite each other's under one task id."""
    return text


@app.task
def nap(seconds: float) -> float:
    """Keep a worker busy."""
    sleep(seconds)
    return seconds


@app.task(bind=True)
def fulfil(self: Task[Any, Any], order: str, in_stock: bool) -> str:
    """Fulfil an order, or reject it; the reject sends it through the dead-letter exchange to `orders_dead`."""
    if (self.request.delivery_info or {}).get("exchange") == "orders.dead":
        return f"{order} put aside"
    if not in_stock:
        raise Reject(f"{order} is not in stock", requeue=False)
    return f"{order} fulfilled"
