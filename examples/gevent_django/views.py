"""An ordinary Django on PostgreSQL; nothing in here knows of gevent.

    /sleep?seconds=1        the database sleeps, the worker does not
    /activity               how many queries of this database are under way
    /transaction?seconds=1  a transaction that takes its time, and keeps what it has set

Where the database is, libpq's own variables say: PGHOST, PGUSER, PGDATABASE and others.
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ.get("PGHOST", ""),
            "USER": os.environ.get("PGUSER", ""),
            "NAME": os.environ.get("PGDATABASE", "postgres"),
            # PostgreSQL looks every second of a query whether its client is still there.
            "OPTIONS": {"options": "-c client_connection_check_interval=1s"},
        }
    },
)


def ask(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def sleep(request):
    seconds = float(request.GET.get("seconds", 1))
    ask("SELECT pg_sleep(%s)", seconds)
    return HttpResponse(f"slept {seconds} s\n")


def activity(request):
    number = ask(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    return HttpResponse(f"{number} under way\n")


def in_transaction(request):
    with transaction.atomic():
        backend = ask("SELECT pg_backend_pid()")
        ask("SELECT set_config('greenloom.mine', %s, true)", str(backend))
        ask("SELECT pg_sleep(%s)", float(request.GET.get("seconds", 1)))
        same = ask("SELECT current_setting('greenloom.mine') = pg_backend_pid()::text")
    return HttpResponse(f"backend {backend}, still its own: {same}\n")


urlpatterns = [
    path("sleep", sleep),
    path("activity", activity),
    path("transaction", in_transaction),
]
application = get_wsgi_application()
