"""Mounted at /shop/admin, below another mount point."""


def application(env, start_response):
    script_name, path_info = env.get("SCRIPT_NAME", ""), env["PATH_INFO"]
    body = f"admin: {script_name=} {path_info=}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
