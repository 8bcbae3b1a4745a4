"""Attacks on the gRPC port, for `bench.attacks`: what is small on the wire and large once parsed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import grpc
from maniac_gateway.v1 import chat_pb2, relay_pb2

from bench.gateway import KEY

_CHAT = "/maniac_gateway.v1.ChatService/CreateChatCompletion"
_RELAY = "/maniac_gateway.v1.RelayService/Relay"
_KEYED = (("authorization", f"Bearer {KEY}"),)
_OPTIONS = (("grpc.max_send_message_length", -1),)


class Victim(Protocol):
    """Where the core listens."""

    @property
    def grpc_port(self) -> int:
        """Its TCP port."""


async def dense_messages(victim: Victim) -> str:
    """16 MB of eight million empty messages, without a key, four times at once."""
    return await _send(victim, _CHAT, _dense(8_000_000), times=4)


async def dense_messages_with_key(victim: Victim) -> str:
    """The same once, with a key."""
    return await _send(victim, _CHAT, _dense(8_000_000), metadata=_KEYED)


async def foreign_relays(victim: Victim) -> str:
    """A thousand relay streams of a client that is not an edge, each with ten thousand calls in its first message."""
    start = relay_pb2.RelayRequestFrame(call_id=1, start=relay_pb2.RelayStart())
    frames = relay_pb2.RelayRequest(frames=[start] * 10_000).SerializeToString()
    return await _send(victim, _RELAY, frames, times=1_000)


ATTACKS: tuple[Callable[[Victim], Coroutine[Any, Any, str]], ...] = (
    dense_messages,
    dense_messages_with_key,
    foreign_relays,
)


def _dense(count: int) -> bytes:
    """Return a request that holds so many empty messages, at two bytes each."""
    one = chat_pb2.ChatCompletionParams(messages=[chat_pb2.ChatMessage()]).SerializeToString()
    # A request is its params: a tag, their length in sevenths of bytes, and their content.
    tag = chat_pb2.CreateChatCompletionRequest(
        params=chat_pb2.ChatCompletionParams()
    ).SerializeToString()[:1]
    size, length = len(one) * count, bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + one * count


async def _send(
    victim: Victim,
    method: str,
    message: bytes,
    *,
    times: int = 1,
    metadata: tuple[tuple[str, str], ...] = (),
) -> str:
    """Send a message as it is; return how the calls ended."""
    ends: set[str] = set()
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{victim.grpc_port}", options=_OPTIONS
    ) as channel:
        call: Any = channel.stream_stream(method)
        running = [
            call(iter([message]), metadata=metadata, timeout=60, wait_for_ready=True)
            for _ in range(times)
        ]
        for one in running:
            ends.add((await one.code()).name)
    return " ".join(sorted(ends))
