"""Django's FileResponse, which gives its file to wsgi.file_wrapper."""

import uwsgi
from django.conf import settings
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")


def file(request):
    # Django closes it.
    return FileResponse(open(request.GET["path"], "rb"))


def hello(request):
    return HttpResponse("hello\n")


def finished(**_):
    uwsgi.log("request finished")


request_finished.connect(finished, weak=False)
urlpatterns = [path("file", file), path("hello", hello)]
application = get_wsgi_application()
