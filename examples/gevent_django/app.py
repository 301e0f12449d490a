"""Django on PostgreSQL: ordinary views, and one process in which many of them wait at once."""

import gevent.monkey

# Before Django: it keeps one connection for each thread, and only patched threads tell greenlets
# apart. More than that, --gevent-monkey-patch has patched before it came here.
gevent.monkey.patch_thread()

import gevent_psycopg2  # noqa: E402

gevent_psycopg2.monkey_patch()

from views import application  # noqa: E402, F401
