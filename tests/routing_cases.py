"""The one table of what RabbitMQ does with a declaration or a message, each row with its source.

    CASES ──▶ engine.py    waybill's router answers          ─┐
          └─▶ live.py      a broker answers, over AMQP        ─┴▶ test_routing_cases.py holds both against
          the row

The rows stand by subject in cases_*.py. A row says what the newest measured RabbitMQ does, 4.3.6; what
older ones do otherwise stands in docs/conformance.md. The generated comparison in tests/conformance
prints what it finds as a row of this form.
"""

from __future__ import annotations

from tests.cases_declarations import DECLARATIONS
from tests.cases_exchanges import EXCHANGES
from tests.cases_headers import HEADERS
from tests.cases_published import PUBLISHED
from tests.cases_queues import QUEUES
from tests.cases_topic import TOPIC

CASES = (*TOPIC, *HEADERS, *EXCHANGES, *PUBLISHED, *QUEUES, *DECLARATIONS)
