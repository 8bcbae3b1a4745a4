"""Datasets: between JSON and the contract's messages."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2, datasets_pb2
from msgspec import UNSET

from maniac_edge.convert.containers import iso_time
from maniac_edge.requests.validation import body_object, validation_error
from maniac_edge.schemas import datasets as schema
from maniac_edge.schemas.common import FieldError

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OPERATOR_PREFIX = "DATASET_FILTER_OPERATOR_"
_MAX_SIZE = (1 << 63) - 1
_FORMATS = {
    "full": chat_pb2.EXPORT_FORMAT_FULL,
    "fine_tuning": chat_pb2.EXPORT_FORMAT_FINE_TUNING,
}


def create_from_json(body: schema.DatasetCreate) -> datasets_pb2.CreateDatasetRequest:
    """Return the message for a new dataset.

    Raises:
        EdgeError: VALIDATION_ERROR for the size, or for metadata that is not an object.
    """
    return datasets_pb2.CreateDatasetRequest(
        dataset=datasets_pb2.Dataset(
            name=body.name,
            description=body.description,
            container=body.container,
            requested_size=_size(body.size),
            filters=[_filter_from_json(given) for given in body.filters or ()],
            tags=body.tags or (),
            metadata_json=body_object(body.metadata, "metadata", _decode_object),
        )
    )


def export_request(
    dataset_id: str, query: schema.DatasetContentQuery
) -> datasets_pb2.ExportDatasetRequest:
    """Return the message that asks for a dataset's items."""
    return datasets_pb2.ExportDatasetRequest(id=dataset_id, format=_FORMATS[query.format])


def created_to_json(dataset: datasets_pb2.Dataset) -> schema.DatasetCreated:
    """Return what is said of a new dataset."""
    many = "completion" if dataset.size == 1 else "completions"
    return schema.DatasetCreated(
        id=dataset.id, message=f"The dataset was created with {dataset.size} {many}."
    )


def dataset_to_json(dataset: datasets_pb2.Dataset) -> schema.Dataset:
    """Return a dataset."""
    return schema.Dataset(
        id=dataset.id,
        name=dataset.name,
        description=dataset.description if dataset.HasField("description") else None,
        project_id=dataset.project_id,
        org_id=dataset.organization_id or None,
        container_id=dataset.container_id,
        requested_size=dataset.requested_size,
        size=dataset.size,
        filters=[_filter_to_json(given) for given in dataset.filters],
        created_at=iso_time(dataset.create_time),
        tags=list(dataset.tags),
        # Verbatim: it is only passed on.
        metadata=msgspec.Raw(dataset.metadata_json) if dataset.metadata_json else None,  # type: ignore[arg-type]
        content_sha256=dataset.content_sha256,
    )


def _size(value: float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise _invalid_size("Must be a whole number.", "int_from_float")
    if not 1 <= value <= _MAX_SIZE:
        raise _invalid_size("Must be >= 1.", "greater_than_equal")
    return int(value)


def _invalid_size(message: str, kind: str) -> Exception:
    return validation_error([FieldError(loc=["body", "size"], msg=message, type=kind)])


def _filter_from_json(given: schema.DatasetFilter) -> datasets_pb2.DatasetFilter:
    return datasets_pb2.DatasetFilter(
        key=given.key,
        operator=datasets_pb2.DatasetFilterOperator.Value(
            f"{_OPERATOR_PREFIX}{given.operator.upper()}"
        ),
        value_json=b"" if given.value is UNSET else bytes(given.value),
    )


def _filter_to_json(given: datasets_pb2.DatasetFilter) -> dict[str, Any]:
    operator = datasets_pb2.DatasetFilterOperator.Name(given.operator)
    return {
        "key": given.key,
        "operator": operator.removeprefix(_OPERATOR_PREFIX).lower(),
        "value": msgspec.Raw(given.value_json) if given.value_json else None,
    }
