"""Forms of uploads: names of any characters, parts in any order, and what is no form."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway import Gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def named(http: httpx.Client, name: str) -> dict[str, Any]:
    """Upload a file of that name."""
    response = http.post("/v1/files", data={"purpose": "p"}, files={"file": (name, b"abc")})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def form(*parts: bytes, end: bytes = b"--xyz--\r\n") -> dict[str, Any]:
    """Return a request with these parts, each from its Content-Disposition parameters on."""
    head = b"--xyz\r\nContent-Disposition: form-data; "
    body = b"".join(head + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"content-type": "multipart/form-data; boundary=xyz"}}


FILE_PART = b'name="file"; filename="a"\r\nContent-Type: text/plain\r\n\r\nabc'
PURPOSE_PART = b'name="purpose"\r\n\r\nfine-tune'


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/abs/olute",
        'quote"s',
        "back\\slash",
        "C:\\Users\\me\\a.txt",
        "\\\\server\\share",
        "ends\\",
        "line\r\nbreak\ttab\0nul",
        "héllo-日本語-😀.jsonl",
        "semi;colon; filename=x",
        " blanks ",
        "100% %41%zz",
        "a" * 1024,
    ],
)
def test_names_come_back_as_they_were(gateway: Gateway, http: httpx.Client, name: str) -> None:
    """Any characters are part of a name, and none is part of a path."""
    made = named(http, name)
    found = http.get(f"/v1/files/{made['id']}").json()
    assert made["filename"] == found["filename"] == name
    assert (gateway.data_dir / "files" / made["id"]).is_file()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(min_size=1, max_size=40).filter(lambda name: "%" not in name))
def test_any_name_of_httpx_comes_back(http: httpx.Client, name: str) -> None:
    """What httpx encodes is decoded to the same characters; only percent signs it leaves ambiguous."""
    assert named(http, name)["filename"] == name


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        (b"filename*=UTF-8''%e2%82%ac%20%2522%22", '€ %22"'),
        (b"filename=\"no\"; filename*=utf-8'en'yes", "yes"),
        (b"filename*=iso-8859-1''%fc", "ü"),
        (b"filename=token.txt", "token.txt"),
        (b'filename="a\\"b"', 'a"b'),
        (b'filename="ends with\\"', "ends with\\"),
        (b'filename="raw\\back"', "raw\\back"),
    ],
)
def test_other_encodings_of_names(http: httpx.Client, parameter: bytes, name: str) -> None:
    """RFC 8187, tokens, escaped quotes, and browsers that do not escape backslashes."""
    part = b'name="file"; ' + parameter + b"\r\n\r\nabc"
    response = http.post("/v1/files", **form(PURPOSE_PART, part))
    assert response.json().get("filename") == name, response.text


def test_parts_come_in_any_order_and_others_are_skipped(http: httpx.Client) -> None:
    """The file may come before its purpose, and parts the gateway does not know do no harm."""
    other = b'name="expires_after[anchor]"\r\n\r\ncreated_at'
    for parts in ((FILE_PART, other, PURPOSE_PART), (other, PURPOSE_PART, FILE_PART)):
        response = http.post("/v1/files", **form(*parts))
        assert response.status_code == 200, response.text
        assert response.json()["purpose"] == "fine-tune"
        assert http.get(f"/v1/files/{response.json()['id']}/content").content == b"abc"


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        ({"json": {"purpose": "x"}}, ["body"]),
        ({"data": {"purpose": "x"}}, ["body"]),
        ({"headers": {"content-type": "multipart/form-data"}, "content": b"x"}, ["body"]),
        (form(FILE_PART, PURPOSE_PART, end=b""), ["body"]),
        (form(b"nonsense"), ["body"]),
        (form(), ["body", "file"]),
        (form(PURPOSE_PART), ["body", "file"]),
        (form(FILE_PART), ["body", "purpose"]),
        (form(FILE_PART, b'name="purpose"\r\n\r\n'), ["body", "purpose"]),
        (form(FILE_PART, b'name="purpose"\r\n\r\n' + b"x" * 65), ["body", "purpose"]),
        (form(b'name="purpose"\r\n\r\n' + b"x" * 2000, FILE_PART), ["body", "purpose"]),
        (form(b'name="purpose"\r\n\r\na b', FILE_PART), ["body", "purpose"]),
        (form(b'name="purpose"\r\n\r\n\xff', FILE_PART), ["body", "purpose"]),
        (form(PURPOSE_PART, PURPOSE_PART, FILE_PART), ["body", "purpose"]),
        (form(PURPOSE_PART, FILE_PART, FILE_PART), ["body", "file"]),
        (form(PURPOSE_PART, b'name="file"\r\n\r\nno name'), ["body", "file"]),
        (form(PURPOSE_PART, b'name="file"; filename=""\r\n\r\n'), ["body", "file"]),
        (form(PURPOSE_PART, b"name=\"file\"; filename*=x''y\r\n\r\n"), ["body", "file"]),
        (form(PURPOSE_PART, b'name="file"; filename="\xff"\r\n\r\n'), ["body"]),
        (
            form(PURPOSE_PART, b'name="file"; filename="%s"\r\n\r\n' % (b"x" * 1025)),
            ["body", "file"],
        ),
    ],
)
def test_what_is_no_upload_is_a_422_and_leaves_nothing(
    gateway: Gateway, http: httpx.Client, request_: dict[str, Any], loc: list[str]
) -> None:
    """Each refusal names the part, and neither a record nor an object is made."""
    total = http.get("/v1/files").json()["total"]
    objects = sorted((gateway.data_dir / "files").iterdir())
    response = http.post("/v1/files", **request_)

    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"
    assert response.json()["detail"][0]["loc"] == loc
    assert http.get("/v1/files").json()["total"] == total
    assert sorted((gateway.data_dir / "files").iterdir()) == objects


def test_a_missing_key_is_told_before_the_body_is_read(gateway: Gateway) -> None:
    """A client that asks with `Expect` learns of the refusal without sending its file."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 999999\r\n"
            b"content-type: multipart/form-data; boundary=x\r\nexpect: 100-continue\r\n\r\n"
        )
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"missing_api_key" in answer
