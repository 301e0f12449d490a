"""Callables of all kinds, for --asgi and for --module."""


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi\n"]


async def asgi(scope, receive, send):
    pass


async def two_arguments(environ, start_response):
    pass


def asgi_2(scope):
    async def instance(receive, send):
        pass

    return instance


class Instance:
    async def __call__(self, scope, receive, send):
        pass


instance = Instance()
nothing = None
number = 17
