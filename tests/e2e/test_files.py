"""Files over HTTP and with the official clients."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cli import run_command
from gateway import KEY, Gateway

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
DATA = bytes(range(256)) * 41
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def purpose() -> str:
    """A purpose that no other test uses."""
    return f"p-{uuid.uuid4().hex[:8]}"


def upload(
    http: httpx.Client, data: bytes = DATA, name: str = "a.bin", purpose: str = "p"
) -> dict[str, Any]:
    response = http.post("/v1/files", data={"purpose": purpose}, files={"file": (name, data)})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_a_file_is_uploaded_read_listed_downloaded_and_deleted(
    http: httpx.Client, purpose: str, base: str
) -> None:
    """The life of a file, with the JSON content type that the official client sends on everything."""
    headers = {"content-type": "application/json"}
    made = http.post(
        f"{base}/files", data={"purpose": purpose}, files={"file": ("a.bin", DATA)}
    ).json()
    path = f"{base}/files/{made['id']}"
    found = http.get(path, headers=headers)
    listed = http.get(f"{base}/files", params={"purpose": purpose}, headers=headers)
    content = http.get(f"{path}/content", headers=headers)
    deleted = http.delete(path, headers=headers)
    gone = [http.get(path), http.get(f"{path}/content"), http.delete(path)]

    assert uuid.UUID(made.pop("id"))
    assert made.pop("created_at") > 0
    assert made == {
        "object": "file",
        "bytes": len(DATA),
        "filename": "a.bin",
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    assert listed.json() == {"object": "list", "data": [found.json()], "total": 1}
    assert content.content == DATA
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["content-length"] == str(len(DATA))
    assert content.headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert int(content.headers["x-ratelimit-remaining"]) > 0
    assert deleted.json() == {"id": found.json()["id"], "object": "file", "deleted": True}
    assert [(each.status_code, each.json()["error"]["code"]) for each in gone] == [
        (404, "file_not_found")
    ] * 3
    assert http.get(f"{base}/files", params={"purpose": purpose}).json()["total"] == 0


def test_deleting_frees_the_bytes(gateway: Gateway, http: httpx.Client) -> None:
    """The object of a deleted file is gone from the store."""
    made = upload(http)
    kept = gateway.data_dir / "files" / made["id"]
    assert kept.read_bytes() == DATA
    http.delete(f"/v1/files/{made['id']}")
    deadline = time.monotonic() + 60
    while kept.exists():
        # There is no event across processes to wait for.
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_folder_is_the_owners_only(gateway: Gateway) -> None:
    """Other users of the machine cannot look at uploaded files."""
    assert (gateway.data_dir / "files").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, len(DATA)),
        ("bytes=-10", len(DATA) - 10, len(DATA)),
        ("bytes=-999999", 0, len(DATA)),
        (f"bytes=5-{10**30}", 5, len(DATA)),
    ],
)
def test_a_range_is_a_206(http: httpx.Client, asked: str, start: int, end: int) -> None:
    """One range is answered with exactly its bytes."""
    path = f"/v1/files/{upload(http)['id']}/content"
    answer = http.get(path, headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=-0", f"bytes={10**30}-"])
def test_a_range_after_the_end_is_a_416(http: httpx.Client, asked: str) -> None:
    """The refusal is JSON and says how long the file is."""
    answer = http.get(f"/v1/files/{upload(http)['id']}/content", headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=0-1", "bytes=5-2", "bytes=-", "x"])
def test_other_ranges_are_ignored(http: httpx.Client, asked: str) -> None:
    """Several ranges, other units and nonsense get the whole file."""
    answer = http.get(f"/v1/files/{upload(http)['id']}/content", headers={"range": asked})
    assert answer.status_code == 200
    assert answer.content == DATA


def test_if_range_continues_the_same_file_only(http: httpx.Client) -> None:
    """A range with another file's tag gets the whole file; with its own, the range."""
    path = f"/v1/files/{upload(http)['id']}/content"
    tag = http.get(path).headers["etag"]
    same = http.get(path, headers={"range": "bytes=1-2", "if-range": tag})
    other = http.get(path, headers={"range": "bytes=1-2", "if-range": '"x"'})
    assert (same.status_code, same.content) == (206, DATA[1:3])
    assert (other.status_code, other.content) == (200, DATA)


def test_empty_files_and_head(http: httpx.Client) -> None:
    """A file may have no bytes, a range of which is the whole; HEAD sends the head only."""
    empty = f"/v1/files/{upload(http, b'')['id']}/content"
    head = http.head(f"/v1/files/{upload(http)['id']}/content")
    assert http.get(empty).content == b""
    assert http.get(empty, headers={"range": "bytes=0-5"}).status_code == 200
    assert http.get(empty, headers={"range": "bytes=-5"}).status_code == 200
    assert http.get(empty, headers={"range": "bytes=1-5"}).status_code == 416
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(DATA))


