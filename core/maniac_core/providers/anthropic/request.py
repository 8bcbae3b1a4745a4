"""Requests in the form of Anthropic's Messages API."""

from __future__ import annotations

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.anthropic.messages import (
    encode_messages,
    encode_system,
    thinking_blocks,
)
from maniac_core.providers.anthropic.models import ClaudeFamily, claude_family
from maniac_core.providers.base import Prompt, Target
from maniac_core.providers.translation.conversation import Conversation, read_conversation
from maniac_core.providers.translation.json_schema import anthropic_schema
from maniac_core.providers.translation.parameters import (
    OPENAI_ONLY,
    Format,
    Given,
    Tool,
    invalid,
    plain,
    take_format,
    take_limit,
    take_stop,
    take_tool_choice,
    take_tools,
)
from maniac_core.providers.translation.reasoning import (
    MIN_BUDGET_TOKENS,
    claude_effort,
    take_reasoning,
)

# The tool whose arguments become the content, for models without structured output.
JSON_TOOL = "respond_with_json"

_DEFAULT_MAX_TOKENS = 4096
_MIN_ANSWER_TOKENS = 1024
_MODES = {"none": "none", "auto": "auto", "required": "any", "named": "tool"}


def encode_body(target: Target, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of a request, and the names of dropped parameters.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    conversation = read_conversation(prompt.messages)
    head: JsonObject = {"model": target.model}
    system = encode_system(conversation)
    if system is not None:
        head["system"] = system
    head["messages"] = encode_messages(conversation)
    return encode_parameters(target, prompt, conversation, claude_family(target.model), head)


def encode_parameters(
    target: Target,
    prompt: Prompt,
    conversation: Conversation,
    family: ClaudeFamily,
    head: JsonObject,
) -> tuple[JsonObject, tuple[str, ...]]:
    """Return a body that begins with `head`, and the names of dropped parameters.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    return _Encoder(target, prompt, family, head).encode(conversation)


class _Encoder:
    """Encodes one request; the order matters: a forced tool rules out thinking, thinking rules out sampling."""

    def __init__(
        self, target: Target, prompt: Prompt, family: ClaudeFamily, head: JsonObject
    ) -> None:
        self._target = target
        self._prompt = prompt
        self._family = family
        self._given = Given(prompt.parameters)
        self._body = head
        self._output: JsonObject = {}
        self._is_forced = False
        self._budget = 0

    def encode(self, conversation: Conversation) -> tuple[JsonObject, tuple[str, ...]]:
        given, body = self._given, self._body
        body["stream"] = self._prompt.stream
        given.drop(*OPENAI_ONLY, "seed", "frequency_penalty", "presence_penalty")
        if user := given.take("user"):
            body["metadata"] = {"user_id": user}
        self._add_tools(take_tools(given), take_format(given))
        self._add_thinking(conversation)
        self._add_limit()
        self._add_sampling()
        self._add_stop()
        own_output = given.take("output_config") or {}
        if not isinstance(own_output, dict):
            raise invalid("output_config", "must be an object")
        if self._output or own_output:
            body["output_config"] = {**self._output, **own_output}
        # Keys that this wire knows and OpenAI's does not go through as they came.
        return {**given.rest(), **body}, tuple(given.dropped)

    def _add_tools(self, tools: list[Tool], form: Format | None) -> None:
        choice = take_tool_choice(self._given, tools)
        mode, name, tools = choice.mode, choice.name, choice.of(tools)
        parallel = self._given.take("parallel_tool_calls")
        encoded = [_tool(tool) for tool in tools]
        if form is not None:
            emulated = self._add_format(form)
            if emulated is not None:
                if any(tool.name == JSON_TOOL for tool in tools):
                    raise invalid("tools", f"must not name a function {JSON_TOOL}")
                if not tools or mode == "none":
                    mode, name = "named", JSON_TOOL
                elif mode != "named":
                    mode = "required"
                encoded.append(emulated)
                parallel = False
        if not encoded:
            if mode in ("required", "named"):
                self._given.note("tool_choice")
            return
        self._body["tools"] = encoded
        if mode in ("required", "named") and not self._family.takes_forced_tool:
            self._given.note("tool_choice")
            mode, name = "auto", None
        self._is_forced = mode in ("required", "named")
        encoded_choice: JsonObject = {"type": _MODES[mode or "auto"]}
        if name is not None:
            encoded_choice["name"] = name
        if parallel is False and mode != "none":
            encoded_choice["disable_parallel_tool_use"] = True
        if mode is not None or len(encoded_choice) > 1:
            self._body["tool_choice"] = encoded_choice

    def _add_format(self, form: Format) -> JsonObject | None:
        """Ask for JSON natively; return the tool to force where the model cannot."""
        if self._family.has_native_schema and form.schema is not None:
            native = anthropic_schema(form.schema)
            if native is not None:
                self._output["format"] = {"type": "json_schema", "schema": native}
                return None
        if not self._family.takes_forced_tool:
            self._given.note("response_format")
            return None
        about = f" ({form.name}: {form.description})" if form.name and form.description else ""
        return {
            "name": JSON_TOOL,
            "description": f"Give the final answer as JSON{about}.",
            "input_schema": {"type": "object", **(form.schema or {})},
        }

    def _add_thinking(self, conversation: Conversation) -> None:
        given, family = self._given, self._family
        own = given.take("thinking")
        reasoning = take_reasoning(given)
        if own is not None:
            self._body["thinking"] = own
            tokens = own.get("budget_tokens") if isinstance(own, dict) else None
            self._budget = tokens if isinstance(tokens, int) else 0
            return
        if reasoning is None:
            return
        if family.thinking == "none":
            if reasoning.effort != "none":
                given.note("reasoning")
        elif reasoning.effort == "none":
            self._turn_off()
        elif self._is_forced and family.off != "never":
            given.note("reasoning")
            self._turn_off()
        elif family.thinking == "effort":
            self._body["thinking"] = {"type": "adaptive"}
            if not family.takes_sampling:
                # From 4.7 on the text of the thinking is left out unless asked for.
                self._body["thinking"]["display"] = "summarized"
            self._output["effort"] = claude_effort(reasoning, has_xhigh=family.has_xhigh)
        elif _is_unsigned(conversation):
            given.note("reasoning")
        else:
            self._budget = max(MIN_BUDGET_TOKENS, reasoning.budget_tokens)

    def _turn_off(self) -> None:
        off = self._family.off
        if off == "never":
            self._given.note("reasoning")
            self._output["effort"] = "low"
        elif off != "omit":
            self._body["thinking"] = {"type": off}

    def _add_sampling(self) -> None:
        given, body = self._given, self._body
        thinking = body.get("thinking")
        is_thinking = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
        if is_thinking or not self._family.takes_sampling:
            given.drop("temperature", "top_p", "top_k")
            return
        temperature = given.take("temperature")
        if temperature is not None:
            # The scale ends at 1 here, at 2 with OpenAI.
            body["temperature"] = min(temperature, 1.0)
            if not self._family.takes_top_p_with_temperature:
                given.drop("top_p")
        for key in ("top_p", "top_k"):
            value = given.take(key)
            if value is not None:
                body[key] = value

    def _add_limit(self) -> None:
        largest = self._target.max_output_tokens
        limit = take_limit(self._given)
        if limit is not None and "thinking" in self._body:
            # A caller who speaks of thinking in this wire's own terms counts it into the limit.
            self._body["max_tokens"] = limit
            return
        if limit is None:
            limit = largest or _DEFAULT_MAX_TOKENS
        total = min(limit + self._budget, largest or limit + self._budget)
        self._body["max_tokens"] = total
        if not self._budget or "thinking" in self._body:
            return
        left = total - min(limit, _MIN_ANSWER_TOKENS)
        budget = max(MIN_BUDGET_TOKENS, min(self._budget, left))
        if budget >= total:
            self._given.note("reasoning")
        else:
            self._body["thinking"] = {"type": "enabled", "budget_tokens": budget}

    def _add_stop(self) -> None:
        stop = take_stop(self._given)
        usable = [text for text in stop if text.strip()]
        if len(usable) < len(stop):
            self._given.note("stop")
        if usable:
            self._body["stop_sequences"] = usable


def _tool(tool: Tool) -> JsonObject:
    encoded: JsonObject = {"name": tool.name}
    if tool.description is not None:
        encoded["description"] = tool.description
    encoded["input_schema"] = {"type": "object", **(plain(tool.parameters) or {})}
    if tool.cache_control is not None:
        encoded["cache_control"] = tool.cache_control
    return encoded


def _is_unsigned(conversation: Conversation) -> bool:
    """Whether the running tool loop came about without thinking, so that thinking cannot be turned on in it."""
    loop = conversation.open_loop()
    return bool(loop) and not any(thinking_blocks(turn) for turn in loop)
