"""AccessService: the gates of a request that an edge refuses by itself, or whose body it has not read yet."""

from __future__ import annotations

from maniac_gateway.v1 import keys_pb2

from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.methods import with_status


class AccessServicer:
    """Admits, and does nothing else."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @with_status
    async def CheckAccess(
        self, request: keys_pb2.CheckAccessRequest, context: Context
    ) -> keys_pb2.CheckAccessResponse:
        """Authenticate and count."""
        call = await self._gate.admit(context, counts=not request.body_follows)
        self._gate.refused_by_edge(call, request.refused_code)
        await context.send_initial_metadata(head_metadata(call))
        return keys_pb2.CheckAccessResponse(project_id=call.caller.project_id)
