"""Lets psycopg2 wait in gevent: a greenlet that waits for PostgreSQL holds up nobody else.

psycopg2 asks a function of ours to do its waiting; here gevent's hub does. Nothing of the standard
library has to be patched for it.
"""

import gevent.socket
import psycopg2.extensions


def monkey_patch():
    """Once per process, when the application begins."""
    psycopg2.extensions.set_wait_callback(wait)


def wait(connection):
    """Returns when psycopg2 may go on; what is raised here makes it close the connection."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        # The descriptor may change while a connection is made.
        if state == psycopg2.extensions.POLL_READ:
            gevent.socket.wait_read(connection.fileno())
        else:
            gevent.socket.wait_write(connection.fileno())
