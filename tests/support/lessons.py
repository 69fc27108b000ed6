"""What lessons do: the tables that tests with and without workers share."""

from __future__ import annotations

# publisher, arguments -> for each message: {worker: queue}, empty when it is returned
PROGRAMS: tuple[tuple[str, tuple[str, ...], list[dict[str, str]]], ...] = (
    ("default", (), [{"default": "default"}]),
    ("default", ("--queue", "images"), [{"images1": "images"}]),
    ("direct", ("video",), [{"videos": "videos"}]),
    ("direct", ("video", "audio"), [{"videos": "videos"}, {}]),
    ("topic", ("usa.news",), [{"usa": "usa_all", "world": "all_news"}]),
    ("topic", ("", "usa"), [{}, {"usa": "usa_all"}]),
    ("fanout", ("signups",), [{"mail": "welcome_mail", "books": "statistics"}]),
    ("headers", ("format=pdf", "type=report"), [{"documents": "pdf_reports"}]),
    ("headers", ("format=", "a=b=c"), [{"clerk": "unfiled"}]),
    ("alternate", ("card", "bitcoin"), [{"books": "card_payments"}, {"clerk": "payments_review"}]),
    ("deadletter", ("sold-out",), [{"orders": "orders", "clerk": "orders_dead"}]),
    ("forward", ("shop.paid",), [{"orders": "shop_log", "mail": "invoices", "books": "ledger"}]),
    ("history", ("1", "2"), [{"ticker": "price_log"}, {"ticker": "price_log", "board": "price_board"}]),
    ("raw", (), [{"videos": "videos"}]),
    ("raw", ("--routing-key", "media.nope"), [{}]),
)

# Who is heard when those above him are silent, the queue that he names, and its worker
RANKS = (
    ("the call", "cleanup", "clerk"),
    ("the task's decorator", "slow", "both"),
    ("exact name", "videos", "videos"),
    ("glob", "tasks", "batch"),
    ("regular expression", "orders", "orders"),
    ("function", "standalone", "standalone"),
    ("task_default_queue", "default", "default"),
)
