"""Tornado's clients, timeouts and handlers, beside and inside of WSGI requests."""

import json
import os

import greenlet
import uwsgidecorators
from greenloom import aio
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

handlers = {}


class Hello(RequestHandler):
    """Beside the WSGI application, on a port of its own."""

    async def get(self):
        self.write("hello from Tornado")


@uwsgidecorators.postfork
def listen():
    sockets = bind_sockets(0, "127.0.0.1")
    handlers["port"] = sockets[0].getsockname()[1]
    server = HTTPServer(Application([("/", Hello)]))
    IOLoop.current().add_callback(server.add_sockets, sockets)


def port(environ):
    return handlers["port"]


def current(environ):
    return IOLoop.current() is IOLoop.current(instance=False)


def fetch(environ):
    """A callback that switches back, as the documents show it."""
    me = greenlet.getcurrent()
    url = f"http://127.0.0.1:{environ['SERVER_PORT']}/timeout"
    future = AsyncHTTPClient().fetch(url)
    IOLoop.current().add_future(future, me.switch)
    ended = me.parent.switch()
    short = aio.wait(AsyncHTTPClient().fetch(url))
    return [json.loads(ended.result().body), json.loads(short.body)]


def timeout(environ):
    me = greenlet.getcurrent()
    loop = IOLoop.current()
    began = loop.time()
    loop.add_timeout(began + 0.05, me.switch)
    me.parent.switch()
    return loop.time() - began >= 0.05


def chained(environ):
    """A timeout, a callback after it, and a descriptor in the end."""
    me = greenlet.getcurrent()
    loop = IOLoop.current()
    reader, writer = os.pipe()
    seen = []

    def first():
        seen.append("first")
        loop.add_callback(second)

    def second():
        seen.append("second")
        os.write(writer, b"x")

    def third(fd, events):
        seen.append("third")
        loop.remove_handler(fd)
        me.switch()

    loop.add_handler(reader, third, loop.READ)
    loop.call_later(0.01, first)
    me.parent.switch()
    os.close(reader)
    os.close(writer)
    return seen


def parts(environ):
    me = greenlet.getcurrent()
    for part in (b"[1,", b"2,", b"3]"):
        IOLoop.current().call_later(0.01, me.switch)
        me.parent.switch()
        yield part


PATHS = {
    "/chained": chained,
    "/current": current,
    "/fetch": fetch,
    "/port": port,
    "/timeout": timeout,
}


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    if environ["PATH_INFO"] == "/parts":
        return parts(environ)
    return [json.dumps(PATHS[environ["PATH_INFO"]](environ)).encode()]
