"""A provider as it is configured."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from maniac_core.config.checks import check_base_url, check_variable
from maniac_core.config.known import Kind
from maniac_core.config.scripted import ScriptedRule

# Ranges of the configuration's numbers.
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]

# Google allows projects of a domain, `example.com:name`.
_PLACE = re.compile(r"[a-z0-9][a-z0-9.:-]{0,127}")

LOCAL_PROVIDER = "local"
"""First part of the embedded model's slug."""
DEMO_PROVIDER = "demo"
"""The scripted provider that `serve` offers when there is no other."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; a key that is not a field is refused by name."""


class Timeouts(Table, frozen=True):
    """Deadlines of one upstream call, in seconds."""

    connect_s: Seconds = 5.0
    """Until the connection stands, TLS included."""
    first_token_s: Seconds = 60.0
    """From the call until the first content of a stream. Whole answers show nothing before they are generated, so
    for them only `total_s` counts."""
    idle_s: Seconds = 60.0
    """Between two events of a stream, comments not counted; between two pieces of a whole answer."""
    total_s: Seconds = 600.0
    """For the whole call of one candidate."""


class ProviderConfig(Table, frozen=True):
    """One upstream. Its table name is the first part of its models' slugs."""

    kind: Kind
    """Wire dialect; `scripted` calls nobody and answers by `rules`, see docs/scripted.md."""
    base_url: str = ""
    """Where it listens; the openai kind includes the version (`https://host/v1`). Required, but for kinds of a cloud,
    which have it from their place, and the scripted kind, where it only says whose habits to follow."""
    wire: Literal["auto", "chat", "responses"] = "auto"
    """API of the server; kind `openai` only. `auto`: chat, and Responses at OpenAI for what chat does not have there, or
    once a refusal of chat has asked for it."""
    project: str = ""
    """Of Google Cloud; kind `vertex` only."""
    location: str = ""
    """Of Vertex AI: a region, `us`, `eu` or `global`; kind `vertex` only."""
    region: str = ""
    """Of AWS; kind `bedrock` only."""
    instance_role: bool = False
    """Whether credentials may be those of the machine, from AWS's metadata service; kind `bedrock` only."""
    api_key_env: str | tuple[str, ...] | None = None
    """Name of the environment variable that holds the key, or several that are used in turn; none, or an empty
    list, for servers without keys."""
    models: tuple[str, ...] = ()
    """Names it serves; empty: any name is passed through."""
    max_retries: Count = 2
    """Further tries on this upstream before falling back."""
    breaker: bool = True
    """Whether to stop calling a model for a while after it failed repeatedly, and all of them when no connection to the
    provider can be made."""
    timeouts: Timeouts = Timeouts()
    unpriced: Literal["refuse", "allow", "free"] = "refuse"
    """What becomes of its models of unknown price: callers with a budget may not use them; may, and what these cost is
    in no budget; or they cost nothing, as on a machine of one's own."""
    rules: tuple[ScriptedRule, ...] = ()
    """How the scripted kind answers; the first rule that matches is used."""

    def __post_init__(self) -> None:
        """Refuse what the kind rules out."""
        if self.wire != "auto" and self.kind != "openai":
            raise ValueError("`wire` belongs to kind `openai` only")
        if self.kind == "vertex":
            self._check_place("project", "location")
            if not self.base_url:
                msgspec.structs.force_setattr(self, "base_url", _vertex_address(self.location))
            if self.api_key_env:
                raise ValueError(
                    "`api_key_env` does not belong to kind `vertex`, whose credentials are Google Cloud's"
                )
        elif self.project or self.location:
            raise ValueError("`project` and `location` belong to kind `vertex` only")
        if self.kind == "bedrock":
            self._check_place("region")
            if not self.base_url:
                address = f"https://bedrock-runtime.{self.region}.amazonaws.com"
                msgspec.structs.force_setattr(self, "base_url", address)
        elif self.region or self.instance_role:
            raise ValueError("`region` and `instance_role` belong to kind `bedrock` only")
        if self.kind != "scripted":
            if not self.base_url:
                raise ValueError("Object missing required field `base_url`")
            if self.rules:
                raise ValueError("`rules` belongs to kind `scripted` only")
            check_base_url("base_url", self.kind, self.base_url)
        for name in key_variables(self):
            check_variable("api_key_env", name, "OPENAI_API_KEY")

    def _check_place(self, *fields: str) -> None:
        """Refuse what cannot be part of an address."""
        for field in fields:
            if not (value := getattr(self, field)):
                raise ValueError(f"Object missing required field `{field}`")
            if not _PLACE.fullmatch(value):
                raise ValueError(f"`{field}` may have small letters, digits, `-`, `.` and `:` only")


def _vertex_address(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


class AliasConfig(Table, frozen=True):
    """A name of its own for models that stand in for each other. Its table name is the whole slug."""

    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Slugs `provider/name`: the first is called, the others are its fallbacks in this order."""
    weights: tuple[Count, ...] = ()
    """One per model: how often it is the first, in proportion; 0: as a fallback only. Empty: always in order."""

    def __post_init__(self) -> None:
        """Refuse what cannot be chosen from."""
        if len(set(self.models)) < len(self.models):
            raise ValueError("`models` names one twice")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError("`weights` needs one number for each of `models`")
        if self.weights and not sum(self.weights):
            raise ValueError("`weights` are all 0")


def demo_provider() -> ProviderConfig:
    """Return the provider that repeats what it is sent, for a gateway that has no other."""
    return ProviderConfig(kind="scripted", models=("echo",), unpriced="free")


def key_variables(provider: ProviderConfig) -> tuple[str, ...]:
    """Return the names of the environment variables with the provider's keys."""
    names = provider.api_key_env or ()
    return (names,) if isinstance(names, str) else names


def variables_of(provider: ProviderConfig) -> str:
    """Return the names of the variables that may hold the provider's key, for a sentence; "" where it takes none."""
    names = provider.api_key_env or ()
    return names if isinstance(names, str) else " or ".join(names)


def resolve_keys(
    provider: ProviderConfig, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return the provider's keys that are set in the environment."""
    found = (environ.get(name) for name in key_variables(provider))
    return tuple(dict.fromkeys(value for value in found if value))
