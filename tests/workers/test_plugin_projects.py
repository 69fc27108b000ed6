"""The plugin on projects as they are: Django, FastAPI, a producer whose workers live elsewhere, a monorepo, xdist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pytest_runs import run_pytest, write
from waybill.testing import brokers
from waybill.testing.brokers import Address

DJANGO = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        DJANGO_SETTINGS_MODULE = "proj.settings"
        pythonpath = "."
        waybill_app = "proj.celery:app"
    """,
    "proj/__init__.py": """
        from .celery import app as celery_app
    """,
    "proj/settings.py": """
        from pathlib import Path

        ROOT = Path(__file__).parents[1]
        SECRET_KEY = "secret"
        INSTALLED_APPS = ["accounts"]
        ROOT_URLCONF = "accounts.urls"
        ALLOWED_HOSTS = ["*"]
        USE_TZ = True
        DATABASES = {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": ROOT / "development.sqlite3",
                "TEST": {"NAME": ROOT / "test.sqlite3"},
            }
        }
        CELERY_BROKER_URL = "amqp://nobody@127.0.0.1:1//"
        CELERY_RESULT_BACKEND = "redis://127.0.0.1:1/0"
        CELERY_TASK_DEFAULT_QUEUE = "mails"
        CELERY_TASK_ROUTES = {"accounts.tasks.index": {"queue": "search"}}
    """,
    "proj/celery.py": """
        import os
        from celery import Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
        app = Celery("proj")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
    """,
    "accounts/__init__.py": "",
    "accounts/models.py": """
        from django.db import models

        class Account(models.Model):
            name = models.CharField(max_length=50)
            is_welcome = models.BooleanField(default=False)
    """,
    "accounts/tasks.py": """
        from celery import shared_task
        from accounts.models import Account

        @shared_task(ignore_result=True)
        def welcome(name):
            Account.objects.filter(name=name).update(is_welcome=True)

        @shared_task(ignore_result=True)
        def index(name):
            raise AssertionError("it ran")
    """,
    "accounts/urls.py": """
        from django.db import transaction
        from django.http import HttpResponse
        from django.urls import path
        from accounts.models import Account
        from accounts.tasks import index, welcome

        def signup(request):
            Account.objects.create(name=request.POST["name"])
            welcome.delay(request.POST["name"])
            transaction.on_commit(lambda: index.delay(request.POST["name"]))
            return HttpResponse("ok")

        urlpatterns = [path("signup/", signup)]
    """,
    "tests/test_accounts.py": """
        import pytest
        from accounts.models import Account

        @pytest.mark.django_db
        def test_signing_up(waybill_watch, client, django_capture_on_commit_callbacks):
            with django_capture_on_commit_callbacks(execute=True):
                client.post("/signup/", {"name": "ada"})
            assert waybill_watch.received == {"accounts.tasks.welcome": {"mails"}, "accounts.tasks.index": {"search"}}
            assert not Account.objects.get().is_welcome

        def test_no_database_is_needed(waybill_watch):
            waybill_watch.publish("accounts.tasks.index", ("ada",))
            (delivery,) = waybill_watch.settle()
            assert delivery.queues == {"search"}

        @pytest.mark.waybill(run=True)
        @pytest.mark.waybill_workers("mails")
        @pytest.mark.django_db(transaction=True)
        def test_the_task_itself(waybill_watch):
            from accounts.tasks import welcome

            Account.objects.create(name="ada")
            welcome.delay("ada")
            while not Account.objects.get().is_welcome:
                waybill_watch.settle()
    """,
}

FASTAPI = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "service.worker:app"
        waybill_fleet = "compose.yml"
        pythonpath = "src"
    """,
    "compose.yml": """
        services:
          api: {image: service, command: uvicorn service.api:api}
          worker: {image: service, command: celery -A service.worker worker -n thumbs@%h -Q thumbs}
    """,
    "src/service/__init__.py": "",
    "src/service/worker.py": """
        from celery import Celery
        from kombu import Queue

        app = Celery("service", broker="amqp://nobody@127.0.0.1:1//")
        app.conf.task_queues = [Queue("thumbs")]
        app.conf.task_default_queue = "thumbs"

        @app.task(name="thumb")
        def thumb(image): raise AssertionError("it ran")
    """,
    "src/service/api.py": """
        from fastapi import BackgroundTasks, FastAPI
        from service.worker import thumb

        api = FastAPI()

        @api.post("/images/{name}")
        def upload(name: str, background: BackgroundTasks):
            thumb.delay(name)
            background.add_task(thumb.delay, f"{name}-later")
            return {}

        @api.post("/async/{name}")
        async def upload_async(name: str):
            thumb.apply_async((name,), priority=3)
            return {}
    """,
    "tests/test_api.py": """
        from fastapi.testclient import TestClient
        from service.api import api

        def test_uploads(waybill_watch):
            with waybill_watch.recording() as sent, TestClient(api) as client:
                client.post("/images/cat")
                client.post("/async/dog")
            assert sent[-1].priority == 3
            assert [delivery.by_worker for delivery in waybill_watch.settle()] == 3 * [{"thumbs": "thumbs"}]
    """,
}

PRODUCER = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "producer"
    """,
    "producer.py": """
        from celery import Celery
        from kombu import Exchange

        app = Celery("producer", broker="amqp://nobody@127.0.0.1:1//")
        app.conf.task_routes = {"mail.*": {"queue": "mails"}}

        def order(customer):
            app.send_task("mail.send", (customer,))
            app.send_task("stock.take", queue="stock")
            app.send_task("audit.log")
    """,
    "test_producer.py": """
        import producer

        def test_an_order(waybill_watch):
            producer.order("ada")
            assert waybill_watch.received == {
                "mail.send": {"mails"}, "stock.take": {"stock"}, "audit.log": {"celery"}
            }
            assert not waybill_watch.unroutable
    """,
}

