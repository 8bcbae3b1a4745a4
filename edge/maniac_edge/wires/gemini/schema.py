"""Requests in Gemini's form, as far as the gateway reads them. Every further key goes on to Gemini."""

from __future__ import annotations

from typing import Any

import msgspec


class _Camel(msgspec.Struct, rename="camel"):
    """Keys are written in camel case, as Google's clients do."""


class GeminiBlob(_Camel):
    """Bytes in base64."""

    data: str
    mime_type: str


class GeminiFile(_Camel):
    """A file that the provider fetches."""

    file_uri: str
    mime_type: str | None = None


class GeminiCall(_Camel):
    """A call of a function."""

    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class GeminiResult(_Camel):
    """The result of a call."""

    name: str
    response: dict[str, Any] | None = None
    id: str | None = None


class GeminiPart(_Camel):
    """A part of a turn."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: GeminiBlob | None = None
    file_data: GeminiFile | None = None
    function_call: GeminiCall | None = None
    function_response: GeminiResult | None = None


class GeminiContent(_Camel):
    """A turn of the conversation."""

    parts: list[GeminiPart] | None = None
    role: str | None = None


class GeminiFunction(_Camel):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class GeminiTool(_Camel):
    """Functions of the client. Other keys are tools that run at the provider."""

    function_declarations: list[GeminiFunction] | None = None


class GeminiCalling(_Camel):
    """Whether functions are called, and which."""

    mode: str | None = None
    allowed_function_names: list[str] | None = None


class GeminiToolConfig(_Camel):
    """Settings of the tools."""

    function_calling_config: GeminiCalling | None = None


class GeminiThinking(_Camel):
    """How much to think."""

    thinking_budget: int | None = None
    thinking_level: str | None = None
    include_thoughts: bool | None = None


class GeminiConfig(_Camel):
    """Settings of the generation."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    candidate_count: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: GeminiThinking | None = None


class GenerateContent(_Camel):
    """A request for content."""

    contents: list[GeminiContent]
    system_instruction: GeminiContent | None = None
    tools: list[GeminiTool] | None = None
    tool_config: GeminiToolConfig | None = None
    generation_config: GeminiConfig | None = None


class EmbedContent(_Camel):
    """A request for the vector of one text."""

    content: GeminiContent
    output_dimensionality: int | None = None


class BatchEmbedContents(_Camel):
    """A request for several vectors."""

    requests: list[EmbedContent]
