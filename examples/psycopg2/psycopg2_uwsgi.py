"""Lets psycopg2 wait as a green thread: a request that waits for PostgreSQL gives way to others.

psycopg2 asks a function of ours to do its waiting (`set_wait_callback`). The function registers the
connection's descriptor and suspends the request; that needs `--async N` with `--ugreen` or
`--greenlet`. Statements, connecting, commit and rollback all wait this way. COPY and large objects
cannot: psycopg2 refuses them while a wait callback is set.
"""

import threading
from contextlib import contextmanager

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import uwsgi


def install():
    """Once per process; to be called after what the application asks while it is loaded."""
    psycopg2.extensions.set_wait_callback(wait)


def wait(connection):
    """Returns when psycopg2 may go on. What is raised here makes psycopg2 close the connection."""
    if threading.current_thread() is not threading.main_thread():
        # A thread of the application waits for itself: it has no request to suspend.
        psycopg2.extras.wait_select(connection)
        return
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        # The descriptor may change while a connection is made, when the host has several addresses.
        if state == psycopg2.extensions.POLL_READ:
            uwsgi.wait_fd_read(connection.fileno())
        else:
            uwsgi.wait_fd_write(connection.fileno())
        uwsgi.suspend()


class Pool:
    """Keeps connections of one worker; a connection serves one request at a time.

    It needs no lock, since requests change only where they wait. psycopg2's ThreadedConnectionPool
    connects under a lock, and a request that waits with a lock held blocks the whole worker.
    """

    def __init__(self, dsn):
        self.dsn = dsn
        self.idle = []

    @contextmanager
    def connection(self):
        """A transaction: committed in the end; if anything fails, its connection is closed."""
        connection = self.idle.pop() if self.idle else psycopg2.connect(self.dsn)
        try:
            yield connection
            connection.commit()
        except BaseException:  # also uwsgi.Cancelled: the query is still under way
            connection.close()
            raise
        self.idle.append(connection)
