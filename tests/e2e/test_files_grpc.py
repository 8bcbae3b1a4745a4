"""FileService over gRPC."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from gateway import CONFIG, INTERNAL_KEY, KEY, Gateway
from maniac_gateway.v1 import files_pb2, files_pb2_grpc
from test_grpc import reason_of
from upstream import Upstream

METADATA = (("authorization", f"Bearer {KEY}"),)
DATA = bytes(range(256)) * 5000
Request = files_pb2.CreateFileRequest
FACTS = Request(metadata=files_pb2.FileMetadata(filename="a/b", purpose="over-grpc"))


@pytest.fixture
def files(gateway: Gateway) -> Iterator[files_pb2_grpc.FileServiceStub]:
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        yield files_pb2_grpc.FileServiceStub(channel)


def chunks(data: bytes = DATA) -> list[Request]:
    return [Request(chunk=data[at : at + 300_000]) for at in range(0, len(data), 300_000)]


def end(size: int = len(DATA)) -> Request:
    return Request(end=files_pb2.FileEnd(size_bytes=size))


def create(files: Any, *messages: Request) -> files_pb2.File:
    file: files_pb2.File = files.CreateFile(iter(messages), metadata=METADATA, timeout=60).file
    return file


def download(files: Any, **request: Any) -> tuple[files_pb2.File, bytes]:
    first, *rest = files.DownloadFile(
        files_pb2.DownloadFileRequest(**request), metadata=METADATA, timeout=60
    )
    assert all(len(message.chunk) <= 1024 * 1024 for message in rest)
    return first.file, b"".join(message.chunk for message in rest)


def test_the_life_of_a_file(files: files_pb2_grpc.FileServiceStub) -> None:
    """Every method, with the metadata before the bytes."""
    facts = Request(metadata=files_pb2.FileMetadata(filename="a/b", purpose="life"))
    made = create(files, facts, *chunks(), end())
    ask = files_pb2.GetFileRequest(id=made.id)
    found = files.GetFile(ask, metadata=METADATA, timeout=60).file
    listed = files.ListFiles(
        files_pb2.ListFilesRequest(purpose="life", page_size=1), metadata=METADATA, timeout=60
    )
    file, data = download(files, id=made.id)
    deleted = files.DeleteFile(
        files_pb2.DeleteFileRequest(id=made.id), metadata=METADATA, timeout=60
    ).file
    with pytest.raises(grpc.RpcError) as caught:
        files.GetFile(ask, metadata=METADATA, timeout=60)

    assert uuid.UUID(made.id)
    assert (made.filename, made.purpose, made.status) == ("a/b", "life", "processed")
    assert made.size_bytes == len(DATA)
    assert made.sha256 == hashlib.sha256(DATA).hexdigest()
    assert made == found == file == listed.files[0]
    assert listed.next_page_token == made.id
    assert listed.total_size == 1
    assert data == DATA
    assert deleted.status == "deleted"
    assert deleted.HasField("delete_time")
    assert reason_of(caught.value) == "FILE_NOT_FOUND"


def test_the_metadata_may_come_after_the_bytes(files: files_pb2_grpc.FileServiceStub) -> None:
    """Whoever relays a stream may learn it last."""
    made = create(files, *chunks(), FACTS, end())
    assert download(files, id=made.id)[1] == DATA


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [FACTS],
        [FACTS, *chunks()],
        [*chunks(), end()],
        [FACTS, FACTS, *chunks(), end()],
        [FACTS, *chunks(), end(len(DATA) - 1)],
        [FACTS, Request(), end(0)],
        [Request(metadata=files_pb2.FileMetadata(filename="", purpose="p")), end(0)],
        [Request(metadata=files_pb2.FileMetadata(filename="a", purpose="")), end(0)],
        [Request(metadata=files_pb2.FileMetadata(filename="a", purpose="\n")), end(0)],
    ],
)
def test_what_is_incomplete_or_invalid_stores_nothing(
    files: files_pb2_grpc.FileServiceStub, messages: list[Request]
) -> None:
    """A stream that ends without its end message is not a file, however many bytes came."""

    def total() -> int:
        page = files.ListFiles(files_pb2.ListFilesRequest(), metadata=METADATA, timeout=60)
        return int(page.total_size)

    before = total()
    with pytest.raises(grpc.RpcError) as caught:
        create(files, *messages)
    assert reason_of(caught.value) == "VALIDATION_ERROR"
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert total() == before


def test_ranges(files: files_pb2_grpc.FileServiceStub) -> None:
    """An offset, from the end if negative, and a limit; after the end there is nothing to send."""
    file_id = create(files, FACTS, *chunks(), end()).id
    assert download(files, id=file_id, offset=1000, limit=600_000)[1] == DATA[1000:601_000]
    assert download(files, id=file_id, offset=-5)[1] == DATA[-5:]
    assert download(files, id=file_id, offset=-5, limit=2)[1] == DATA[-5:-3]
    assert download(files, id=file_id, offset=-(2**62))[1] == DATA
    assert download(files, id=file_id, offset=5, limit=2**62)[1] == DATA[5:]
    for request, reason in (
        ({"offset": len(DATA)}, "RANGE_NOT_SATISFIABLE"),
        ({"limit": -1}, "VALIDATION_ERROR"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            download(files, id=file_id, **request)
        assert reason_of(caught.value) == reason


def test_the_size_is_limited(gateway: Gateway, start_gateway: Any, upstream: Upstream) -> None:
    """The core's own limit holds for callers that pass no edge."""
    del gateway
    config = CONFIG.format(base_url=upstream.base_url)
    own = start_gateway(config.replace("[core]", f"[core]\nmax_file_bytes = {len(DATA)}"))
    with grpc.insecure_channel(own.grpc_target) as channel:
        files = files_pb2_grpc.FileServiceStub(channel)
        assert create(files, FACTS, *chunks(), end()).size_bytes == len(DATA)
        with pytest.raises(grpc.RpcError) as caught:
            create(files, FACTS, *chunks(), Request(chunk=b"x"), end(len(DATA) + 1))
    assert reason_of(caught.value) == "PAYLOAD_TOO_LARGE"


def test_pages_and_projects(files: files_pb2_grpc.FileServiceStub) -> None:
    """A page says where the next begins, and the internal key names the project."""
    ids = [create(files, FACTS, end(0)).id for _ in range(2)][::-1]
    request = files_pb2.ListFilesRequest(purpose="over-grpc", page_size=1)
    first = files.ListFiles(request, metadata=METADATA, timeout=60)
    request.page_token = first.next_page_token
    second = files.ListFiles(request, metadata=METADATA, timeout=60)
    internal = (("authorization", f"Bearer {INTERNAL_KEY}"), ("x-maniac-project", "default"))
    found = files.GetFile(files_pb2.GetFileRequest(id=ids[0]), metadata=internal, timeout=60)

    assert [first.files[0].id, second.files[0].id] == ids
    assert found.file == first.files[0]
    with pytest.raises(grpc.RpcError) as caught:
        files.ListFiles(files_pb2.ListFilesRequest(page_size=-1), metadata=METADATA, timeout=60)
    assert reason_of(caught.value) == "VALIDATION_ERROR"
    for file_id in ids:
        request_ = files_pb2.DeleteFileRequest(id=file_id)
        files.DeleteFile(request_, metadata=METADATA, timeout=60)
