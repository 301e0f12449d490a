"""Does not compile: line 4."""


def application(environ, start_response)
    return []
