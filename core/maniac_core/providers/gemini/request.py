"""Requests in the form of Gemini's generateContent."""

from __future__ import annotations

import re
from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import Prompt, Target
from maniac_core.providers.gemini.messages import encode_contents, encode_system
from maniac_core.providers.translation.conversation import read_conversation
from maniac_core.providers.translation.json_schema import Room, SchemaError, gemini_schema
from maniac_core.providers.translation.parameters import (
    OPENAI_ONLY,
    Given,
    Tool,
    invalid,
    take_format,
    take_limit,
    take_stop,
    take_tool_choice,
    take_tools,
)
from maniac_core.providers.translation.reasoning import gemini_thinking, take_reasoning

# Keys of this wire that a caller may give in its own words.
_OWN_KEYS = ("safetySettings", "cachedContent")
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY", "named": "ANY"}
# Before 3, and in the image models, signatures of calls may be missing.
_UNSIGNED = re.compile(r"gemini-[12]\.|gemma|-image")


def encode_body(target: Target, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of a request, and the names of dropped parameters.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    given = Given(prompt.parameters)
    conversation = read_conversation(prompt.messages)
    body: JsonObject = {}
    system = encode_system(conversation)
    if system is not None:
        body["systemInstruction"] = system
    body["contents"] = encode_contents(
        conversation, needs_signatures=_UNSIGNED.search(target.model.lower()) is None
    )
    given.drop(*OPENAI_ONLY, "user")
    room = Room()
    _add_tools(body, given, room)
    config = _generation_config(target, given, room)
    _add_own_config(config, target, given)
    if config:
        body["generationConfig"] = config
    for key in _OWN_KEYS:
        value = given.take(key)
        if value is not None:
            body[key] = value
    for key in given.rest():
        given.note(key)
    return body, tuple(given.dropped)


def _generation_config(target: Target, given: Given, room: Room) -> JsonObject:
    config: JsonObject = {}
    for name, own_name in _SAMPLING.items():
        value = given.take(name)
        if value is not None:
            config[own_name] = value
    stop = take_stop(given)
    usable = [text for text in stop if text]
    if len(usable) < len(stop):
        given.note("stop")
    if usable:
        config["stopSequences"] = usable
    form = take_format(given)
    if form is not None:
        config["responseMimeType"] = "application/json"
        if form.schema is not None:
            where = "response_format.json_schema.schema"
            config["responseSchema"] = _schema(form.schema, where, room)
    limit = take_limit(given)
    reasoning = take_reasoning(given)
    budget = 0
    if reasoning is not None:
        thinking = gemini_thinking(target.model, reasoning)
        if thinking.config is not None:
            config["thinkingConfig"] = thinking.config
        if not thinking.is_honoured:
            given.note("reasoning")
        budget = thinking.budget_tokens
    if limit is not None:
        # The provider counts thinking into its limit, callers mean the answer.
        total = limit + budget
        config["maxOutputTokens"] = min(total, target.max_output_tokens or total)
    return config


def _add_own_config(config: JsonObject, target: Target, given: Given) -> None:
    """Add what the caller says in the wire's own words, but nothing that makes more of an answer than was agreed."""
    own = given.take("generationConfig")
    if own is None:
        return
    if not isinstance(own, dict):
        raise invalid("generationConfig", "must be an object")
    for key, value in own.items():
        # The wire takes both spellings of a name.
        match key.replace("_", "").lower():
            case "candidatecount":
                if value != 1:
                    given.note(f"generationConfig.{key}")
            case "maxoutputtokens":
                if "maxOutputTokens" in config or type(value) is not int:
                    given.note(f"generationConfig.{key}")
                else:
                    config["maxOutputTokens"] = min(value, target.max_output_tokens or value)
            case _:
                config[key] = value


def _add_tools(body: JsonObject, given: Given, room: Room) -> None:
    tools = take_tools(given)
    choice = take_tool_choice(given, tools)
    if choice.mode == "auto":
        # Names may be listed only where a function must be called.
        tools = choice.of(tools)
    if given.take("parallel_tool_calls") is False:
        given.note("parallel_tool_calls")
    if not tools:
        if choice.mode in ("required", "named"):
            given.note("tool_choice")
        return
    declarations = [
        _declaration(tool, f"tools[{position}].function.parameters", room)
        for position, tool in enumerate(tools)
    ]
    body["tools"] = [{"functionDeclarations": declarations}]
    if choice.mode is not None:
        calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
        if choice.mode == "named":
            calling["allowedFunctionNames"] = [choice.name]
        elif choice.mode == "required" and choice.allowed is not None:
            calling["allowedFunctionNames"] = [tool.name for tool in choice.of(tools)]
        body["toolConfig"] = {"functionCallingConfig": calling}


def _declaration(tool: Tool, param: str, room: Room) -> JsonObject:
    declaration: JsonObject = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    parameters = _schema(tool.parameters or {}, param, room)
    # A function without parameters says so by leaving them out.
    if parameters.get("properties") or parameters.get("anyOf"):
        declaration["parameters"] = {"type": "object", **parameters}
    return declaration


def _schema(schema: JsonObject, param: str, room: Room) -> JsonObject:
    try:
        return gemini_schema(schema, room)
    except SchemaError as err:
        raise invalid(param, str(err)) from None
