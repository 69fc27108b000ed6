"""Conditions for tests of what not every supported Celery does: each names the version and what it lacks."""

from __future__ import annotations

import pytest

from waybill.celery_app import installed

NO_NATIVE_DELAY = f"Celery {installed.CELERY_VERSION} has no native delayed delivery, which came with 5.5"

needs_native_delay = pytest.mark.skipif(not installed.HAS_NATIVE_DELAY, reason=NO_NATIVE_DELAY)
