"""Django by get_asgi_application(): asynchronous and plain views, in one file."""

import asyncio
import os
import threading
from pathlib import Path

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="of the tests",
        DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        LOGGING_CONFIG=None,
    )
    django.setup()

notes = []


class Go:
    event = asyncio.Event()


async def hello(request):
    return HttpResponse("hello\n")


def plain(request):
    return JsonResponse(
        {
            "main thread": threading.current_thread() is threading.main_thread(),
            "method": request.method,
            "path": request.path,
            "path_info": request.path_info,
            "reverse": reverse("hello"),
            "query": request.GET.dict(),
            "cookies": request.COOKIES,
            "remote": request.META["REMOTE_ADDR"],
            "uri": request.build_absolute_uri(),
            "header": request.headers.get("X-Test"),
        }
    )


async def asynchronous(request):
    await asyncio.sleep(0.001)
    return JsonResponse([reverse("hello"), request.path, request.body.decode()], safe=False)


async def waits(request):
    """One task, and its client may leave."""
    notes.append("began")
    try:
        await Go.event.wait()
    except asyncio.CancelledError:
        notes.append("CancelledError")
        raise
    return HttpResponse("went on")


async def go(request):
    event, Go.event = Go.event, asyncio.Event()
    event.set()
    return HttpResponse("gone")


async def stream(request):
    async def parts():
        for number in range(10):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def stream_for_ever(request):
    async def parts():
        try:
            while True:
                yield "part\n"
                await asyncio.sleep(0.001)
        finally:
            notes.append("stream ends")

    return StreamingHttpResponse(parts(), content_type="text/plain")


def upload(request):
    return HttpResponse(str(len(request.body)))


def file(request):
    return FileResponse((Path(os.environ["FILES"]) / "small.txt").open("rb"))


async def fails(request):
    raise ValueError("on purpose")


async def take_notes(request):
    taken, notes[:] = list(notes), []
    return JsonResponse(taken, safe=False)


urlpatterns = [
    path("hello", hello, name="hello"),
    path("plain", plain),
    path("asynchronous", asynchronous),
    path("waits", waits),
    path("go", go),
    path("stream", stream),
    path("stream_for_ever", stream_for_ever),
    path("upload", upload),
    path("file", file),
    path("fails", fails),
    path("notes", take_notes),
]
application = get_asgi_application()
