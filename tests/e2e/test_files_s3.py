"""Files in a bucket, behind a real S3 API server."""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway import CONFIG, Gateway
from test_file_transfers import wait_until
from upstream import Upstream

DATA = os.urandom(20 * 1024 * 1024)
SETTINGS = """[core]
object_store_url = "s3://bucket/some/prefix"
object_store_endpoint = "{endpoint}"
object_store_region = "eu-central-1"
object_store_key_id_env = "BUCKET_KEY_ID"
object_store_secret_env = "BUCKET_SECRET"
"""
ENVIRON = {
    "BUCKET_KEY_ID": "key-id",
    "BUCKET_SECRET": "key-secret",
    "AWS_EC2_METADATA_DISABLED": "1",
}


class Bucket:
    """The server with one bucket."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        # Its state is the process's, so that of earlier tests is there.
        httpx.post(f"{self.endpoint}/moto-api/reset")
        made = httpx.put(
            f"{self.endpoint}/bucket",
            content="<CreateBucketConfiguration><LocationConstraint>eu-central-1"
            "</LocationConstraint></CreateBucketConfiguration>",
        )
        assert made.status_code == 200, made.text

    def keys(self) -> list[str]:
        """Return the keys of the objects."""
        listing = ET.fromstring(httpx.get(f"{self.endpoint}/bucket?list-type=2").text)
        return [key.text or "" for key in listing.iterfind(".//{*}Key")]

    def stop(self) -> None:
        """Stop answering."""
        self._server.stop()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """The bucket that tests share; each leaves it empty."""
    bucket = Bucket()
    yield bucket
    bucket.stop()


@contextlib.contextmanager
def serving(bucket: Bucket, upstream: Upstream, folder: Path) -> Iterator[Gateway]:
    """Run a gateway whose files are in the bucket."""
    config = CONFIG.format(base_url=upstream.base_url)
    settings = SETTINGS.format(endpoint=bucket.endpoint)
    gateway = Gateway(folder, config.replace("[core]\n", settings), environ=ENVIRON)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture(scope="module")
def own(
    bucket: Bucket, _upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with serving(bucket, _upstream, tmp_path_factory.mktemp("s3")) as gateway:
        yield gateway


@pytest.mark.parametrize("size", [0, 5, len(DATA)])
def test_the_life_of_a_file_in_a_bucket(own: Gateway, bucket: Bucket, size: int) -> None:
    """One object per file under the prefix, in one request or in parts; deleting the file deletes it."""
    with own.client() as http:
        made = http.post(
            "/v1/files", data={"purpose": "p"}, files={"file": ("../a", DATA[:size])}
        ).json()
        kept = bucket.keys()
        path = f"/v1/files/{made['id']}"
        whole = http.get(f"{path}/content")
        part = http.get(f"{path}/content", headers={"range": "bytes=-3"})
        deleted = http.delete(path)

    assert made["bytes"] == size
    assert kept == [f"some/prefix/{made['id']}"]
    assert whole.content == DATA[:size]
    assert part.content == DATA[:size][-3:]
    assert deleted.json()["deleted"] is True
    wait_until(lambda: bucket.keys() == [])
    assert not (own.data_dir / "files").exists()


def test_an_upload_that_breaks_off_leaves_no_object(own: Gateway, bucket: Bucket) -> None:
    """Half a form makes nothing that can be read."""
    begin = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    with own.client() as http:
        refused = http.post("/v1/files", content=begin + DATA, headers=headers)
        assert refused.status_code == 422
        assert http.get("/v1/files").json()["total"] == 0
    wait_until(lambda: bucket.keys() == [])


def test_a_bucket_that_is_down_is_a_503(upstream: Upstream, tmp_path: Path) -> None:
    """Uploads, downloads and nothing else fail; a file can be deleted, and its bytes go later."""
    bucket = Bucket()
    with serving(bucket, upstream, tmp_path) as own, own.client() as http:
        path = (
            "/v1/files/"
            + (
                http.post("/v1/files", data={"purpose": "p"}, files={"file": ("a", b"abc")}).json()[
                    "id"
                ]
            )
        )
        bucket.stop()
        failed = [
            http.post("/v1/files", data={"purpose": "p"}, files={"file": ("a", b"abc")}),
            http.get(f"{path}/content"),
        ]
        chat = http.post(
            "/v1/chat/completions",
            json={"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]},
        )
        deleted = http.delete(path)
        listed = http.get("/v1/files").json()

    assert [answer.status_code for answer in failed] == [503, 503]
    assert {answer.json()["error"]["code"] for answer in failed} == {"dependency_unavailable"}
    assert chat.status_code == 200
    assert deleted.status_code == 200
    assert listed["total"] == 0
    for secret in ENVIRON.values():
        assert secret == "1" or secret not in own.output()
