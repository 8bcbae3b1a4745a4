"""Reads an upload's multipart/form-data as it arrives: the purpose as text, the file's bytes piece by piece."""

from __future__ import annotations

import re
from collections.abc import Generator
from urllib.parse import unquote_to_bytes

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import validation_error
from maniac_edge.schemas.common import FieldError

_MAX_HEADER_BYTES = 16 * 1024
_MAX_PARTS = 100
_MAX_PURPOSE_BYTES = 1024
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"(?=\s*(?:;|$))|([^;]*))')
_QUOTED_PAIR = re.compile(r'\\(["\\])')
# What clients encode in a quoted name: quotes, line breaks, and some also the other control characters.
_ENCODED = re.compile(r"%(22|[01][0-9A-F])")


class UploadForm:
    """One form with the parts `purpose` and `file`, in any order; parts of other names are skipped."""

    def __init__(self, content_type: str, max_file_bytes: int) -> None:
        """`content_type`: of the request.

        Raises:
            EdgeError: VALIDATION_ERROR, if it is not that of a form.
        """
        self.purpose: str | None = None
        """Set once its part is complete."""
        self.filename: str | None = None
        """Set once the file begins."""
        self.file_bytes = 0
        """How many were returned so far."""
        self._max_file_bytes = max_file_bytes
        self._part = ""
        self._text = b""
        # Published without annotations.
        kind, options = parse_options_header(content_type)  # type: ignore[no-untyped-call]
        boundary = options.get("boundary")
        if kind != "multipart/form-data" or not boundary:
            raise _problem(
                None, "Must be multipart/form-data with a boundary.", "multipart_required"
            )
        try:
            self._parser = PushMultipartParser(
                boundary, max_header_size=_MAX_HEADER_BYTES, max_segment_count=_MAX_PARTS
            )
        except MultipartError as err:
            raise _malformed(err) from None

    def feed(self, data: bytes) -> Generator[bytes, None, None]:
        """Take the next bytes of the body and yield what of it is the file's.

        Raises:
            EdgeError: VALIDATION_ERROR; PAYLOAD_TOO_LARGE for the file.
        """
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if event is None:
                    self._end_part()
                elif isinstance(event, MultipartSegment):
                    self._begin_part(event)
                elif self._part == "file":
                    self.file_bytes += len(event)
                    if self.file_bytes > self._max_file_bytes:
                        raise file_too_large(self._max_file_bytes)
                    yield event
                elif self._part == "purpose":
                    self._text += event
                    if len(self._text) > _MAX_PURPOSE_BYTES:
                        raise _problem("purpose", "Is too long.", "string_too_long")
        except MultipartError as err:
            raise _malformed(err) from None

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            EdgeError: VALIDATION_ERROR naming what is missing.
        """
        try:
            self._parser.close()  # type: ignore[no-untyped-call]
        except MultipartError as err:
            raise _malformed(err) from None
        given = {"file": self.filename, "purpose": self.purpose}
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise validation_error(
                [
                    FieldError(loc=["body", name], msg="Field required.", type="missing")
                    for name in missing
                ]
            )

    def _begin_part(self, segment: MultipartSegment) -> None:
        self._part = segment.name or ""
        if self._part == "purpose":
            if self.purpose is not None:
                raise _problem("purpose", "Is given more than once.", "value_error")
            self._text = b""
        elif self._part == "file":
            if self.filename is not None:
                raise _problem("file", "Is given more than once.", "value_error")
            self.filename = _filename(segment.header("Content-Disposition") or "")

    def _end_part(self) -> None:
        if self._part == "purpose":
            try:
                self.purpose = self._text.decode()
            except UnicodeDecodeError:
                raise _problem("purpose", "Is not UTF-8.", "string_unicode") from None
        self._part = ""


def file_too_large(limit: int) -> EdgeError:
    """Return the error for a file above the limit."""
    return EdgeError("PAYLOAD_TOO_LARGE", f"The file is larger than {limit} bytes.")


def _filename(disposition: str) -> str:
    """Return the name as the client has it.

    `filename*` (RFC 8187) is exact and wins. In `filename`, quotes and control characters come percent-encoded, or
    quotes and backslashes escaped; any other percent sign or backslash stands for itself.
    """
    given = {
        name.lower(): (quoted, plain) for name, quoted, plain in _PARAMETER.findall(disposition)
    }
    if "filename*" in given:
        quoted, plain = given["filename*"]
        return _extended(quoted or plain.strip())
    quoted, plain = given.get("filename", ("", ""))
    plain = plain.strip()
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        quoted = plain[1:-1]  # Not escaped, and ends with a backslash.
    name = _QUOTED_PAIR.sub(r"\1", quoted) if quoted else plain
    name = _ENCODED.sub(lambda match: chr(int(match[1], 16)), name)
    if not name:
        raise _problem("file", "Must be a file with a filename.", "file_required")
    return name


def _extended(value: str) -> str:
    charset, _, rest = value.partition("'")
    try:
        # Latin-1 is what the older RFC 5987 allows beside it.
        codec = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}[charset.lower()]
        return unquote_to_bytes(rest.partition("'")[2]).decode(codec)
    except (KeyError, UnicodeDecodeError):
        raise _problem("file", "Has a filename* that is not UTF-8.", "string_unicode") from None


def _malformed(err: MultipartError) -> EdgeError:
    return _problem(None, f"Is not well-formed multipart/form-data: {err}.", "multipart_invalid")


def _problem(field: str | None, message: str, kind: str) -> EdgeError:
    return validation_error(
        [FieldError(loc=["body", field] if field else ["body"], msg=message, type=kind)]
    )
