"""Large files, slow clients, and uploads that break off: bounded memory, all or nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway import CONFIG, KEY, Gateway
from upstream import Upstream

MIB = 1024 * 1024
BLOCK = os.urandom(MIB)
FORM = {"content-type": "multipart/form-data; boundary=xyz"}
BEGIN = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
END = b'\r\n--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbig\r\n--xyz--\r\n'
Start = Callable[..., Gateway]


def body_of(blocks: int) -> Iterator[bytes]:
    """Yield a form with the file before its purpose."""
    yield BEGIN
    for _ in range(blocks):
        yield BLOCK
    yield END


def objects(gateway: Gateway) -> list[str]:
    return [path.name for path in (gateway.data_dir / "files").iterdir()]


def wait_until(condition: Callable[[], bool]) -> None:
    """There is no event across processes to wait for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def half_an_upload(gateway: Gateway) -> Iterator[socket.socket]:
    """Send the first half of a large upload, and go on when its bytes have reached the store."""
    before = set(objects(gateway))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: {FORM['content-type']}\r\ncontent-length: {64 * MIB}\r\n\r\n"
        )
        connection.sendall(head.encode() + BEGIN + BLOCK * 32)
        wait_until(lambda: any("#" in name for name in set(objects(gateway)) - before))
        yield connection


@pytest.fixture(scope="module")
def _shared(
    _upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Gateway]]:
    """Return a function that starts a gateway with a further `[edge]` line, or returns the one that has it."""
    started: dict[str, Gateway] = {}

    def shared(line: str) -> Gateway:
        if line not in started:
            config = CONFIG.format(base_url=_upstream.base_url) + line
            started[line] = Gateway(tmp_path_factory.mktemp("files"), config)
            started[line].start()
        return started[line]

    yield shared
    for gateway in started.values():
        gateway.stop()


@pytest.fixture
def files(_shared: Callable[[str], Gateway]) -> Gateway:
    """A gateway for the tests of this module, without files."""
    return _emptied(_shared(""))


@pytest.fixture
def limited(_shared: Callable[[str], Gateway]) -> Gateway:
    """One that takes files of 1 MiB, without files."""
    return _emptied(_shared(f"max_file_bytes = {MIB}\n"))


def _emptied(gateway: Gateway) -> Gateway:
    with gateway.client() as http:
        for file in http.get("/v1/files").json()["data"]:
            http.delete(f"/v1/files/{file['id']}")
    wait_until(lambda: objects(gateway) == [])
    return gateway


@pytest.fixture
def own(start_gateway: Start, upstream: Upstream) -> Gateway:
    """A gateway of the test's own."""
    return start_gateway(CONFIG.format(base_url=upstream.base_url))


def test_a_client_that_vanishes_leaves_nothing(files: Gateway) -> None:
    """Half an upload is neither listed nor kept, and what was written of it is removed."""
    with half_an_upload(files):
        pass
    wait_until(lambda: objects(files) == [])
    with files.client() as http:
        assert http.get("/v1/files").json()["total"] == 0
    wait_until(lambda: unowned(files) == 0)


def test_an_edge_that_dies_leaves_nothing(own: Gateway) -> None:
    """For the core a dead edge is a caller that went away."""
    with half_an_upload(own):
        for pid in own.children("maniac_edge"):
            os.kill(pid, 9)
    wait_until(lambda: objects(own) == [])
    own.wait_until_ready()
    with own.client() as http:
        assert http.get("/v1/files").json()["total"] == 0


