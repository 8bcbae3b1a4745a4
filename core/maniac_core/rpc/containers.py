"""ContainerService: named routes over plain RPCs."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import containers_pb2

from maniac_core.domain.containers import Container, SubModel
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.routing.containers import SERVED_API, ContainerService

_encode = msgspec.json.Encoder().encode
_OBJECT: Any = dict[str, Any]
_OBJECTS: Any = list[dict[str, Any]]
# Update paths: field of the contract -> field of the domain, and the form of its JSON if it is JSON.
_MUTABLE: dict[str, tuple[str, Any]] = {
    "default_model": ("default_model", None),
    "default_system_prompt": ("default_system_prompt", None),
    "default_parameters_json": ("default_parameters", _OBJECT),
    "default_few_shot_messages_json": ("default_few_shot_messages", _OBJECTS),
    "system_prompt_prefix": ("system_prompt_prefix", None),
    "optimized_system_prompt": ("optimized_system_prompt", None),
    "optimized_parameters_json": ("optimized_parameters", _OBJECT),
    "optimized_few_shot_messages_json": ("optimized_few_shot_messages", _OBJECTS),
}


class ContainerServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, containers: ContainerService) -> None:
        self._gate = gate
        self._containers = containers

    @unary
    async def CreateContainer(
        self, request: containers_pb2.CreateContainerRequest, call: Call
    ) -> containers_pb2.CreateContainerResponse:
        """Make a container."""
        values = request.container
        wanted = Container(
            key=0,
            id="",
            project_id="",
            organization_id="",
            label=values.label,
            api=values.api or SERVED_API,
            initial_model=values.initial_model,
            created=0,
            **{field: _value(values, path) for path, (field, _) in _MUTABLE.items()},
        )
        created = await self._containers.create(call.caller, wanted)
        if wanted.default_model:
            created = await self._containers.update(
                call.caller, created.id, {"default_model": wanted.default_model}
            )
        return containers_pb2.CreateContainerResponse(container=container_to_proto(created))

    @unary
    async def GetContainer(
        self, request: containers_pb2.GetContainerRequest, call: Call
    ) -> containers_pb2.GetContainerResponse:
        """Read a container."""
        found = await self._containers.get(call.caller, request.container)
        return containers_pb2.GetContainerResponse(container=container_to_proto(found))

    @unary
    async def ListContainers(
        self, request: containers_pb2.ListContainersRequest, call: Call
    ) -> containers_pb2.ListContainersResponse:
        """List containers."""
        page = page_from_proto(request)
        found, total = await self._containers.list(call.caller, page)
        return containers_pb2.ListContainersResponse(
            containers=[container_to_proto(container) for container in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @unary
    async def UpdateContainer(
        self, request: containers_pb2.UpdateContainerRequest, call: Call
    ) -> containers_pb2.UpdateContainerResponse:
        """Change the masked fields of a container."""
        changes: dict[str, object] = {}
        for path in request.update_mask.paths:
            if path not in _MUTABLE:
                raise _invalid("update_mask", f"{path!r} cannot be changed", "enum")
            changes[_MUTABLE[path][0]] = _value(request.values, path)
        changed = await self._containers.update(call.caller, request.container, changes)
        return containers_pb2.UpdateContainerResponse(container=container_to_proto(changed))

    @unary
    async def DeleteContainer(
        self, request: containers_pb2.DeleteContainerRequest, call: Call
    ) -> containers_pb2.DeleteContainerResponse:
        """Delete a container softly."""
        deleted = await self._containers.delete(call.caller, request.container)
        return containers_pb2.DeleteContainerResponse(container=container_to_proto(deleted))

    @unary
    async def AddContainerModel(
        self, request: containers_pb2.AddContainerModelRequest, call: Call
    ) -> containers_pb2.AddContainerModelResponse:
        """Attach a model."""
        wanted = SubModel(
            id="",
            slug=request.slug,
            model=request.model,
            default_parameters=_json(
                request.default_parameters_json, _OBJECT, "default_parameters"
            ),
            default_system_prompt=request.default_system_prompt
            if request.HasField("default_system_prompt")
            else None,
            created=0,
        )
        container, model = await self._containers.add_model(call.caller, request.container, wanted)
        return containers_pb2.AddContainerModelResponse(
            model=containers_pb2.ContainerModel(
                id=model.id,
                container_id=container.id,
                container=container.label,
                slug=model.slug,
                model=model.model,
                default_parameters_json=_bytes(model.default_parameters),
                default_system_prompt=model.default_system_prompt,
                create_time=Timestamp(seconds=model.created),
            )
        )


def container_to_proto(container: Container) -> containers_pb2.Container:
    """Return the contract's form of a container."""
    return containers_pb2.Container(
        id=container.id,
        project_id=container.project_id,
        organization_id=container.organization_id,
        label=container.label,
        api=container.api,
        initial_model=container.initial_model,
        default_model=container.default_model or "",
        best_model_id=container.best_model_id or "",
        default_system_prompt=container.default_system_prompt,
        default_parameters_json=_bytes(container.default_parameters),
        default_few_shot_messages_json=_bytes(container.default_few_shot_messages),
        system_prompt_prefix=container.system_prompt_prefix,
        optimized_system_prompt=container.optimized_system_prompt,
        optimized_parameters_json=_bytes(container.optimized_parameters),
        optimized_few_shot_messages_json=_bytes(container.optimized_few_shot_messages),
        create_time=Timestamp(seconds=container.created),
        delete_time=None if container.deleted is None else Timestamp(seconds=container.deleted),
    )


def _value(values: containers_pb2.Container, path: str) -> Any:
    """Return a field's value in the domain's form; None when it is not set."""
    field, form = _MUTABLE[path]
    value = getattr(values, path)
    if form is not None:
        return _json(value, form, field)
    if path == "default_model":
        return value or None
    return value if values.HasField(path) else None  # type: ignore[arg-type]


def _json(data: bytes, form: Any, field: str) -> Any:
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        what = "an object" if form is _OBJECT else "an array of objects"
        raise _invalid(field, f"must be {what}", "dict_type") from err


def _bytes(value: object) -> bytes:
    return b"" if value is None else _encode(value)


def _invalid(field: str, problem: str, kind: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{field} {problem}.",
        param=field,
        violations=(Violation(("body", field), problem, kind),),
    )
