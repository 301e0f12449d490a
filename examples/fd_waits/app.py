"""Waiting for file descriptors: several at once, with a timeout, and for the output of a program.

    /wait/NAME?pipes=3&timeout=30   makes pipes, waits until one of them has something to read
    /poke/NAME/INDEX                writes to one of these pipes
    /timeout?seconds=0.2            waits for a pipe nobody writes to
    /commands                       runs three programs at once, shows their output as it comes

The pipes live in this process: run this example with one worker.
"""

import os
import subprocess
from urllib.parse import parse_qs

import uwsgi

# name -> the writing ends of the pipes that the request of that name waits for
waiting = {}


def application(env, start_response):
    query = {name: values[-1] for name, values in parse_qs(env.get("QUERY_STRING", "")).items()}
    try:
        match env["PATH_INFO"].strip("/").split("/"):
            case ["wait", name] if name not in waiting:
                pipes, timeout = int(query.get("pipes", 3)), float(query.get("timeout", 30))
                return wait(env, start_response, name, min(pipes, 100), timeout)
            case ["poke", name, index]:
                return poke(start_response, name, int(index))
            case ["timeout"]:
                return time_out(env, start_response, float(query.get("seconds", 0.2)))
            case ["commands"]:
                return commands(env, start_response)
            case [""]:
                start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
                return [__doc__.encode()]
    except ValueError:
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"pipes, timeout, seconds and the index are numbers\n"]
    return not_found(start_response)


def not_found(start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"no such page, or that name is in use\n"]


def wait(env, start_response, name, count, timeout):
    pipes = [os.pipe() for _ in range(count)]
    waiting[name] = [write_end for _, write_end in pipes]
    try:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"waiting for %d pipes\n" % count
        for read_end, _ in pipes:
            uwsgi.wait_fd_read(read_end, timeout)  # registers, and returns at once
        yield b""  # now the request waits for the first of them
        ready = env["uwsgi.ready_fd"]
        if ready is None or ready < 0:
            yield b"nothing came\n"
            return
        index = [read_end for read_end, _ in pipes].index(ready)
        yield b"pipe %d is ready: %s\n" % (index, os.read(ready, 4096))
    finally:
        # Runs in every ending, also when the client leaves while the request waits.
        waiting.pop(name, None)
        for ends in pipes:
            for fd in ends:
                os.close(fd)


def poke(start_response, name, index):
    if name not in waiting or not 0 <= index < len(waiting[name]):
        return not_found(start_response)
    os.write(waiting[name][index], b"hello through pipe %d" % index)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"poked\n"]


def time_out(env, start_response, seconds):
    read_end, write_end = os.pipe()
    try:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield uwsgi.wait_fd_read(read_end, seconds)  # it returns b"": register and wait in one line
        timed_out = bool(env["x-wsgiorg.fdevent.timeout"])
        yield b"timed out: %s, ready fd: %d\n" % (str(timed_out).encode(), uwsgi.ready_fd())
    finally:
        os.close(read_end)
        os.close(write_end)


def commands(env, start_response):
    """Their output is shown in the order in which it comes."""
    programs = [
        "sleep 0.3; echo third",
        "echo first",
        "sleep 0.15; echo second",
    ]
    running = {}
    try:
        for program in programs:
            process = subprocess.Popen(["/bin/sh", "-c", program], stdout=subprocess.PIPE)
            running[process.stdout.fileno()] = process
        start_response("200 OK", [("Content-Type", "text/plain")])
        while running:
            # All waits end with the first event, so each round registers anew.
            for fd in running:
                uwsgi.wait_fd_read(fd)
            yield b""
            ready = env["uwsgi.ready_fd"]
            output = os.read(ready, 4096)
            if output:
                yield output
            else:
                finish(running.pop(ready))
    finally:
        for process in running.values():
            process.kill()
            finish(process)


def finish(process):
    process.stdout.close()
    process.wait()
