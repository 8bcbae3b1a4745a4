"""EvaluatorService: evaluators over plain RPCs."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import evaluators_pb2

from maniac_core.domain.errors import Violation
from maniac_core.domain.evaluators import Code, Evaluator, EvaluatorMode, Judge
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.evaluators.evaluators import EvaluatorService
from maniac_core.services.evaluators.rules import invalid

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_MODE_PREFIX = "EVALUATOR_MODE_"
# Update paths of the contract -> field of the domain.
_MUTABLE = {
    "name": "name",
    "description": "description",
    "container": "container",
    "pass_threshold": "pass_threshold",
    "mode": "mode",
    "api": "api",
    "metadata_json": "metadata",
    "judge.model": "model",
    "judge.prompt": "prompt",
    "judge.inference_parameters_json": "inference_parameters",
    "code.source": "source",
    "code.requirements": "requirements",
}


class EvaluatorServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, evaluators: EvaluatorService) -> None:
        self._gate = gate
        self._evaluators = evaluators

    @unary
    async def CreateEvaluator(
        self, request: evaluators_pb2.CreateEvaluatorRequest, call: Call
    ) -> evaluators_pb2.CreateEvaluatorResponse:
        """Make an evaluator."""
        created = await self._evaluators.create(call.caller, _from_proto(request.evaluator))
        return evaluators_pb2.CreateEvaluatorResponse(evaluator=_to_proto(created))

    @unary
    async def GetEvaluator(
        self, request: evaluators_pb2.GetEvaluatorRequest, call: Call
    ) -> evaluators_pb2.GetEvaluatorResponse:
        """Read an evaluator."""
        found = await self._evaluators.get(call.caller, request.evaluator)
        return evaluators_pb2.GetEvaluatorResponse(evaluator=_to_proto(found))

    @unary
    async def ListEvaluators(
        self, request: evaluators_pb2.ListEvaluatorsRequest, call: Call
    ) -> evaluators_pb2.ListEvaluatorsResponse:
        """List evaluators."""
        page = page_from_proto(request)
        found, total = await self._evaluators.list(call.caller, request.container, page)
        return evaluators_pb2.ListEvaluatorsResponse(
            evaluators=[_to_proto(evaluator) for evaluator in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @unary
    async def UpdateEvaluator(
        self, request: evaluators_pb2.UpdateEvaluatorRequest, call: Call
    ) -> evaluators_pb2.UpdateEvaluatorResponse:
        """Change the masked fields of an evaluator."""
        changes: dict[str, Any] = {}
        for path in request.update_mask.paths:
            if path not in _MUTABLE:
                message = f"has {path!r}, which cannot be changed"
                raise invalid(Violation(("body", "update_mask"), message, "enum"))
            changes[_MUTABLE[path]] = _value(request.values, path)
        changed = await self._evaluators.update(call.caller, request.evaluator, changes)
        return evaluators_pb2.UpdateEvaluatorResponse(evaluator=_to_proto(changed))

    @unary
    async def DeleteEvaluator(
        self, request: evaluators_pb2.DeleteEvaluatorRequest, call: Call
    ) -> evaluators_pb2.DeleteEvaluatorResponse:
        """Delete an evaluator."""
        deleted = await self._evaluators.delete(call.caller, request.evaluator)
        return evaluators_pb2.DeleteEvaluatorResponse(id=deleted.id)


def _from_proto(values: evaluators_pb2.Evaluator) -> Evaluator:
    rule: Judge | Code
    match values.WhichOneof("kind"):
        case "judge":
            rule = Judge(
                model=values.judge.model,
                prompt=values.judge.prompt,
                inference_parameters=_value(values, "judge.inference_parameters_json"),
            )
        case "code":
            rule = Code(source=values.code.source, requirements=tuple(values.code.requirements))
        case _:
            raise invalid(Violation(("body", "type"), "must be judge or code", "missing"))
    return Evaluator(
        name=values.name,
        description=_value(values, "description"),
        container=_value(values, "container"),
        mode=_value(values, "mode"),
        api=_value(values, "api"),
        pass_threshold=_value(values, "pass_threshold"),
        metadata=_value(values, "metadata_json"),
        rule=rule,
    )


def _to_proto(evaluator: Evaluator) -> evaluators_pb2.Evaluator:
    result = evaluators_pb2.Evaluator(
        id=evaluator.id,
        project_id=evaluator.project_id,
        name=evaluator.name,
        description=evaluator.description,
        container=evaluator.container or "",
        container_id=evaluator.container_id or "",
        pass_threshold=evaluator.pass_threshold,
        mode=evaluators_pb2.EvaluatorMode.Value(f"{_MODE_PREFIX}{evaluator.mode.upper()}"),
        api=evaluator.api or "",
        metadata_json=evaluator.metadata or b"",
        create_time=Timestamp(seconds=evaluator.created),
    )
    rule = evaluator.rule
    if isinstance(rule, Judge):
        result.judge.model = rule.model
        result.judge.prompt = rule.prompt
        result.judge.inference_parameters_json = rule.inference_parameters or b""
    else:
        result.code.source = rule.source
        result.code.requirements.extend(rule.requirements)
    return result


def _value(values: evaluators_pb2.Evaluator, path: str) -> Any:
    """Return a field's value in the domain's form; None when it may be absent and is."""
    holder: Any = values
    *parents, field = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    value = getattr(holder, field)
    if field == "mode":
        return _mode(value)
    if field == "requirements":
        return tuple(value)
    if field.endswith("_json"):
        return _object(value, _MUTABLE[path])
    if field in ("description", "pass_threshold"):
        return value if holder.HasField(field) else None
    return value or None if field in ("container", "api") else value


def _mode(value: evaluators_pb2.EvaluatorMode.ValueType) -> EvaluatorMode:
    if value == evaluators_pb2.EVALUATOR_MODE_UNSPECIFIED:
        return "pointwise"
    try:
        name = evaluators_pb2.EvaluatorMode.Name(value)
    except ValueError as err:
        raise invalid(Violation(("body", "mode"), "is unknown", "enum")) from err
    return cast("EvaluatorMode", name.removeprefix(_MODE_PREFIX).lower())


def _object(document: bytes, field: str) -> bytes | None:
    if not document:
        return None
    try:
        document.decode()
        _decode_object(document)
    except (ValueError, RecursionError) as err:
        raise invalid(Violation(("body", field), "must be a JSON object", "dict_type")) from err
    return document