def test_a_core_that_dies_leaves_nothing_that_is_seen(own: Gateway) -> None:
    """The client gets a 503, nothing is listed, and the next sweep removes what lies in the store."""
    with half_an_upload(own) as connection:
        own.kill_core()
        answer = connection.recv(65536)
    own.wait_until_ready()
    with own.client() as http:
        assert http.get("/v1/files").json()["total"] == 0
    left = objects(own)
    own.stop()
    # As if it had happened an hour ago.
    with contextlib.closing(sqlite3.connect(own.data_dir / "gateway.db")) as database:
        database.execute("UPDATE unowned_objects SET touched = touched - 3600")
        database.commit()
    own.start()
    wait_until(lambda: objects(own) == [])

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"dependency_unavailable" in answer
    assert len(left) == 1
    wait_until(lambda: unowned(own) == 0)


def test_a_form_that_ends_too_early_leaves_nothing(files: Gateway) -> None:
    """A complete HTTP body with half a form in it is a 422."""
    with files.client() as http:
        response = http.post("/v1/files", content=BEGIN + BLOCK * 10, headers=FORM)
        assert response.status_code == 422
        assert http.get("/v1/files").json()["total"] == 0
    wait_until(lambda: objects(files) == [])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_above_the_limit_is_a_413(limited: Gateway, *, chunked: bool) -> None:
    """Announced or not; a file of exactly the limit is taken."""

    def sent(*blocks: bytes) -> httpx.Response:
        parts = [BEGIN, *blocks, END]
        content: Any = iter(parts) if chunked else b"".join(parts)
        with limited.client() as http:
            return http.post("/v1/files", content=content, headers=FORM)

    taken, refused, far_above = sent(BLOCK), sent(BLOCK, b"x"), sent(*[BLOCK] * 5)
    assert taken.status_code == 200
    assert [answer.status_code for answer in (refused, far_above)] == [413, 413]
    assert refused.json()["error"]["code"] == "payload_too_large"
    assert objects(limited) == [taken.json()["id"]]


def test_a_refusal_in_the_middle_of_a_body_keeps_its_status(
    start_gateway: Start, upstream: Upstream
) -> None:
    """What the core decides while a large file is on its way reaches the client as it is."""
    config = CONFIG.format(base_url=upstream.base_url)
    gateway = start_gateway(config.replace("[core]", f"[core]\nmax_file_bytes = {3 * MIB}"))
    purpose = b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\na b\r\n'
    with gateway.client() as http:
        for _ in range(5):
            form = iter([purpose + BEGIN, *[BLOCK] * 2, b"\r\n--xyz--\r\n"])
            invalid = http.post("/v1/files", content=form, headers=FORM)
            too_large = http.post("/v1/files", content=body_of(4), headers=FORM)
            assert (invalid.status_code, too_large.status_code) == (422, 413)
            assert invalid.json()["detail"][0]["loc"] == ["body", "purpose"]


def test_skipped_parts_count_against_the_limit(limited: Gateway) -> None:
    """Nobody keeps an edge busy with parts that it throws away."""
    junk = b'--xyz\r\nContent-Disposition: form-data; name="junk"\r\n\r\n'
    with limited.client() as http:
        answer = http.post("/v1/files", content=iter([junk, BLOCK, BLOCK]), headers=FORM)
    assert answer.status_code == 413


def test_large_files_pass_through_in_little_memory(own: Gateway) -> None:
    """256 MiB up and down again, and neither process grows by a quarter of that."""
    processes = [own.children(" core")[0], own.children("maniac_edge")[0]]
    with own.client() as http:
        small = http.post("/v1/files", content=body_of(16), headers=FORM).json()["id"]
        http.get(f"/v1/files/{small}/content")
        before = [peak_of(pid, reset=True) for pid in processes]
        made = http.post("/v1/files", content=body_of(256), headers=FORM).json()
        received = 0
        with http.stream("GET", f"/v1/files/{made['id']}/content") as response:
            for piece in response.iter_raw(MIB):
                received += len(piece)
        grown = [peak_of(pid) - start for pid, start in zip(processes, before, strict=True)]

    assert received == made["bytes"] == 256 * MIB
    assert max(grown) < 64 * MIB, grown


