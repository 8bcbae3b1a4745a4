"""ChatService: chat completions over plain RPCs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.chat import ChatRequest, Chunk
from maniac_core.rpc.boundary.admission import Context, Gate, head_metadata, streaming, unary
from maniac_core.rpc.boundary.messages import Unreadable, all_readable
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
from maniac_core.services.history.replay import replay


class ChatServicer:
    """Converts, calls the service, converts back."""

    def __init__(
        self,
        gate: Gate,
        completions: IdempotentCompletions,
        stored: StoredCompletions,
        registrar: Registrar,
        exporter: Exporter,
    ) -> None:
        self._gate = gate
        self._completions = completions
        self._stored = stored
        self._registrar = registrar
        self._exporter = exporter

    @unary
    async def CreateChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.CreateChatCompletionRequest, context: Context
    ) -> chat_pb2.CreateChatCompletionResponse:
        """Answer whole."""
        call = await self._gate.admit(context)
        with self._gate.counting(call):
            completion = await self._completions.create(call, request_from_proto(request.params))
        await context.send_initial_metadata(head_metadata(call))
        return chat_pb2.CreateChatCompletionResponse(completion=completion_to_proto(completion))

    @streaming
    async def StreamChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.StreamChatCompletionRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.StreamChatCompletionResponse, None]:
        """Answer in chunks."""
        call = await self._gate.admit(context)
        with self._gate.counting(call):
            batches = self._completions.stream(call, request_from_proto(request.params))
            async with aclosing(_chunks(batches, call, context)) as chunks:
                async for chunk in chunks:
                    yield chat_pb2.StreamChatCompletionResponse(chunk=chunk)

    @unary
    async def GetChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.GetChatCompletionRequest, context: Context
    ) -> chat_pb2.GetChatCompletionResponse:
        """Read one record."""
        call = await self._gate.admit(context)
        found = await self._stored.get(call.caller, request.id)
        await context.send_initial_metadata(head_metadata(call))
        return chat_pb2.GetChatCompletionResponse(completion=stored_to_proto(found))

    @unary
    async def DeleteChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.DeleteChatCompletionRequest, context: Context
    ) -> chat_pb2.DeleteChatCompletionResponse:
        """Delete the content of one record."""
        call = await self._gate.admit(context)
        await self._stored.delete(call.caller, request.id)
        await context.send_initial_metadata(head_metadata(call))
        return chat_pb2.DeleteChatCompletionResponse()

    @unary
    async def ListChatCompletionMessages(  # noqa: N802 - the contract's name
        self, request: chat_pb2.ListChatCompletionMessagesRequest, context: Context
    ) -> chat_pb2.ListChatCompletionMessagesResponse:
        """List what one record was asked."""
        call = await self._gate.admit(context)
        found = await self._stored.with_request(call.caller, request.id)
        page = messages_to_proto(found, request)
        await context.send_initial_metadata(head_metadata(call))
        return page

    @unary
    async def ReplayChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.ReplayChatCompletionRequest, context: Context
    ) -> chat_pb2.ReplayChatCompletionResponse:
        """Ask once more, and answer whole."""
        call = await self._gate.admit(context)
        asked = await self._replay(call, request)
        with self._gate.counting(call):
            completion = await self._completions.create(call, asked)
        await context.send_initial_metadata(head_metadata(call))
        return chat_pb2.ReplayChatCompletionResponse(completion=completion_to_proto(completion))

    @streaming
    async def StreamReplayChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.StreamReplayChatCompletionRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.StreamReplayChatCompletionResponse, None]:
        """Ask once more, and answer in chunks."""
        call = await self._gate.admit(context)
        asked = await self._replay(call, request)
        with self._gate.counting(call):
            batches = self._completions.stream(call, asked)
            async with aclosing(_chunks(batches, call, context)) as chunks:
                async for chunk in chunks:
                    yield chat_pb2.StreamReplayChatCompletionResponse(chunk=chunk)

    async def _replay(
        self,
        call: Call,
        request: chat_pb2.ReplayChatCompletionRequest | chat_pb2.StreamReplayChatCompletionRequest,
    ) -> ChatRequest:
        """Return the request to send once more; its headers go with it, unless the caller has some of these itself."""
        found = await self._stored.with_request(call.caller, request.id)
        asked, headers = replay(found, request.model)
        call.headers = {**headers, **call.headers}
        return asked

    @unary
    async def ListChatCompletions(  # noqa: N802 - the contract's name
        self, request: chat_pb2.ListChatCompletionsRequest, context: Context
    ) -> chat_pb2.ListChatCompletionsResponse:
        """List records."""
        call = await self._gate.admit(context)
        page = page_from_proto(request)
        found, total = await self._stored.list(
            call.caller,
            model=request.filter.model,
            container=request.filter.container,
            metadata_json=request.filter.metadata_json,
            page=page,
        )
        await context.send_initial_metadata(head_metadata(call))
        return chat_pb2.ListChatCompletionsResponse(
            completions=[stored_to_proto(completion) for completion in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @unary
    async def ExplainChatCompletion(  # noqa: N802 - the contract's name
        self, request: chat_pb2.ExplainChatCompletionRequest, context: Context
    ) -> chat_pb2.ExplainChatCompletionResponse:
        """Say how a completion came about."""
        call = await self._gate.admit(context)
        detail = await self._stored.explain(call.caller, request.id)
        await context.send_initial_metadata(head_metadata(call))
        return detail_to_proto(detail)

    @unary
    async def RegisterChatCompletions(  # noqa: N802 - the contract's name
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
    async def ExportChatCompletions(  # noqa: N802 - the contract's name
        self, request: chat_pb2.ExportChatCompletionsRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.ExportChatCompletionsResponse, None]:
        """Send records as JSON Lines."""
        call = await self._gate.admit(context)
        pieces = chat_examples.export(self._exporter, call, request)
        try:
            # Before anything is said: a filter that cannot be used must not look like a file that began.
            first = await anext(pieces, None)
            await context.send_initial_metadata(head_metadata(call))
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()


async def _chunks(
    batches: AsyncGenerator[list[Chunk], None], call: Call, context: Context
) -> AsyncGenerator[chat_pb2.ChatCompletionChunk, None]:
    """Yield the chunks of a stream; the head goes out before the first."""
    is_first = True
    async with aclosing(batches):
        async for batch in batches:
            if is_first:
                is_first = False
                await context.send_initial_metadata(head_metadata(call))
            for chunk in batch:
                yield chunk_to_proto(chunk)
