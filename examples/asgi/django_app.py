"""Django by get_asgi_application(), in one file: views of both kinds, a form, a stream."""

import asyncio

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

PAUSE_S = 0.2

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # no CSRF check, for `curl --data`
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example has no secrets",
)


async def hello(request):
    await asyncio.sleep(0)
    return HttpResponse(f"Hello from Django at {request.path}\n", content_type="text/plain")


def plain(request):
    """Django runs it in a thread, one after the other."""
    return HttpResponse("from a thread\n", content_type="text/plain")


async def form(request):
    return JsonResponse({"method": request.method, "fields": request.POST.dict()})


async def stream(request):
    async def lines():
        for number in range(1, 6):
            yield f"line {number}\n"
            await asyncio.sleep(PAUSE_S)

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("", hello),
    path("plain", plain),
    path("form", form),
    path("stream", stream),
]

application = get_asgi_application()
