"""Headers: a binding's arguments are compared with the message's headers, by type and value; the key is ignored.

`x-match: all` wants every one of them, `any` wants one. What matches nothing goes to the alternate exchange, so that
no document is lost. Celery sets headers of its own: `by_task` routes by one of them, the name of the task.

    exchange   headers                   queues
    documents  format=pdf type=report    pdf_reports
    documents  format=pdf type=invoice   unfiled (by the alternate exchange)
    documents  format=zip                urgent_archives
    documents  format=txt priority=high  urgent_archives
    by_task    task=worker.tasks.encode  encodings (Celery sets `task` itself)
"""

from __future__ import annotations

from kombu import Exchange, Queue

from exchanges.fanout import ANY_KEY

unfiled = Exchange("documents.unfiled", type="fanout")
documents = Exchange("documents", type="headers", arguments={"alternate-exchange": unfiled.name})
by_task = Exchange("by_task", type="headers")

QUEUES = (
    Queue(
        "pdf_reports",
        documents,
        ANY_KEY,
        binding_arguments={"x-match": "all", "format": "pdf", "type": "report"},
    ),
    Queue(
        "urgent_archives",
        documents,
        ANY_KEY,
        binding_arguments={"x-match": "any", "format": "zip", "priority": "high"},
    ),
    Queue("unfiled", unfiled, routing_key=ANY_KEY),
    Queue("encodings", by_task, ANY_KEY, binding_arguments={"x-match": "all", "task": "worker.tasks.encode"}),
)
EXCHANGES = (unfiled, documents, by_task)
