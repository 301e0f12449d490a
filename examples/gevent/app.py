"""A request that sleeps, joins greenlets, looks up names, and leaves one behind that goes on.

    /               all of this, sent as it happens
    /background     what the greenlets that were left behind have done so far

uWSGI's documentation of its gevent mode calls it a crazy example: nothing here is patched, gevent's
own functions do the waiting.
"""

import gevent
import gevent.socket

NAMES = ["www.google.com", "www.example.com", "www.python.org", "projects.unbit.it", "localhost"]
done = []


def bg_task():
    for i in range(1, 10):
        print("background task", i, flush=True)
        done.append(i)
        gevent.sleep(0.2)


def long_task():
    for i in range(1, 10):
        print(i, flush=True)
        gevent.sleep()


def tell(sr):
    sr("200 OK", [("Content-Type", "text/plain")])
    yield b"".join(b"%d\n" % i for i in done)


def application(e, sr):
    if e["PATH_INFO"] == "/background":
        yield from tell(sr)
        return
    sr("200 OK", [("Content-Type", "text/html")])
    t = gevent.spawn(long_task)
    t.join()
    yield b"sleeping for 3 seconds...<br/>\n"
    gevent.sleep(3)
    yield b"done<br>\n"
    yield b"getting some ips...<br/>\n"
    jobs = [gevent.spawn(gevent.socket.gethostbyname, name) for name in NAMES]
    gevent.joinall(jobs, timeout=2)

    for j in jobs:
        # None: there is no such name, or its answer took too long.
        yield b"ip = %s<br/>\n" % str(j.value).encode()

    gevent.spawn(bg_task)  # this task will go on after request end
