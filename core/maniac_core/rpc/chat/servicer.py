"""ChatService: chat completions over plain RPCs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.chat import Chunk
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.messages import Unreadable, all_readable
from maniac_core.rpc.boundary.methods import streaming, unary, with_status
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.rpc.chat import examples as chat_examples
from maniac_core.rpc.chat.answer import chunk_to_proto, completion_to_proto
from maniac_core.rpc.chat.request import request_from_proto
from maniac_core.rpc.chat.stored import detail_to_proto, messages_to_proto, stored_to_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.services.history.export import Exporter
from maniac_core.services.history.registration import Registrar
from maniac_core.services.history.replay import Replayer


class ChatServicer:
    """Converts, calls the service, converts back."""

    def __init__(
        self,
        gate: Gate,
        completions: IdempotentCompletions,
        stored: StoredCompletions,
        *,
        registrar: Registrar,
        exporter: Exporter,
        replayer: Replayer,
    ) -> None:
        self._gate = gate
        self._completions = completions
        self._stored = stored
        self._registrar = registrar
        self._exporter = exporter
        self._replayer = replayer

    @unary
    async def CreateChatCompletion(
        self, request: chat_pb2.CreateChatCompletionRequest, call: Call
    ) -> chat_pb2.CreateChatCompletionResponse:
        """Answer whole."""
        with self._gate.counting(call):
            completion = await self._completions.create(call, request_from_proto(request.params))
        return chat_pb2.CreateChatCompletionResponse(completion=completion_to_proto(completion))

    @streaming
    async def StreamChatCompletion(
        self, request: chat_pb2.StreamChatCompletionRequest, call: Call
    ) -> AsyncGenerator[chat_pb2.StreamChatCompletionResponse, None]:
        """Answer in chunks."""
        with self._gate.counting(call):
            batches = self._completions.stream(call, request_from_proto(request.params))
            async with aclosing(_chunks(batches)) as chunks:
                async for chunk in chunks:
                    yield chat_pb2.StreamChatCompletionResponse(chunk=chunk)

    @unary
    async def GetChatCompletion(
        self, request: chat_pb2.GetChatCompletionRequest, call: Call
    ) -> chat_pb2.GetChatCompletionResponse:
        """Read one record."""
        found = await self._stored.get(call.caller, request.id)
        return chat_pb2.GetChatCompletionResponse(completion=stored_to_proto(found))

    @unary
    async def DeleteChatCompletion(
        self, request: chat_pb2.DeleteChatCompletionRequest, call: Call
    ) -> chat_pb2.DeleteChatCompletionResponse:
        """Delete the content of one record."""
        await self._stored.delete(call.caller, request.id)
        return chat_pb2.DeleteChatCompletionResponse()

    @unary
    async def ListChatCompletionMessages(
        self, request: chat_pb2.ListChatCompletionMessagesRequest, call: Call
    ) -> chat_pb2.ListChatCompletionMessagesResponse:
        """List what one record was asked."""
        found = await self._stored.with_request(call.caller, request.id)
        return messages_to_proto(found, request)

    @unary
    async def ReplayChatCompletion(
        self, request: chat_pb2.ReplayChatCompletionRequest, call: Call
    ) -> chat_pb2.ReplayChatCompletionResponse:
        """Ask once more, and answer whole."""
        asked = await self._replayer.request(call, request.id, request.model)
        with self._gate.counting(call):
            completion = await self._completions.create(call, asked)
        return chat_pb2.ReplayChatCompletionResponse(completion=completion_to_proto(completion))

    @streaming
    async def StreamReplayChatCompletion(
        self, request: chat_pb2.StreamReplayChatCompletionRequest, call: Call
    ) -> AsyncGenerator[chat_pb2.StreamReplayChatCompletionResponse, None]:
        """Ask once more, and answer in chunks."""
        asked = await self._replayer.request(call, request.id, request.model)
        with self._gate.counting(call):
            batches = self._completions.stream(call, asked)
            async with aclosing(_chunks(batches)) as chunks:
                async for chunk in chunks:
                    yield chat_pb2.StreamReplayChatCompletionResponse(chunk=chunk)

    @unary
    async def ListChatCompletions(
        self, request: chat_pb2.ListChatCompletionsRequest, call: Call
    ) -> chat_pb2.ListChatCompletionsResponse:
        """List records."""
        page = page_from_proto(request)
        found, total = await self._stored.list(
            call.caller,
            model=request.filter.model,
            container=request.filter.container,
            metadata_json=request.filter.metadata_json,
            page=page,
        )
        return chat_pb2.ListChatCompletionsResponse(
            completions=[stored_to_proto(completion) for completion in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @unary
    async def ExplainChatCompletion(
        self, request: chat_pb2.ExplainChatCompletionRequest, call: Call
    ) -> chat_pb2.ExplainChatCompletionResponse:
        """Say how a completion came about."""
        detail = await self._stored.explain(call.caller, request.id)
        return detail_to_proto(detail)

    @with_status
    async def RegisterChatCompletions(
        self,
        requests: AsyncIterator[chat_pb2.RegisterChatCompletionsRequest | Unreadable],
        context: Context,
    ) -> chat_pb2.RegisterChatCompletionsResponse:
        """Take examples."""
        call = await self._gate.admit(context)
        # Now the caller knows that it may send.
        await context.send_initial_metadata(head_metadata(call))
        return await chat_examples.register(self._registrar, call, all_readable(requests))

    @streaming
    async def ExportChatCompletions(
        self, request: chat_pb2.ExportChatCompletionsRequest, call: Call
    ) -> AsyncGenerator[chat_pb2.ExportChatCompletionsResponse, None]:
        """Send records as JSON Lines."""
        async with aclosing(chat_examples.export(self._exporter, call, request)) as pieces:
            async for piece in pieces:
                yield piece


async def _chunks(
    batches: AsyncGenerator[list[Chunk], None],
) -> AsyncGenerator[chat_pb2.ChatCompletionChunk, None]:
    async with aclosing(batches):
        async for batch in batches:
            for chunk in batch:
                yield chunk_to_proto(chunk)
