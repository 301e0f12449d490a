"""The other application for mount tests."""


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"two|{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]
