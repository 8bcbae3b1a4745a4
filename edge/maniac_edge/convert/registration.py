"""Registration of examples: from JSON to the contract's batches, and the outcome to JSON."""

from __future__ import annotations

import msgspec
from maniac_gateway.v1 import chat_pb2

from maniac_edge.errors import EdgeError, param_of
from maniac_edge.requests.validation import explain
from maniac_edge.schemas import registration as schema

MAX_ERRORS = 200
"""How many failed items a response names."""

_decode = msgspec.json.Decoder(schema.RegisterItem).decode


def item_from_json(text: bytes | None, index: int) -> chat_pb2.RegisterItem:
    """Return one item, None for one above the limit; the core judges what is inside its parts.

    Raises:
        EdgeError: PAYLOAD_TOO_LARGE, INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    if text is None:
        raise EdgeError("PAYLOAD_TOO_LARGE", "The item is larger than a request may be.")
    try:
        item = _decode(text)
    except msgspec.ValidationError as err:
        problem = explain(err)
        param = param_of(problem.loc)
        raise EdgeError(
            "MISSING_REQUIRED_PARAMETER" if problem.type == "missing" else "INVALID_VALUE",
            f"{param}: {problem.msg}" if param else problem.msg,
        ) from None
    except msgspec.DecodeError as err:
        problem_text = str(err).removeprefix("JSON is malformed: ")
        raise EdgeError("INVALID_JSON", f"The item is not valid JSON: {problem_text}.") from None
    except UnicodeDecodeError:
        raise EdgeError("INVALID_JSON", "The item is not UTF-8.") from None
    except RecursionError:
        raise EdgeError("INVALID_JSON", "The item is nested too deeply.") from None
    if not (given := _given(item.input)):
        raise EdgeError("MISSING_REQUIRED_PARAMETER", "input: Field required.")
    return chat_pb2.RegisterItem(
        index=index,
        input_json=given,
        output_json=_given(item.output),
        tags=item.tags or (),
        metadata_json=_given(item.metadata),
    )


def _given(value: msgspec.Raw | msgspec.UnsetType) -> bytes:
    text = bytes(value) if value else b""
    return b"" if text == b"null" else text


def response_to_json(
    response: chat_pb2.RegisterChatCompletionsResponse,
    failures: list[schema.RegisterError],
    failed: int,
) -> schema.RegisterResponse:
    """Return the outcome. `failures` are the first of the `failed` items that never went to the core."""
    errors = [
        schema.RegisterError(index=error.index, code=error.code, message=error.message)
        for error in response.errors
    ]
    errors = sorted([*errors, *failures], key=_index)[:MAX_ERRORS]
    all_failed = response.failed + failed
    usage = response.usage
    return schema.RegisterResponse(
        ok=response.inserted > 0 or all_failed == 0,
        container=response.container,
        summary=schema.RegisterSummary(
            received=response.received + failed,
            inserted=response.inserted,
            skipped=response.skipped,
            failed=all_failed,
            usage=schema.RegisterUsage(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                total_tokens=usage.total_tokens,
            ),
        ),
        errors=errors,
    )


def _index(error: schema.RegisterError) -> int:
    return error.index
