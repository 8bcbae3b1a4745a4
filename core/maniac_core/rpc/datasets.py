"""DatasetService: snapshots of completions over RPCs, their items in a stream of chunks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import chat_pb2, datasets_pb2

from maniac_core.domain.datasets import Dataset, DatasetFilter
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import streaming, unary
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.datasets.datasets import DatasetService

_DEFAULT_PAGE = 100
_CHUNK_BYTES = 128 * 1024
_OPERATOR_PREFIX = "DATASET_FILTER_OPERATOR_"
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DatasetServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, datasets: DatasetService) -> None:
        self._gate = gate
        self._datasets = datasets

    @unary
    async def CreateDataset(
        self, request: datasets_pb2.CreateDatasetRequest, call: Call
    ) -> datasets_pb2.CreateDatasetResponse:
        """Take a snapshot."""
        created = await self._datasets.create(call.caller, _from_proto(request.dataset))
        return datasets_pb2.CreateDatasetResponse(dataset=_to_proto(created))

    @unary
    async def GetDataset(
        self, request: datasets_pb2.GetDatasetRequest, call: Call
    ) -> datasets_pb2.GetDatasetResponse:
        """Read what is known of a dataset."""
        found = await self._datasets.get(call.caller, request.id)
        return datasets_pb2.GetDatasetResponse(dataset=_to_proto(found))

    @unary
    async def ListDatasets(
        self, request: datasets_pb2.ListDatasetsRequest, call: Call
    ) -> datasets_pb2.ListDatasetsResponse:
        """List datasets."""
        page = page_from_proto(request, default=_DEFAULT_PAGE)
        found, total = await self._datasets.list(call.caller, request.container, page)
        return datasets_pb2.ListDatasetsResponse(
            datasets=[_to_proto(dataset) for dataset in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @streaming
    async def ExportDataset(
        self, request: datasets_pb2.ExportDatasetRequest, call: Call
    ) -> AsyncGenerator[datasets_pb2.ExportDatasetResponse, None]:
        """Send the items."""
        dataset = await self._datasets.get(call.caller, request.id)
        is_training = request.format == chat_pb2.EXPORT_FORMAT_FINE_TUNING
        yield datasets_pb2.ExportDatasetResponse(dataset=_to_proto(dataset))
        lines = self._datasets.lines(dataset, "fine_tuning" if is_training else "full")
        held = bytearray()
        async with contextlib.aclosing(lines):
            async for line in lines:
                held += line
                while len(held) >= _CHUNK_BYTES:
                    yield datasets_pb2.ExportDatasetResponse(chunk=bytes(held[:_CHUNK_BYTES]))
                    del held[:_CHUNK_BYTES]
        if held:
            yield datasets_pb2.ExportDatasetResponse(chunk=bytes(held))

    @unary
    async def DeleteDataset(
        self, request: datasets_pb2.DeleteDatasetRequest, call: Call
    ) -> datasets_pb2.DeleteDatasetResponse:
        """Delete a dataset."""
        await self._datasets.delete(call.caller, request.id)
        return datasets_pb2.DeleteDatasetResponse()


def _from_proto(values: datasets_pb2.Dataset) -> Dataset:
    return Dataset(
        name=values.name,
        description=values.description if values.HasField("description") else None,
        container=values.container,
        requested_size=values.requested_size,
        filters=tuple(_filter(given) for given in values.filters),
        tags=tuple(values.tags),
        metadata=_metadata(values.metadata_json),
    )


def _filter(given: datasets_pb2.DatasetFilter) -> DatasetFilter:
    names = datasets_pb2.DatasetFilterOperator.values()
    operator = (
        datasets_pb2.DatasetFilterOperator.Name(given.operator).removeprefix(_OPERATOR_PREFIX)
        if given.operator in names
        else ""
    )
    return DatasetFilter(
        key=given.key,
        operator=operator.lower(),
        value=msgspec.Raw(given.value_json or b"null"),
    )


def _metadata(document: bytes) -> bytes | None:
    if not document:
        return None
    try:
        document.decode()
        _decode_object(document)
    except (ValueError, RecursionError) as err:
        raise GatewayError(
            Reason.ERROR_REASON_VALIDATION_ERROR,
            "metadata must be a JSON object.",
            param="metadata",
            violations=(Violation(("body", "metadata"), "must be a JSON object", "dict_type"),),
        ) from err
    return document


def _to_proto(dataset: Dataset) -> datasets_pb2.Dataset:
    return datasets_pb2.Dataset(
        id=dataset.id,
        project_id=dataset.project_id,
        organization_id=dataset.organization_id,
        name=dataset.name,
        description=dataset.description,
        container=dataset.container,
        container_id=dataset.container_id,
        requested_size=dataset.requested_size,
        size=dataset.size,
        filters=[
            datasets_pb2.DatasetFilter(
                key=given.key,
                operator=datasets_pb2.DatasetFilterOperator.Value(
                    f"{_OPERATOR_PREFIX}{given.operator.upper()}"
                ),
                value_json=b"" if bytes(given.value) == b"null" else bytes(given.value),
            )
            for given in dataset.filters
        ],
        tags=dataset.tags,
        metadata_json=dataset.metadata or b"",
        content_sha256=dataset.content_hash.hex(),
        create_time=Timestamp(seconds=dataset.created),
    )
