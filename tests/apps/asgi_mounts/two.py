"""The other one."""

from one import answer


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await answer("two", scope, send)