def test_pages(http: httpx.Client, purpose: str) -> None:
    """Newest first, by offset or after an id, which may be of a deleted file."""
    ids = [upload(http, b"x", purpose=purpose)["id"] for _ in range(5)][::-1]

    def page(**query: Any) -> list[str]:
        answer = http.get("/v1/files", params={"purpose": purpose, **query}).json()
        assert answer["total"] == 5
        return [file["id"] for file in answer["data"]]

    assert page() == ids
    assert page(limit=2) == ids[:2]
    assert page(limit=2, offset=3) == ids[3:]
    assert page(after=ids[1], limit=2) == ids[2:4]
    assert page(after=ids[4]) == []
    assert page(after="nothing") == []
    http.delete(f"/v1/files/{ids[2]}")
    rest = http.get("/v1/files", params={"purpose": purpose, "after": ids[2]}).json()
    assert [file["id"] for file in rest["data"]] == ids[3:]


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "offset=-1"])
def test_a_page_out_of_range_is_a_422(http: httpx.Client, query: str) -> None:
    """The parameter is named."""
    response = http.get(f"/v1/files?{query}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize(
    "file_id",
    ["nope", "00000000-0000-4000-8000-000000000000", "..%2F..%2Fgateway.db", "%00", "a" * 3000],
)
def test_unknown_ids_are_404(http: httpx.Client, file_id: str) -> None:
    """Also those that are no UUID, and those that would be paths."""
    for answer in (
        http.get(f"/v1/files/{file_id}"),
        http.get(f"/v1/files/{file_id}/content"),
        http.delete(f"/v1/files/{file_id}"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "file_not_found"


def test_another_project_sees_nothing(gateway: Gateway, http: httpx.Client) -> None:
    """Files are their project's own."""
    file_id = upload(http)["id"]
    made = run_command(
        gateway, "keys", "create", "--create-project", "--name", "x", "--project", "files-other"
    )
    key = next(word for word in made.split() if word.startswith("mk-"))
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}) as other:
        assert other.get(f"/v1/files/{file_id}").status_code == 404
        assert other.get(f"/v1/files/{file_id}/content").status_code == 404
        assert other.delete(f"/v1/files/{file_id}").status_code == 404
        assert other.get("/v1/files").json()["total"] == 0
        assert other.get("/v1/files", params={"after": file_id}).json()["data"] == []
    assert http.get(f"/v1/files/{file_id}").status_code == 200


def test_the_synchronous_maniac_client(gateway: Gateway, tmp_path: Path, purpose: str) -> None:
    """create, list, retrieve, content and delete."""
    import maniac

    path = tmp_path / "train.jsonl"
    path.write_bytes(DATA)
    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        made = client.files.create(file=path, purpose=purpose)
        listed = client.files.list(purpose=purpose)
        found = client.files.retrieve(made["id"])
        content = client.files.content(made["id"])
        deleted = client.files.delete(made["id"])

    assert made["filename"] == "train.jsonl"
    assert listed["data"] == [found]
    assert content == DATA
    assert deleted["deleted"] is True


async def test_the_asynchronous_maniac_client(gateway: Gateway, purpose: str) -> None:
    """The same methods."""
    import maniac

    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        made = await client.files.create(file=io.BytesIO(DATA), purpose=purpose)
        listed = await client.files.list(purpose=purpose)
        found = await client.files.retrieve(made["id"])
        content = await client.files.content(made["id"])
        deleted = await client.files.delete(made["id"])

    assert listed["data"] == [found]
    assert content == DATA
    assert deleted["deleted"] is True


def test_the_openai_client(gateway: Gateway, purpose: str) -> None:
    """create, iterated list, retrieve, wait, content and delete; the iterator ends."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        made = [client.files.create(file=(f"{n}.jsonl", DATA), purpose=purpose) for n in range(3)]
        listed = list(client.files.list(purpose=purpose, limit=2))
        found = client.files.retrieve(made[0].id)
        waited = client.files.wait_for_processing(made[0].id)
        content = client.files.content(made[0].id).read()
        deleted = client.files.delete(made[0].id)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made[0].id)

    assert [file.id for file in listed] == [file.id for file in made[::-1]]
    assert found.filename == "0.jsonl"
    assert waited.status == "processed"
    assert content == DATA
    assert deleted.deleted


def test_the_example_of_the_page_runs_as_printed(gateway: Gateway) -> None:
    """The Python example in docs/files.md works when copied from the page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    environ = {**os.environ, "MANIAC_BASE_URL": gateway.url, "MANIAC_API_KEY": KEY}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == 'greetings.jsonl 30 processed\n{"text": "hello"}\nTrue\n'


def test_openapi_describes_each_endpoint(gateway: Gateway) -> None:
    """The form, the range and the partial answer stand in the document."""
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    paths = document["paths"]
    sent = paths["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    content = paths["/v1/files/{file_id}/content"]["get"]
    shape = document["components"]["schemas"][sent["$ref"].rpartition("/")[2]]

    assert set(shape["required"]) == {"purpose", "file"}
    assert {"200", "206", "404", "416"} <= set(content["responses"])
    assert "application/octet-stream" in content["responses"]["200"]["content"]
    assert {"Range", "If-Range"} <= {parameter["name"] for parameter in content["parameters"]}
    assert {"get", "delete"} <= set(paths["/v1/files/{file_id}"])
