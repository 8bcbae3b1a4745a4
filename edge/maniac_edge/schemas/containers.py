"""Containers, and the models attached to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas import chat
from maniac_edge.schemas.common import Integer, JsonObject, Offset

Api = Literal[
    "chat.completions",
    "completions",
    "responses",
    "embeddings",
    "rerank",
    "containers",
    "models",
    "datasets",
    "evaluation",
    "optimization",
    "project.keys",
]
_Parameters = Annotated[
    JsonObject | UnsetType,
    Meta(description="Chat parameters by their names in a chat request; unknown ones are kept."),
]


class InferenceParameters(msgspec.Struct):
    """The default parameters that are checked; all are kept as they came."""

    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Integer | None = None
    max_tokens: Integer | None = None
    max_completion_tokens: Integer | None = None
    seed: Integer | None = None
    stop: str | list[str] | None = None
    reasoning: chat.Reasoning | None = None
    response_format: chat.ResponseFormat | None = None
    tools: list[chat.Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | chat.ToolChoice | None = None
    parallel_tool_calls: bool | None = None


class ContainerQuery(msgspec.Struct):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    offset: Offset = 0
    after: Annotated[
        str | None, Meta(description="Id of the last container of the page before.")
    ] = None


class ContainerCreate(msgspec.Struct):
    """A new container."""

    label: Annotated[
        str,
        Meta(
            description="1 to 128 characters, unique among the project's containers; no `/ : ? # %` or control"
            " characters, no blanks at its ends."
        ),
    ]
    initial_model: Annotated[str, Meta(description="Slug of a provider's model.")]
    api: Api | None = None
    default_parameters: _Parameters = UNSET
    default_system_prompt: str | None = None
    initial_system_prompt: Annotated[
        str | None, Meta(description="Older name of `default_system_prompt`, which wins.")
    ] = None


class ContainerUpdate(msgspec.Struct):
    """Changes of a container: what is absent stays, null clears."""

    default_model: Annotated[
        str | UnsetType | None,
        Meta(description="Slug or id of a provider's model or of a model of the container."),
    ] = UNSET
    default_parameters: _Parameters = UNSET
    default_system_prompt: str | UnsetType | None = UNSET


class Container(msgspec.Struct, kw_only=True):
    """A named route with defaults."""

    id: str
    object: Literal["container"] = "container"
    org_id: str | None
    project_id: str
    user_id: None = None
    created_at: Annotated[str | None, Meta(description="ISO 8601.")]
    label: str
    api: Api
    default_system_prompt: str | None
    default_parameters: dict[str, Any] | None
    default_few_shot_messages: list[dict[str, Any]] | None
    system_prompt_prefix: str | None
    optimized_system_prompt: str | None
    optimized_parameters: dict[str, Any] | None
    optimized_few_shot_messages: list[dict[str, Any]] | None
    initial_model: str | None
    best_model_id: str | None
    deleted_at: Annotated[bool, Meta(description="Whether it is deleted.")] = False


class ContainerList(msgspec.Struct, kw_only=True):
    """A page of containers."""

    object: Literal["list"] = "list"
    data: list[Container]
    total: Annotated[int, Meta(description="How many there are in all.")]


class ContainerDeleted(msgspec.Struct, kw_only=True):
    """A deleted container."""

    object: Literal["container"] = "container"
    label: str
    deleted: bool = True


class ContainerModelAttach(msgspec.Struct):
    """A model to attach to a container named by the path."""

    model: Annotated[str, Meta(description="Slug or id of a provider's model.")]
    slug: Annotated[str, Meta(description="Name within the container.")]
    default_parameters: _Parameters = UNSET
    default_system_prompt: str | None = None


class ModelAttach(ContainerModelAttach, kw_only=True):
    """A model to attach to a container."""

    container: Annotated[str, Meta(description="Label or id of the container.")]


class ContainerModel(msgspec.Struct, kw_only=True):
    """A model of a container; `maniac:CONTAINER:SLUG` routes to it."""

    object: Literal["model"] = "model"
    id: str
    container_id: str
    slug: str
    container: Annotated[str, Meta(description="Label of the container.")]
    default_parameters: dict[str, Any] | None
    default_system_prompt: str | None
