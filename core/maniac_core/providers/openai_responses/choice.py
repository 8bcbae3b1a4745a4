"""Which of OpenAI's two APIs a model is called by.

OpenAI serves some models by Responses only, and functions of its current models too. A provider of kind `openai` is
called by Responses if it is configured so, if its address is OpenAI's own and the table below says so, or once chat
has refused a model for it; a request that came by Responses, if the provider is known to speak it.
"""

from __future__ import annotations

import re

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Wire
from maniac_core.providers.base import Dialect, DialectChoice, Prompt, UpstreamFailure
from maniac_core.providers.openai.dialect import server_at
from maniac_core.providers.openai_responses.dialect import RESPONSES
from maniac_core.providers.translation.parameters import plain

# Models at OpenAI's own address that chat does not have at all.
_NEVER_CHAT = re.compile(
    r"(?:o\d|gpt-\d[\d.]*)(?:-mini)?-(?:pro|deep-research)|[\w.-]*codex|computer-use"
)
# Those whose functions chat does not have while they think: from 5.4 on.
_NO_FUNCTIONS = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?![\w.]*-chat)")
_FIRST_WITHOUT = (5, 4)
# From the next one on they think unless told not to.
_THINKS_UNASKED = (5, 5)
# How a refusal begins that only the other API cures. Anchored, so that no text of a caller's is taken for one.
_REFUSAL = re.compile(
    rb'"message":\s*"(?:Function tools with reasoning_effort are not supported'
    rb"|This model is only supported in v1/responses"
    rb"|This is not a chat model)"
)
_REFUSED = frozenset({400, 404})
_NOT_THERE = frozenset({404, 405, 501})


class ResponsesChoice(DialectChoice):
    """Chooses for one provider of kind `openai`, and remembers what it refused."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        server = server_at(config.base_url, name)
        self._is_open = config.wire == "auto"
        self._is_openai = self._is_open and server.is_at_home and server.name == "openai"
        self._always = config.wire == "responses"
        self._refused: set[str] = set()

    @property
    def wires(self) -> frozenset[Wire]:
        """The APIs by which requests reach the provider as they came."""
        if self._always:
            return frozenset({"responses"})
        return frozenset({"chat", "responses"}) if self._is_openai else frozenset({"chat"})

    def other(self, model: str, prompt: Prompt) -> Dialect | None:
        """Return the dialect of Responses if a request goes by it."""
        return RESPONSES if self._is_responses(model, prompt) else None

    def note_refusal(self, model: str, status: int, body: bytes) -> bool:
        """Take note of an error of chat; return whether Responses is to be tried instead."""
        if not self._is_open or status not in _REFUSED or not _REFUSAL.search(body):
            return False
        self._refused.add(model)
        return True

    def note_failure(self, model: str, failure: UpstreamFailure) -> None:
        """Take note of a failure of Responses: where there is none, chat is all there is."""
        if failure.http_status in _NOT_THERE:
            self._refused.discard(model)

    def _is_responses(self, model: str, prompt: Prompt) -> bool:
        if prompt.is_embedding:
            return False
        if self._always or model in self._refused:
            return True
        return self._is_openai and (prompt.wire == "responses" or needs_responses(model, prompt))


def needs_responses(model: str, prompt: Prompt) -> bool:
    """Whether OpenAI serves a request by Responses only."""
    if _NEVER_CHAT.match(model):
        return True
    parameters = prompt.parameters
    if not parameters.get("tools") or (found := _NO_FUNCTIONS.match(model)) is None:
        return False
    version = (int(found[1]), int(found[2] or 0))
    effort = _effort(prompt)
    if effort is None:
        return version >= _THINKS_UNASKED
    return version >= _FIRST_WITHOUT and effort != "none"


def _effort(prompt: Prompt) -> object:
    effort = plain(prompt.parameters.get("reasoning_effort"))
    reasoning = plain(prompt.parameters.get("reasoning"))
    if effort is None and isinstance(reasoning, dict):
        effort = plain(reasoning.get("effort"))
    return effort