def test_a_reader_that_stalls_holds_back_its_own_download_only(files: Gateway) -> None:
    """The core reads no further than what fits on the way, and others go on."""
    with files.client() as http:
        file_id = http.post("/v1/files", content=body_of(64), headers=FORM).json()["id"]
        (core,) = files.children(" core")
        before = read_by(core)
        with http.stream("GET", f"/v1/files/{file_id}/content") as response:
            pieces = response.iter_raw(65536)
            next(pieces)
            with files.client() as other:
                assert other.get("/v1/files?limit=1").status_code == 200
            seen = [before, read_by(core)]
            while seen[-1] - seen[-2] > MIB:
                time.sleep(0.3)  # Long enough for 64 MiB; there is no event for "nothing happens".
                seen.append(read_by(core))
            assert seen[-1] - before < 32 * MIB
            assert sum(len(piece) for piece in pieces) > 60 * MIB


def test_a_download_that_breaks_off_never_looks_whole(own: Gateway) -> None:
    """If the core dies, the connection ends before the announced length."""
    with own.client() as http:
        file_id = http.post("/v1/files", content=body_of(64), headers=FORM).json()["id"]
        with http.stream("GET", f"/v1/files/{file_id}/content") as response:
            pieces = response.iter_raw(65536)
            next(pieces)
            own.kill_core()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)


def test_a_client_that_leaves_a_download_is_no_fault(own: Gateway) -> None:
    """Nothing is logged as an error, and the file is still there."""
    with own.client() as http:
        file_id = http.post("/v1/files", content=body_of(64), headers=FORM).json()["id"]
        for _ in range(5):
            with http.stream("GET", f"/v1/files/{file_id}/content") as response:
                next(response.iter_raw(65536))
        wait_until(lambda: own.output().count('"status":499') == 5)
        assert http.get(f"/v1/files/{file_id}").status_code == 200
    assert '"level":"error"' not in own.output()


def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(own: Gateway) -> None:
    """The record goes at once, the bytes when nobody reads them."""
    with own.client() as http:
        file_id = http.post("/v1/files", content=body_of(64), headers=FORM).json()["id"]
        with http.stream("GET", f"/v1/files/{file_id}/content") as response:
            pieces = response.iter_raw(65536)
            received = len(next(pieces))
            with own.client() as other:
                assert other.delete(f"/v1/files/{file_id}").status_code == 200
                assert other.get(f"/v1/files/{file_id}/content").status_code == 404
            received += sum(len(piece) for piece in pieces)
    assert received == 64 * MIB


def test_an_object_store_that_is_down_is_a_503(own: Gateway) -> None:
    """Uploads and downloads say so and can be retried; lists and completions go on."""
    folder = own.data_dir / "files"
    with own.client() as http:
        file_id = http.post("/v1/files", content=body_of(1), headers=FORM).json()["id"]
        folder.rename(own.data_dir / "elsewhere")
        folder.write_text("no folder")
        failed = [
            http.post("/v1/files", content=body_of(1), headers=FORM),
            http.post("/v1/files", content=body_of(20), headers=FORM),
            http.get(f"/v1/files/{file_id}/content"),
        ]
        listed = http.get("/v1/files").json()
        chat = http.post(
            "/v1/chat/completions",
            json={"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]},
        )
        folder.unlink()
        (own.data_dir / "elsewhere").rename(folder)
        again = http.get(f"/v1/files/{file_id}/content")

    for answer in failed:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "dependency_unavailable"
        assert answer.headers["retry-after"] == "1"
    assert listed["total"] == 1
    assert chat.status_code == 200
    assert again.content == BLOCK


def unowned(gateway: Gateway) -> int:
    """Return how many objects are noted as nobody's."""
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM unowned_objects").fetchone()
    return int(count)


def peak_of(pid: int, *, reset: bool = False) -> int:
    """Return the most memory a process has held, in bytes; `reset`: it counts from now on."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def read_by(pid: int) -> int:
    """Return how many bytes a process has read so far."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])
