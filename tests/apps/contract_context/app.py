"""Calls for a request from coroutines that are not its own.

The query is the name of a case; the answer is JSON.
"""

import json
import threading

import uwsgi

BLOCK = b"z" * 65536
kept = []


def elsewhere(function):
    """What a call gives, or raises, in a green thread of the application's own."""
    if uwsgi.loop == b"gevent":
        import gevent

        return gevent.spawn(outcome, function).get()
    import greenlet

    return greenlet.greenlet(lambda: outcome(function)).switch()


def outcome(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def belongs(environ):
    context = uwsgi.request_context()
    calls = {
        "cl": lambda: uwsgi.cl(request_context=context),
        "connection_fd": lambda: uwsgi.connection_fd(request_context=context),
        "set_logvar": lambda: uwsgi.set_logvar("who", "elsewhere", request_context=context),
        "get_logvar": lambda: uwsgi.get_logvar("who", request_context=context).decode(),
        "log_this_request": lambda: uwsgi.log_this_request(request_context=context),
        "chunked_read": lambda: uwsgi.chunked_read(request_context=context).decode(),
        "chunked_read_nb": lambda: uwsgi.chunked_read_nb(request_context=context).decode(),
        "set_user_harakiri": lambda: uwsgi.set_user_harakiri(600, request_context=context),
    }
    found = {name: elsewhere(call) for name, call in calls.items()}
    found["own"] = [uwsgi.cl(), uwsgi.connection_fd(), uwsgi.get_logvar("who").decode()]
    return found


def without(environ):
    calls = (uwsgi.cl, uwsgi.connection_fd, lambda: uwsgi.send(b"x"), uwsgi.request_context)
    return [elsewhere(call) for call in calls]


def keep(environ):
    kept.append(uwsgi.request_context())
    return repr(kept[-1])


def use_kept(environ):
    context = kept.pop()
    calls = (
        lambda: uwsgi.cl(request_context=context),
        lambda: uwsgi.send(b"stray", request_context=context),
        lambda: uwsgi.disconnect(request_context=context),
        lambda: uwsgi.set_logvar("a", "b", request_context=context),
    )
    return [repr(context), *(outcome(call) for call in calls)]


def from_hook(environ):
    """What the hook has kept after the request before, with a bound that would end this one."""
    context = from_hooks[-1]
    calls = (
        lambda: uwsgi.set_user_harakiri(1, request_context=context),
        lambda: uwsgi.set_logvar("a", "b", request_context=context),
    )
    return [repr(context), *(outcome(call) for call in calls)]


def keep_from_hooks():
    from_hooks.append(uwsgi.request_context())
    uwsgi.set_logvar("hook", "may still", request_context=from_hooks[-1])


from_hooks = []
uwsgi.after_req_hook = keep_from_hooks


def thread(environ):
    context, found = uwsgi.request_context(), []
    one = threading.Thread(
        target=lambda: found.append(outcome(lambda: uwsgi.cl(request_context=context)))
    )
    one.start()
    one.join()
    return found


def no_context(environ):
    others = (1, "x", object())
    return [outcome(lambda other=other: uwsgi.cl(request_context=other)) for other in others]


CASES = {
    "belongs": belongs,
    "without": without,
    "keep": keep,
    "use_kept": use_kept,
    "from_hook": from_hook,
    "thread": thread,
    "no_context": no_context,
}


def application(environ, start_response):
    name = environ["QUERY_STRING"]
    if name == "sends":
        context = uwsgi.request_context()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        elsewhere(lambda: uwsgi.send(head + b"elsewhere", request_context=context))
        return []
    if name == "much":
        context = uwsgi.request_context()
        start_response("200 OK", [("Content-Type", "application/octet-stream")])

        def much():
            for _ in range(512):
                uwsgi.send(BLOCK, request_context=context)

        uwsgi.log(f"much: {elsewhere(much)}")
        return []
    answer = json.dumps(CASES[name](environ)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer]
