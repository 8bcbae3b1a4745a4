"""What a key may do: each scope against each kind of endpoint, over HTTP and over gRPC."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import grpc
import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway
from google.protobuf import descriptor_pool
from maniac_core.rpc.boundary.register import service_names
from maniac_core.rpc.boundary.scopes import required_scope
from maniac_gateway.v1 import chat_pb2, keys_pb2, keys_pb2_grpc
from upstream import Upstream

_CHAT = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
_ENDPOINTS = {
    ("POST", "/v1/chat/completions"): "inference",
    ("GET", "/v1/chat/completions"): "read",
    ("GET", "/v1/chat/completions/nobody"): "read",
    ("DELETE", "/v1/chat/completions/nobody"): "write",
    ("POST", "/v1/chat/completions/register"): "write",
    ("GET", "/v1/containers"): "read",
    ("POST", "/v1/containers"): "write",
    ("DELETE", "/v1/containers/nobody"): "write",
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/evaluators"): "read",
    ("DELETE", "/v1/evaluators/nobody"): "write",
    ("GET", "/v1/datasets"): "read",
    ("DELETE", "/v1/datasets/nobody"): "write",
    ("GET", "/v1/files"): "read",
    ("DELETE", "/v1/files/nobody"): "write",
    ("GET", "/v1/traces"): "read",
    ("GET", "/v1/usage"): "read",
}
_BODIES = {
    "/v1/chat/completions": _CHAT,
    "/v1/containers": {"label": "scoped", "initial_model": "mock/m1"},
    "/v1/chat/completions/register": {"container": "nobody", "items": []},
}
_GRANTS = {
    "inference": {"inference"},
    "read": {"read"},
    "write": {"read", "write"},
    "admin": {"inference", "read", "write", "admin"},
}


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> dict[str, str]:
    """A key for each scope."""
    return {
        scope: run_command(gateway, "keys", "create", "--name", scope, "--scope", scope).strip()
        for scope in _GRANTS
    }


@pytest.mark.parametrize("scope", _GRANTS)
def test_each_scope_on_each_endpoint(
    gateway: Gateway, upstream: Upstream, keys: dict[str, str], scope: str
) -> None:
    """A key that lacks the scope gets 403 `insufficient_scope` naming it, and nothing is done; others get through."""
    del upstream
    headers = {"authorization": f"Bearer {keys[scope]}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        for (method, path), needed in _ENDPOINTS.items():
            body = _BODIES.get(path) if method == "POST" else None
            answer = client.request(method, path, json=body)
            if needed in _GRANTS[scope]:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
                continue
            error = answer.json()["error"]
            assert (answer.status_code, error["type"], error["code"]) == (
                *(403, "permission_error"),
                "insufficient_scope",
            ), (method, path, answer.text)
            assert needed in error["message"]
            assert "x-ratelimit-limit" in answer.headers


def test_a_key_from_the_start_may_do_all_but_administer(gateway: Gateway) -> None:
    """Keys that name no scope keep what keys could do before there were scopes."""
    assert _manages_keys(gateway, KEY) == "PERMISSION_DENIED"


def test_only_an_admin_manages_keys(gateway: Gateway, keys: dict[str, str]) -> None:
    """Over gRPC, `admin` may do what the internal service key may."""
    found = {scope: _manages_keys(gateway, secret) for scope, secret in keys.items()}

    assert found == {**dict.fromkeys(keys, "PERMISSION_DENIED"), "admin": "OK"}


def test_keys_are_made_with_scopes_over_grpc(gateway: Gateway, keys: dict[str, str]) -> None:
    """`write` includes `read`, and a name that is not a scope is refused."""
    metadata = (("authorization", f"Bearer {keys['admin']}"),)
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = keys_pb2_grpc.KeyServiceStub(channel)
        made = stub.CreateKey(
            keys_pb2.CreateKeyRequest(name="bot", scopes=["write"]), metadata=metadata
        )
        with pytest.raises(grpc.RpcError) as caught:
            stub.CreateKey(
                keys_pb2.CreateKeyRequest(name="bot", scopes=["root"]), metadata=metadata
            )

    assert list(made.key.scopes) == ["read", "write"]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "root" in caught.value.details()


def test_every_method_of_the_contract_has_its_scope() -> None:
    """The rule is by name, so this table says what it comes to; a new method must be entered here."""
    pool = descriptor_pool.Default()
    found: dict[str, list[str]] = {}
    for service in service_names():
        for method in pool.FindServiceByName(service).methods:
            scope = required_scope(f"/{service}/{method.name}") or "any"
            found.setdefault(scope, []).append(method.name)

    assert chat_pb2.DESCRIPTOR.package == "maniac_gateway.v1"
    assert sorted(found["any"]) == ["CheckAccess"]
    assert sorted(found["admin"]) == ["CreateKey", "ListKeys", "RevokeKey"]
    assert sorted(found["inference"]) == [
        "Call",
        "CountTokens",
        "CreateChatCompletion",
        "CreateEmbeddings",
        "ReplayChatCompletion",
        "StreamChatCompletion",
        "StreamReplayChatCompletion",
    ]
    changing = ("Create", "Update", "Delete", "Add", "Register", "Relay")
    assert [name for name in found["write"] if not name.startswith(changing)] == []


def test_an_unknown_scope_is_refused_by_the_command(gateway: Gateway) -> None:
    """The list of scopes is in the message."""
    command = [sys.executable, "-m", "maniac_core.cli.main", "keys", "create", "--scope", "root"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=gateway.folder, check=False)

    assert ran.returncode == 2
    assert "inference" in ran.stderr


def test_changes_are_in_the_audit_log_with_who_made_them(
    gateway: Gateway, keys: dict[str, str]
) -> None:
    """Keys, budgets and deletions, by commands and by callers; content never, and nothing that did not happen."""
    headers = {"authorization": f"Bearer {keys['write']}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        label = {"label": "audited", "initial_model": "mock/m1"}
        client.post("/v1/containers", json=label).raise_for_status()
        client.delete("/v1/containers/audited").raise_for_status()
        assert client.delete("/v1/containers/audited").status_code == 404
        form = {"purpose": (None, "test"), "file": ("a.txt", b"secret words")}
        file = client.post("/v1/files", files=form).json()["id"]
        client.delete(f"/v1/files/{file}").raise_for_status()
    run_command(gateway, "budgets", "set", "project", "default", "--usd", "1000000")
    run_command(gateway, "budgets", "remove", "project", "default")
    spare = run_command(gateway, "keys", "create", "--name", "spare").strip()
    run_command(gateway, "keys", "revoke", spare[:9])
    log = run_command(gateway, "audit", "--limit", "8")

    told = [line.split() for line in log.splitlines()]
    assert told[0][:3] == ["TIME", "(UTC)", "WHO"]
    for expected in (
        ("key", "write", "container.deleted", "label=audited"),
        ("key", "write", "file.deleted", "bytes=12"),
        ("command", "budget.set", "limit_nano_usd=1000000000000000"),
        ("command", "budget.removed", "project default"),
        ("command", "key.created", "name=spare"),
        ("command", "key.revoked"),
    ):
        assert any(all(word in line for word in expected) for line in log.splitlines()), expected
    assert log.count("container.deleted") == 1
    assert "secret words" not in log
    assert spare not in log


def test_a_changed_configuration_is_in_the_audit_log(gateway: Gateway) -> None:
    """The start told which file is in force; values are not kept as they are."""
    log = run_command(gateway, "audit", "--limit", "1000", "--json")
    with closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        kept = database.execute("SELECT details FROM audit_events").fetchall()

    assert log.count('"configuration.changed"') >= 1
    assert str(gateway.config) in log
    assert not any("127.0.0.1" in details for (details,) in kept)


def _manages_keys(gateway: Gateway, secret: str) -> str:
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        try:
            keys_pb2_grpc.KeyServiceStub(channel).ListKeys(
                keys_pb2.ListKeysRequest(), metadata=(("authorization", f"Bearer {secret}"),)
            )
        except grpc.RpcError as error:
            return error.code().name
    return "OK"
