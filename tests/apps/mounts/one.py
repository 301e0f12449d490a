"""One of two applications for mount tests: says its name and its paths."""


def answer(name, environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{name}|{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]


def application(environ, start_response):
    return answer("one", environ, start_response)


def named(environ, start_response):
    return answer("named", environ, start_response)


def factory():
    def made(environ, start_response):
        return answer("made", environ, start_response)

    return made
