"""The chunks that a caller gets, made of what a provider's stream yields."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import ChoiceDelta, Chunk, Usage, Wire
from maniac_core.providers.base import NativeEvent, StreamItem
from maniac_core.providers.renaming import renamed_event
from maniac_core.services.routing.planner import Step


class Emitter:
    """Makes the chunks of one answer: the same identity on each, a role first in each choice."""

    def __init__(self, completion_id: str, created: int, step: Step, wire: Wire) -> None:
        self._base = Chunk(
            id=completion_id,
            created=created,
            model=step.candidate.slug,
            provider=step.candidate.provider,
            container=step.container.label if step.container else None,
        )
        self.is_native = False
        """Whether the answer is passed on as it comes."""
        self._wire = wire
        self._begun: set[int] = set()

    def chunks(self, items: list[StreamItem]) -> list[Chunk]:
        """Return a chunk per delta; of an answer that is passed on as it comes, one per event."""
        chunks: list[Chunk] = []
        for item in items:
            if type(item) is not ChoiceDelta:
                if type(item) is NativeEvent:
                    self.is_native = True
                    chunks.append(self._native(item.data))
                continue
            if self.is_native:
                continue
            if item.index not in self._begun:
                self._begun.add(item.index)
                chunks.append(
                    self._chunk(ChoiceDelta(index=item.index, role="assistant", content=""))
                )
            if item.has_content or item.finish_reason is not None:
                # Clients that add up deltas would add up roles.
                plain = item if item.role is None else msgspec.structs.replace(item, role=None)
                chunks.append(self._chunk(plain))
        return chunks

    def usage(self, usage: Usage) -> Chunk:
        """Return the last chunk, which carries usage and no choice."""
        return msgspec.structs.replace(self._base, usage=usage)

    def _native(self, data: bytes) -> Chunk:
        base = self._base
        return msgspec.structs.replace(
            base, native=renamed_event(self._wire, data, base.id, base.model)
        )

    def _chunk(self, delta: ChoiceDelta) -> Chunk:
        base = self._base
        return Chunk(
            id=base.id,
            created=base.created,
            model=base.model,
            provider=base.provider,
            container=base.container,
            choices=(delta,),
        )
