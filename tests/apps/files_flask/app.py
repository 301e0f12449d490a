"""Flask's send_file, by X-Sendfile where USE_X_SENDFILE is in the environment."""

import os

from flask import Flask, request, send_file, send_from_directory

application = Flask(__name__)
application.config["USE_X_SENDFILE"] = "USE_X_SENDFILE" in os.environ


@application.get("/file")
def file():
    return send_file(request.args["path"], as_attachment="attachment" in request.args)


@application.get("/below/<path:name>")
def below(name):
    return send_from_directory(os.environ["FILES"], name)


@application.get("/hello")
def hello():
    return "hello\n"
