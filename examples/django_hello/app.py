"""A Django project in one file: a page, a form, a view that reads the raw body, and a stream."""

import hashlib

import uwsgi
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # no CSRF check, for `curl --data`
    ROOT_URLCONF=__name__,
    SECRET_KEY="an example has no secrets",
)


def hello(request):
    return HttpResponse(f"Hello from Django at {request.path}\n", content_type="text/plain")


def form(request):
    return JsonResponse({"method": request.method, "fields": request.POST.dict()})


def raw(request):
    digest = hashlib.sha256(request.body).hexdigest()
    return JsonResponse({"size": len(request.body), "sha256": digest})


def stream(request):
    def lines():
        for i in range(1, 6):
            uwsgi.async_sleep(0.05)
            yield b""
            yield f"line {i}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("", hello),
    path("form", form),
    path("raw", raw),
    path("stream", stream),
]

application = get_wsgi_application()
