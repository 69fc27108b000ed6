"""No false alarms: applications as people write them, and as Celery's own documentation does, give no finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import check_example
from waybill.celery_app import installed
from waybill.check import Severity, check

FIRST_STEPS = """
from celery import Celery

app = Celery('tasks', broker='pyamqp://guest@localhost//')

@app.task
def add(x, y):
    return x + y

def later():
    add.delay(4, 4)
    add.apply_async((2, 2), countdown=10)
"""

NEXT_STEPS = """
from celery import Celery, chain, group

app = Celery('proj', broker='amqp://', backend='rpc://')
app.conf.update(result_expires=3600)

@app.task
def add(x, y):
    return x + y

@app.task(bind=True, ignore_result=True, max_retries=5)
def fetch(self, url):
    try:
        return url
    except OSError as error:
        raise self.retry(exc=error)

@app.task(autoretry_for=(OSError,), retry_backoff=True)
def upload(path): ...

def later():
    chain(add.s(1, 1), add.s(2))()
    group(add.si(i, i) for i in range(3))()
    add.apply_async((2, 2), queue='lopri', countdown=10)
"""

REDIS = """
from celery import Celery, chord

app = Celery('shop', broker='redis://localhost:6379/0', backend='redis://localhost:6379/1')
app.conf.task_routes = {'shop.mail.*': {'queue': 'mail'}, 'shop.orders.*': {'queue': 'orders', 'priority': 3}}
app.conf.broker_transport_options = {'priority_steps': list(range(10)), 'queue_order_strategy': 'priority'}

@app.task(name='shop.mail.welcome')
def welcome(): ...

@app.task(name='shop.orders.take', acks_late=True)
def take(): ...

def later():
    chord([take.s()])(welcome.si())
    take.apply_async(priority=9)
"""

DJANGO = """
from celery import Celery
from celery.schedules import crontab

class settings:
    DEBUG = False
    DATABASES = {}
    CELERY_BROKER_URL = 'amqp://guest:guest@localhost:5672//'
    CELERY_RESULT_BACKEND = 'django-db'
    CELERY_TIMEZONE = 'Europe/Oslo'
    CELERY_ACCEPT_CONTENT = ['json']
    CELERY_TASK_SERIALIZER = 'json'
    CELERY_TASK_TRACK_STARTED = True
    CELERY_TASK_TIME_LIMIT = 30 * 60
    CELERY_TASK_DEFAULT_QUEUE = 'site'
    CELERY_TASK_ROUTES = {'site.reports.*': {'queue': 'reports'}}
    CELERY_BEAT_SCHEDULE = {
        'nightly': {'task': 'site.reports.nightly', 'schedule': crontab(hour=3), 'options': {'queue': 'reports'}},
    }
    CELERY_BEAT_SCHEDULER = 'django_celery_beat.schedulers:DatabaseScheduler'

settings.CELERY_RESULT_BACKEND = None  # the database's package isn't here

app = Celery('site')
app.config_from_object(settings, namespace='CELERY')

@app.task(name='site.reports.nightly')
def nightly(): ...

@app.task(name='site.sign_up', bind=True, default_retry_delay=60)
def sign_up(self):
    raise self.retry()
"""

OLD_NAMES = """
from celery import Celery

app = Celery('old', broker='amqp://')
app.conf.update(
    CELERY_TASK_SERIALIZER='json',
    CELERY_DEFAULT_QUEUE='main',
    CELERYD_PREFETCH_MULTIPLIER=1,
    CELERY_ACKS_LATE=True,
    CELERY_ROUTES={'old.report': {'queue': 'reports'}},
)

@app.task(name='old.report')
def report(): ...
"""

ROUTES = """
import re
from celery import Celery

app = Celery('feeds', broker='amqp://')
app.conf.task_routes = ([
    ('feed.tasks.*', {'queue': 'feeds'}),
    ('web.tasks.*', {'queue': 'web'}),
    (re.compile(r'(video|image)\\.tasks\\..*'), {'queue': 'media'}),
],)

@app.task(name='feed.tasks.import_feed')
def import_feed(): ...

@app.task(name='web.tasks.render')
def render(): ...

@app.task(name='video.tasks.compress')
def compress(): ...

def later():
    import_feed.apply_async(args=['http://cnn.com/rss'], queue='feeds')
    app.send_task('elsewhere.tasks.unknown', queue='feeds')
"""

TOPIC = """
from celery import Celery
from kombu import Queue

app = Celery('feeds', broker='amqp://')
app.conf.task_default_queue = 'default'
app.conf.task_queues = (
    Queue('default', routing_key='task.#'),
    Queue('feed_tasks', routing_key='feed.#'),
)
app.conf.task_default_exchange = 'tasks'
app.conf.task_default_exchange_type = 'topic'
app.conf.task_default_routing_key = 'task.default'
app.conf.task_routes = {'feeds.tasks.import_feed': {'queue': 'feed_tasks', 'routing_key': 'feed.import'}}

@app.task(name='feeds.tasks.import_feed')
def import_feed(): ...

@app.task(name='feeds.tasks.clean')
def clean(): ...
"""

DIRECT = """
from celery import Celery
from kombu import Exchange, Queue

