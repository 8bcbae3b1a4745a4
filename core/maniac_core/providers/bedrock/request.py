"""Requests in the form of Bedrock's Converse API.

What a model of Anthropic's takes is decided by Anthropic's own rules; the result is put under Converse's names. A key
that neither knows goes to the model as it came.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.anthropic.messages import REASONING_FORMAT as CLAUDE_FORMAT
from maniac_core.providers.anthropic.models import ClaudeFamily, claude_family
from maniac_core.providers.anthropic.request import encode_parameters
from maniac_core.providers.base import Prompt, Target
from maniac_core.providers.bedrock.messages import (
    REASONING_FORMAT,
    cache_point,
    encode_messages,
    encode_system,
)
from maniac_core.providers.translation.conversation import (
    AssistantTurn,
    Conversation,
    read_conversation,
)
from maniac_core.providers.translation.parameters import invalid, plain

# Keys of this wire that a caller may give in its own words.
_OWN = (
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "additionalModelResponseFieldPaths",
)
_ADDITIONAL = "additionalModelRequestFields"
_INFERENCE = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop_sequences": "stopSequences",
}
_LIMITS = ("max_tokens", "max_completion_tokens")
# Of models that are not Anthropic's nothing is known: what they think is their own affair.
_OTHERS = ClaudeFamily(thinking="none")
_ANY_INPUT: JsonObject = {"type": "object"}


def is_claude(model: str) -> bool:
    """Whether a model is Anthropic's, by its name or that of its inference profile."""
    return "claude" in model.lower()


def encode_body(target: Target, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of a request, and the names of dropped parameters.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    claude = is_claude(target.model)
    conversation = read_conversation(prompt.messages)
    family = claude_family(target.model) if claude else _OTHERS
    left, dropped = encode_parameters(target, prompt, conversation, family, {})
    del left["stream"]
    formats = (CLAUDE_FORMAT, REASONING_FORMAT) if claude else (REASONING_FORMAT,)
    body: JsonObject = {"messages": encode_messages(conversation, formats)}
    if system := encode_system(conversation):
        body["system"] = system
    lost = [*dropped]
    if not claude and all(prompt.parameters.get(name) is None for name in _LIMITS):
        # Anthropic's default, where a limit is required.
        del left["max_tokens"]
    if left.pop("metadata", None) is not None:
        lost.append("user")
    config = {own: left.pop(name) for name, own in _INFERENCE.items() if name in left}
    if config:
        body["inferenceConfig"] = config
    if plain(prompt.parameters.get("parallel_tool_calls")) is False:
        lost.append("parallel_tool_calls")
    _add_tools(body, left, conversation, lost)
    body |= {key: left.pop(key) for key in _OWN if key in left}
    _add_output(body, left)
    _add_additional(body, left, prompt, claude=claude)
    return body, tuple(dict.fromkeys(lost))


def _add_tools(
    body: JsonObject, left: JsonObject, conversation: Conversation, lost: list[str]
) -> None:
    tools: list[JsonObject] = []
    for tool in left.pop("tools", ()):
        spec = {"name": tool["name"], "inputSchema": {"json": tool["input_schema"]}}
        if tool.get("description"):
            spec["description"] = tool["description"]
        tools += [{"toolSpec": spec}, *cache_point(tool.get("cache_control"))]
    choice = left.pop("tool_choice", None) or {}
    called = _called(conversation)
    if choice.get("type") == "none":
        if not called:
            return
        # Calls in the history need the tools, and nothing here keeps the model from calling one.
        lost.append("tool_choice")
    if not tools:
        tools = [{"toolSpec": {"name": n, "inputSchema": {"json": _ANY_INPUT}}} for n in called]
    if not tools:
        return
    body["toolConfig"] = {"tools": tools}
    match choice.get("type"):
        case "auto":
            body["toolConfig"]["toolChoice"] = {"auto": {}}
        case "any":
            body["toolConfig"]["toolChoice"] = {"any": {}}
        case "tool":
            body["toolConfig"]["toolChoice"] = {"tool": {"name": choice["name"]}}


def _called(conversation: Conversation) -> dict[str, None]:
    """Return the names of the tools that were called so far."""
    return {
        call.name: None
        for turn in conversation.turns
        if isinstance(turn, AssistantTurn)
        for call in turn.calls
    }


def _add_output(body: JsonObject, left: JsonObject) -> None:
    """Put a JSON schema that the model answers in where this wire has it."""
    output = left.get("output_config")
    form = output.pop("format", None) if isinstance(output, dict) else None
    if isinstance(output, dict) and not output:
        del left["output_config"]
    if not isinstance(form, dict) or "schema" not in form:
        return
    schema = msgspec.json.encode(form["schema"]).decode()
    body["outputConfig"] = {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}
    }


def _add_additional(body: JsonObject, left: JsonObject, prompt: Prompt, *, claude: bool) -> None:
    """Pass on what only the model knows; what the caller says in this wire's words counts first."""
    own: Any = plain(left.pop(_ADDITIONAL, None), _ADDITIONAL) or {}
    if not isinstance(own, dict):
        raise invalid(_ADDITIONAL, "must be an object")
    betas = prompt.headers.get("anthropic-beta", "") if claude else ""
    names = [name for part in betas.split(",") if (name := part.strip())]
    additional = {**left, **({"anthropic_beta": names} if names else {}), **own}
    if additional:
        body[_ADDITIONAL] = additional
