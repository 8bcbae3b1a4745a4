"""Containers: between JSON and the contract's messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import containers_pb2
from msgspec import UNSET, UnsetType

from maniac_edge.requests.validation import body_object, validation_error
from maniac_edge.schemas import containers as schema
from maniac_edge.schemas.common import FieldError

_decode_parameters = msgspec.json.Decoder(schema.InferenceParameters)
_INTEGERS = ("top_logprobs", "max_tokens", "max_completion_tokens", "seed")
_INT64_MAX = 2**63 - 1
LAST_SECOND = 253_402_300_799
"""Of the year 9999."""


def container_from_json(body: schema.ContainerCreate) -> containers_pb2.Container:
    """Return the message for a new container.

    Raises:
        EdgeError: VALIDATION_ERROR for the parameters.
    """
    prompt = body.default_system_prompt
    return containers_pb2.Container(
        label=body.label,
        api=body.api or "",
        initial_model=body.initial_model,
        default_parameters_json=parameters_from_json(body.default_parameters, "default_parameters"),
        default_system_prompt=body.initial_system_prompt if prompt is None else prompt,
    )


def update_from_json(
    container: str, body: schema.ContainerUpdate
) -> containers_pb2.UpdateContainerRequest:
    """Return the message for a change: a mask of what was given.

    Raises:
        EdgeError: VALIDATION_ERROR for the parameters.
    """
    request = containers_pb2.UpdateContainerRequest(container=container)
    if body.default_model is not UNSET:
        request.update_mask.paths.append("default_model")
        request.values.default_model = body.default_model or ""
    if body.default_parameters is not UNSET:
        request.update_mask.paths.append("default_parameters_json")
        request.values.default_parameters_json = parameters_from_json(
            body.default_parameters, "default_parameters"
        )
    if body.default_system_prompt is not UNSET:
        request.update_mask.paths.append("default_system_prompt")
        if body.default_system_prompt is not None:
            request.values.default_system_prompt = body.default_system_prompt
    return request


def attach_from_json(
    container: str, body: schema.ContainerModelAttach
) -> containers_pb2.AddContainerModelRequest:
    """Return the message for a model to attach.

    Raises:
        EdgeError: VALIDATION_ERROR for the parameters.
    """
    return containers_pb2.AddContainerModelRequest(
        container=container,
        model=body.model,
        slug=body.slug,
        default_parameters_json=parameters_from_json(body.default_parameters, "default_parameters"),
        default_system_prompt=body.default_system_prompt,
    )


def container_to_json(container: containers_pb2.Container) -> schema.Container:
    """Return a container."""
    return schema.Container(
        id=container.id,
        org_id=container.organization_id or None,
        project_id=container.project_id,
        created_at=iso_time(container.create_time),
        label=container.label,
        api=container.api,  # type: ignore[arg-type]
        default_system_prompt=_optional(container, "default_system_prompt"),
        default_parameters=_json(container.default_parameters_json),
        default_few_shot_messages=_json(container.default_few_shot_messages_json),
        system_prompt_prefix=_optional(container, "system_prompt_prefix"),
        optimized_system_prompt=_optional(container, "optimized_system_prompt"),
        optimized_parameters=_json(container.optimized_parameters_json),
        optimized_few_shot_messages=_json(container.optimized_few_shot_messages_json),
        initial_model=container.initial_model or None,
        best_model_id=container.best_model_id or None,
        deleted_at=container.HasField("delete_time"),
    )


def container_model_to_json(model: containers_pb2.ContainerModel) -> schema.ContainerModel:
    """Return a model of a container."""
    return schema.ContainerModel(
        id=model.id,
        container_id=model.container_id,
        slug=model.slug,
        container=model.container,
        default_parameters=_json(model.default_parameters_json),
        default_system_prompt=model.default_system_prompt
        if model.HasField("default_system_prompt")
        else None,
    )


def iso_time(time: Timestamp) -> str:
    """Return a time as ISO 8601 in UTC; one before the year 1970 or after 9999 as the nearest there is."""
    seconds = min(max(time.seconds, 0), LAST_SECOND)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parameters_from_json(value: msgspec.Raw | UnsetType, field: str) -> bytes:
    """Return the text of default parameters after checking those that are known; empty for null or absent.

    Raises:
        EdgeError: VALIDATION_ERROR naming the parameter.
    """
    text = body_object(value, field, _decode_parameters)
    if text:
        given = _decode_parameters.decode(text)
        for name in _INTEGERS:
            number = getattr(given, name)
            if number is None:
                continue
            loc: list[str | int] = ["body", field, name]
            if isinstance(number, float) and not number.is_integer():
                message = "Must be a whole number."
                raise validation_error([FieldError(loc=loc, msg=message, type="int_from_float")])
            if abs(number) > _INT64_MAX:
                message = "Is out of range."
                raise validation_error([FieldError(loc=loc, msg=message, type="value_error")])
    return text


def _optional(container: containers_pb2.Container, field: Any) -> str | None:
    return getattr(container, field) if container.HasField(field) else None


def _json(text: bytes) -> Any:
    # Verbatim: it is only passed on.
    return msgspec.Raw(text) if text else None
