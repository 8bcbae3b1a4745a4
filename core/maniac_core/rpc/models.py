"""ModelService: the catalogue over plain RPCs."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import models_pb2

from maniac_core.domain.models import Model, Pricing
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.routing.models import ModelService


class ModelServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, models: ModelService) -> None:
        self._gate = gate
        self._models = models

    @unary
    async def GetModel(
        self, request: models_pb2.GetModelRequest, call: Call
    ) -> models_pb2.GetModelResponse:
        """Read a model."""
        model = await self._models.get(call.caller, request.id)
        return models_pb2.GetModelResponse(model=_to_proto(model))

    @unary
    async def ListModels(
        self, request: models_pb2.ListModelsRequest, call: Call
    ) -> models_pb2.ListModelsResponse:
        """List models."""
        page = page_from_proto(request, default=100, maximum=1000)
        found, total = await self._models.list(call.caller, page, request.container)
        return models_pb2.ListModelsResponse(
            models=[_to_proto(model) for model in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )


def _to_proto(model: Model) -> models_pb2.Model:
    return models_pb2.Model(
        id=model.id,
        uid=model.uid,
        slug=model.slug,
        provider=model.provider,
        owned_by=model.owned_by,
        create_time=None if model.created is None else Timestamp(seconds=model.created),
        display_name=model.display_name or "",
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        input_modalities=model.input_modalities,
        output_modalities=model.output_modalities,
        supported_parameters=model.supported_parameters,
        supported_apis=["chat.completions"],
        pricing=_pricing_to_proto(model.pricing) if model.pricing is not None else None,
        container=model.container or "",
        base_model=model.base_model or "",
        alias_models=model.alias_models,
    )


def _pricing_to_proto(pricing: Pricing) -> models_pb2.ModelPricing:
    return models_pb2.ModelPricing(
        input_nano_usd_per_mtok=pricing.input,
        output_nano_usd_per_mtok=pricing.output,
        cache_read_nano_usd_per_mtok=pricing.cache_read,
        cache_write_nano_usd_per_mtok=pricing.cache_write,
        internal_reasoning_nano_usd_per_mtok=pricing.reasoning,
        request_nano_usd=pricing.request_nano_usd,
    )