# Two projects with modules of one name, each in a folder of its own.
SERVICE = """
    from celery import Celery
    from kombu import Queue

    app = Celery("{0}", broker="amqp://nobody@127.0.0.1:1//")
    app.conf.task_queues = [Queue("{0}")]
    app.conf.task_default_queue = "{0}"

    @app.task(name="{0}.work")
    def work(): ...
"""
MONOREPO = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    **{f"{name}/{name}_app.py": SERVICE.format(name) for name in ("mail", "shop")},
    **{f"{name}/Procfile": f"one: celery -A {name}_app worker -n {name}@%h -Q {name}" for name in ("mail", "shop")},
    **{
        f"{name}/test_{name}.py": f"""
            import pytest
            pytestmark = pytest.mark.waybill(app="{name}_app", fleet="{name}/Procfile")

            def test_it(waybill_watch):
                waybill_watch.publish("{name}.work")
                (delivery,) = waybill_watch.settle()
                assert delivery.by_worker == {{"{name}": "{name}"}}
        """
        for name in ("mail", "shop")
    },
}

PROJECTS = {
    "django": (DJANGO, 3),
    "fastapi": (FASTAPI, 1),
    "producer": (PRODUCER, 1),
    "monorepo": (MONOREPO, 2),
}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project(tmp_path: Path, waybill_broker: Address, name: str) -> None:
    files, tests = PROJECTS[name]
    for library in {"django": ("django", "pytest_django"), "fastapi": ("fastapi",)}.get(name, ()):
        pytest.importorskip(library)
    done = run_pytest(write(tmp_path, files), at=waybill_broker)
    assert done.counts == {"passed": tests}, done.text


def test_several_processes_of_xdist(tmp_path: Path, waybill_broker: Address) -> None:
    modules = {f"test_{number}.py": PRODUCER["test_producer.py"] for number in range(4)}
    done = run_pytest(write(tmp_path, {**PRODUCER, **modules}), "-n", "2", "--dist", "loadfile", at=waybill_broker)
    assert done.counts == {"passed": 5}, done.text


@pytest.mark.usefixtures("docker_engine")
def test_several_processes_share_a_container(tmp_path: Path) -> None:
    test = """
        import time
        from pathlib import Path

        def test_it(waybill_watch, waybill_broker):
            folder = Path(__file__).parent
            (folder / f"{Path(__file__).stem}.url").write_text(waybill_broker.url)
            while len(list(folder.glob("*.url"))) < 2:
                time.sleep(0.05)
    """
    run_pytest(
        write(tmp_path, {**PRODUCER, "test_producer.py": test, "test_2.py": test}),
        *("-n", "2", "--dist", "loadfile", "--waybill-broker", "docker"),
    )
    assert len({path.read_text() for path in tmp_path.glob("*.url")}) == 1


@pytest.mark.skipif(not Path("/.dockerenv").exists(), reason="this is no container")
@pytest.mark.usefixtures("docker_engine")
def test_a_container_is_reached_from_within_a_container(tmp_path: Path) -> None:
    nothing = dict.fromkeys(brokers.CONNECTION_VARIABLES, "")
    done = run_pytest(write(tmp_path, PRODUCER), "--waybill-broker", "docker", environment=nothing)
    assert done.counts == {"passed": 1}, done.text


def test_a_database_in_memory_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pytest_django")
    settings = DJANGO["proj/settings.py"].replace('"TEST": {"NAME": ROOT / "test.sqlite3"},', "")
    done = run_pytest(write(tmp_path, {**DJANGO, "proj/settings.py": settings}))
    assert done.counts == {"passed": 2, "error": 1}, done.text
    assert "the test database `default` is in this process's memory" in done.text
