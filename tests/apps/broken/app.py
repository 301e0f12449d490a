"""Does not load: line 5 raises."""

VALUE = 1

raise ValueError("broken on purpose")


def application(environ, start_response):
    return []
