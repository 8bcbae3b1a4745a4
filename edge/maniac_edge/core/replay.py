"""ReplayChat: asks the core to send a captured request once more; the answers are those of any chat request."""

from __future__ import annotations

from maniac_gateway.v1 import chat_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.chat import ChatRequest, ChatStream, RpcStream
from maniac_edge.core.client import CoreClient, finish


class ReplayRequest(ChatRequest):
    """Which captured request to send, and to which model."""

    __slots__ = ("id", "model")

    def __init__(self, completion_id: str, model: str, *, is_stream: bool) -> None:
        # Whether usage was asked for is with the captured request: the core sends it or not.
        params = chat_pb2.ChatCompletionParams(include_usage=True)
        super().__init__(params, is_stream=is_stream)
        self.id = completion_id
        self.model = model


class ReplayChat:
    """CoreChat for replays, with one RPC per request."""

    def __init__(self, core: CoreClient, config: EdgeConfig) -> None:
        self._core = core
        self._timeout_s = config.completion_timeout_s

    async def create(
        self, request: ChatRequest, context: RequestContext
    ) -> chat_pb2.ChatCompletion:
        """Return a whole answer; see CoreChat."""
        assert isinstance(request, ReplayRequest)
        call = self._core.chat.ReplayChatCompletion(
            chat_pb2.ReplayChatCompletionRequest(id=request.id, model=request.model),
            timeout=self._timeout_s,
            metadata=self._core.metadata(context),
        )
        return (await finish(call, context)).completion

    async def stream(self, request: ChatRequest, context: RequestContext) -> ChatStream:
        """Open a streamed answer; see CoreChat."""
        assert isinstance(request, ReplayRequest)
        call = self._core.chat.StreamReplayChatCompletion(
            chat_pb2.StreamReplayChatCompletionRequest(id=request.id, model=request.model),
            timeout=self._timeout_s,
            metadata=self._core.metadata(context),
        )
        return RpcStream(call, context)
