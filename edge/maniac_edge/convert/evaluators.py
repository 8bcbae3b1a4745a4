"""Evaluators: between JSON and the contract's messages."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import evaluators_pb2
from msgspec import UNSET

from maniac_edge.convert.containers import iso_time, parameters_from_json
from maniac_edge.requests.validation import body_object, validation_error
from maniac_edge.schemas import evaluators as schema
from maniac_edge.schemas.common import FieldError

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MODE_PREFIX = "EVALUATOR_MODE_"
_FIELDS_OF = {
    "judge": ("model", "prompt", "inference_parameters"),
    "code": ("source", "requirements"),
}
# Fields of JSON -> path in the message.
_PATHS = {
    "name": "name",
    "description": "description",
    "container": "container",
    "mode": "mode",
    "api": "api",
    "pass_threshold": "pass_threshold",
    "metadata": "metadata_json",
    "model": "judge.model",
    "prompt": "judge.prompt",
    "inference_parameters": "judge.inference_parameters_json",
    "source": "code.source",
    "requirements": "code.requirements",
}


def create_from_json(body: schema.EvaluatorCreate) -> evaluators_pb2.CreateEvaluatorRequest:
    """Return the message for a new evaluator.

    Raises:
        EdgeError: VALIDATION_ERROR for a field of the other kind, or a JSON object that is none.
    """
    other = "code" if body.type == "judge" else "judge"
    foreign = [name for name in _FIELDS_OF[other] if getattr(body, name) not in (None, UNSET)]
    if foreign:
        message = f"Does not belong to a {body.type} evaluator."
        raise validation_error(
            [
                FieldError(loc=["body", name], msg=message, type="extra_forbidden")
                for name in foreign
            ]
        )
    evaluator = evaluators_pb2.Evaluator()
    getattr(evaluator, body.type).SetInParent()
    for name, path in _PATHS.items():
        if name not in _FIELDS_OF[other]:
            _set(evaluator, path, _value(name, getattr(body, name)))
    return evaluators_pb2.CreateEvaluatorRequest(evaluator=evaluator)


def update_from_json(
    evaluator: str, body: schema.EvaluatorUpdate
) -> evaluators_pb2.UpdateEvaluatorRequest:
    """Return the message for a change: a mask of what was given.

    Raises:
        EdgeError: VALIDATION_ERROR for a JSON object that is none.
    """
    request = evaluators_pb2.UpdateEvaluatorRequest(evaluator=evaluator)
    for name, path in _PATHS.items():
        value = getattr(body, name)
        if value is not UNSET:
            request.update_mask.paths.append(path)
            _set(request.values, path, _value(name, value))
    return request


def evaluator_to_json(evaluator: evaluators_pb2.Evaluator) -> schema.Evaluator:
    """Return an evaluator."""
    mode = evaluators_pb2.EvaluatorMode.Name(evaluator.mode).removeprefix(_MODE_PREFIX).lower()
    common: dict[str, Any] = {
        "id": evaluator.id,
        "project_id": evaluator.project_id,
        "container_id": evaluator.container_id or None,
        "container": evaluator.container or None,
        "name": evaluator.name,
        "description": evaluator.description if evaluator.HasField("description") else None,
        "created_at": iso_time(evaluator.create_time),
        "metadata": _json(evaluator.metadata_json),
        "pass_threshold": (
            evaluator.pass_threshold if evaluator.HasField("pass_threshold") else None
        ),
        "mode": mode,
        "api": evaluator.api or None,
    }
    if evaluator.WhichOneof("kind") == "judge":
        judge = evaluator.judge
        return schema.JudgeEvaluator(
            model=judge.model,
            prompt=judge.prompt,
            inference_parameters=_json(judge.inference_parameters_json),
            **common,
        )
    code = evaluator.code
    return schema.CodeEvaluator(source=code.source, requirements=list(code.requirements), **common)


def _value(name: str, value: Any) -> Any:
    """Return a JSON field's value as the message takes it; None for null and absent."""
    if name == "metadata":
        return body_object(value, name, _decode_object) or None
    if name == "inference_parameters":
        return parameters_from_json(value, name) or None
    if name == "mode" and value is not None:
        return evaluators_pb2.EvaluatorMode.Value(f"{_MODE_PREFIX}{value.upper()}")
    return value


def _set(message: Any, path: str, value: Any) -> None:
    if value is None:
        return
    *parents, field = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if isinstance(value, list):
        getattr(message, field).extend(value)
    else:
        setattr(message, field, value)


def _json(text: bytes) -> Any:
    # Verbatim: it is only passed on.
    return msgspec.Raw(text) if text else None
