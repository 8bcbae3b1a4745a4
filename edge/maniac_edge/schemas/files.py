"""Files."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.common import Offset


class FileUpload(msgspec.Struct, kw_only=True):
    """The parts of an upload's form, in any order."""

    purpose: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            pattern=r"^[!-~]+$",
            description="What the file is for, such as fine-tune; any word.",
        ),
    ]
    file: Annotated[
        str,
        Meta(
            description="The file, with its filename.",
            extra_json_schema={"contentMediaType": "application/octet-stream"},
        ),
    ]


class FileObject(msgspec.Struct, kw_only=True):
    """A stored file."""

    id: Annotated[str, Meta(description="UUID.")]
    object: Literal["file"] = "file"
    bytes: Annotated[int, Meta(ge=0, description="Size.")]
    created_at: Annotated[int, Meta(ge=0, description="Unix seconds.")]
    filename: str
    purpose: str
    status: Annotated[str, Meta(description="Always `processed`: a file is stored whole.")]
    status_details: str | None = None


class FileList(msgspec.Struct, kw_only=True):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    total: Annotated[int, Meta(ge=0, description="How many match in all.")]


class FileDeleted(msgspec.Struct, kw_only=True):
    """A deleted file."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class FileQuery(msgspec.Struct):
    """Which page."""

    purpose: Annotated[str | None, Meta(description="Only files of this purpose.")] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Size of the page.")] = 100
    offset: Offset = 0
    after: Annotated[str | None, Meta(description="Id of the last file of the page before.")] = None