app = Celery('media', broker='amqp://')
default = Exchange('default', type='direct')
media = Exchange('media', type='direct')
app.conf.task_queues = (
    Queue('default', default, routing_key='default'),
    Queue('videos', media, routing_key='media.video'),
    Queue('images', media, routing_key='media.image'),
)
app.conf.task_default_queue = 'default'
app.conf.task_default_exchange = 'default'
app.conf.task_default_routing_key = 'default'

@app.task(name='media.encode', queue='videos')
def encode(): ...

@app.task(name='media.resize')
def resize(): ...

def later():
    resize.apply_async(exchange='media', routing_key='media.image')
"""

QUORUM = """
from celery import Celery
from kombu import Exchange, Queue

app = Celery('safe', broker='amqp://')
app.conf.task_default_queue_type = 'quorum'
app.conf.task_default_exchange_type = 'topic'
app.conf.broker_transport_options = {'confirm_publish': True}
topic = Exchange('celery', 'topic')
app.conf.task_queues = [Queue('celery', topic, 'celery', queue_arguments={'x-queue-type': 'quorum'})]

@app.task(name='safe.work', bind=True)
def work(self):
    raise self.retry(countdown=60)

def later():
    work.apply_async(countdown=30)
"""

OWN_SETTINGS = """
from celery import Celery

app = Celery('own', broker='amqp://', backend='cache+memory://')
app.conf.update(api_token='x', report_folder='/tmp', tenant_queues={'a': 1}, user_model='x', region='eu')

class Base(app.Task):
    abstract = True

@app.task(base=Base, name='own.work', rate_limit='10/m', time_limit=60)
def work(): ...

@app.on_after_configure.connect
def schedule(sender, **kwargs):
    sender.add_periodic_task(10.0, work.s(), name='often', queue='celery')
"""

BROADCAST = """
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast

app = Celery('news', broker='amqp://')
app.conf.task_queues = (Queue('celery'), Broadcast('announcements'))
app.conf.task_routes = {'news.reload': {'queue': 'announcements', 'exchange': 'announcements'}}

@app.task(name='news.reload', ignore_result=True)
def reload(): ...
"""

MAPPING = """
from celery import Celery

app = Celery('shop')
app.conf.task_create_missing_queues = False
app.conf.task_queues = {
    'default': {'exchange': 'shop', 'routing_key': 'default'},
    'high': {'exchange': 'shop', 'exchange_type': 'direct', 'routing_key': 'high'},
}
app.conf.task_default_queue = 'default'
app.conf.beat_schedule = {'often': {'task': 'shop.count', 'schedule': 10, 'options': {'queue': 'high', 'expires': 10}}}

@app.task(name='shop.count', queue='high', expires=60, time_limit=300, soft_time_limit=200)
def count(): ...
"""

ROUTER = """
from celery import Celery

app = Celery('shop', broker='amqp://guest:guest@a//;amqp://guest:guest@b//')

def route(name, args, kwargs, options, task=None, **kw):
    return {'queue': 'special'} if name.startswith('shop.special') else None

class Routed(app.Task):
    abstract = True

    def apply_async(self, *args, **options):
        options.setdefault('queue', 'mine')
        return super().apply_async(*args, **options)

app.conf.task_routes = (route,)
app.conf.task_annotations = {'*': {'rate_limit': '10/s'}}

@app.task(base=Routed, name='shop.mine')
def mine(): ...

@app.task(name='shop.special.offer', acks_late=True)
def offer(): ...

def later(name):
    offer.apply_async(queue='queue_' + name, priority=3)
    offer.apply_async(**{'queue': name})
"""

ORDINARY = {
    "queues as a mapping": MAPPING,
    "a router": ROUTER,
    "first steps": FIRST_STEPS,
    "next steps": NEXT_STEPS,
    "Redis": REDIS,
    "Django": DJANGO,
    "old names": OLD_NAMES,
    "routes": ROUTES,
    "topic": TOPIC,
    "direct": DIRECT,
    "quorum": QUORUM,
    "settings of its own": OWN_SETTINGS,
    "Broadcast": BROADCAST,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_application_is_clean(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "quorum" and not installed.since((5, 5)):
        pytest.skip(f"Celery {installed.CELERY_VERSION} has no setting task_default_queue_type, which came with 5.5")
    check_example.isolate(monkeypatch, tmp_path)
    module = check_example.load(ORDINARY[name], tmp_path)
    found = check(check_example.facts(module, tmp_path)).findings
    assert [f"{finding.rule.code} {finding.found.text}" for finding in found if finding.severity > Severity.NOTE] == []


PROCFILE = """
web: gunicorn site.wsgi
worker: celery -A proj worker --loglevel=INFO
reports: celery -A proj worker -n reports@%h -Q reports -c 2
beat: celery -A proj beat
"""
FLEET = f"""
fleet = '''{PROCFILE}'''
app.conf.task_routes = {{"proj.reports.*": {{"queue": "reports"}}}}

@app.task(name="proj.reports.nightly")
def nightly(): ...

@app.task(name="proj.sign_up")
def sign_up(): ...
"""


def test_an_ordinary_fleet_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)
    report = check(check_example.facts(check_example.load(FLEET, tmp_path), tmp_path))
    assert report.findings == ()
    assert "fleet" not in report.unchecked
