"""X-Sendfile and X-Accel-Redirect from scripts."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import do, says, write


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "files/big.bin", "0123456789" * 30_000, 0o644)
    write(tmp_path / "secret.txt", "secret", 0o644)
    return tmp_path / "files"


def test_without_the_option_it_is_a_front_ends(server):
    answer = says(server, r"X-Sendfile: /etc/hostname\nContent-Type: text/x\n\nbody")
    assert (answer.status, answer.body) == (200, b"body")
    assert answer.header("x-sendfile") == "/etc/hostname"
    answer = says(server, r"X-Accel-Redirect: /files/x\n\nbody")
    assert (answer.header("x-accel-redirect"), answer.body) == ("/files/x", b"body")


def test_the_file_is_the_body(scripts, files):
    server = scripts("--x-sendfile", str(files))
    with server.http() as client:
        answer = says(client, rf"Content-Type: text/x\nX-Sendfile: {files}/big.bin\nX-B: 2\n\nno")
        assert (answer.status, len(answer.body)) == (200, 300_000)
        assert (answer.header("content-type"), answer.header("x-b")) == ("text/x", "2")
        assert answer.header("x-sendfile") is None
        assert answer.header("etag")
        assert says(client, r"X-A: 1\n\nnext").body == b"next"
    assert server.wait_requests(2)[0].via == "sendfile"


def test_ranges_and_conditions(scripts, files):
    server = scripts("--x-sendfile", str(files))
    output = rf"X-Sendfile: {files}/big.bin\n\n"
    part = says(server, output, headers=[("Range", "bytes=5-9")])
    assert (part.status, part.body) == (206, b"56789")
    etag = says(server, output).header("etag")
    assert says(server, output, headers=[("If-None-Match", etag)]).status == 304


def test_head_and_post(scripts, files):
    server = scripts("--x-sendfile", str(files))
    output = rf"X-Sendfile: {files}/big.bin\n\n"
    with server.http() as client:
        head = says(client, output, method="HEAD")
        assert (head.status, head.header("content-length")) == (200, "300000")
        assert len(says(client, output, method="POST", body=b"body").body) == 300_000


def test_accel_names_a_place_of_a_prefix(scripts, files):
    server = scripts("--x-accel-redirect", f"/inner={files}")
    answer = says(server, r"X-Accel-Redirect: /inner/big.bin\n\n")
    assert (answer.status, len(answer.body)) == (200, 300_000)


@pytest.mark.parametrize("path", ["{}/../secret.txt", "/etc/passwd", "{}/missing", "big.bin"])
def test_what_lies_elsewhere_is_not_sent(scripts, files, path):
    server = scripts("--x-sendfile", str(files))
    with server.http() as client:
        answer = says(client, rf"X-Sendfile: {path.format(files)}\n\nbody")
        assert answer.status == 404
        assert b"secret" not in answer.body
        assert b"root:" not in answer.body
        assert says(client, r"X-A: 1\n\nnext").body == b"next"


def test_the_script_may_run_on(scripts, files, notes):
    server = scripts("--x-sendfile", str(files), *notes.options)
    code = rf"printf 'X-Sendfile: {files}/big.bin\n\n'; exec >&-; sleep 0.2; echo end >>$NOTES"
    assert len(do(server, code).body) == 300_000
    notes.wait_for("end")
