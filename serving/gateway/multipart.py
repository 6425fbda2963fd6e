"""A file in a multipart body (RFC 7578), passed on as it comes: Starlette's own form would keep all of it first, on
a disk of its choice.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import InvalidRequest

logging.getLogger("python_multipart").disabled = True  # it would write bytes of a body that is not valid
_LONGEST_FIELD = 64 * 2**10
_MOST_FIELDS = 64
_LONGEST_HEADER = 8 * 2**10


class Upload:
    """One body: read `file()` to its end, then `fields` has the others and `name` the file's name."""

    def __init__(self, content_type: str, body: AsyncIterable[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest("Send the file as multipart/form-data, with the fields 'purpose' and 'file'.")
        self.fields: dict[str, str] = {}
        self.name = ""
        self.found = False
        """Was there a file?"""
        self._body = body
        self._pieces: list[bytes] = []
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._grow(self._header, data[start:end], _LONGEST_HEADER),
                "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end], _LONGEST_HEADER),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes. Raises InvalidRequest for a body that is none of this kind or is cut off."""
        try:
            async for chunk in self._body:
                self._parser.write(chunk)
                for piece in self._pieces:
                    yield piece
                self._pieces.clear()
        except MultipartParseError:
            raise InvalidRequest("The multipart body is not valid.") from None
        if not self._ended:
            raise InvalidRequest("The multipart body ends too early.")
        if not self.found:
            raise InvalidRequest("'file' is missing.", param="file")

    def _begin_part(self) -> None:
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()
        if len(self._headers) > _MOST_FIELDS:
            raise InvalidRequest("The multipart body has too many headers.")

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        self._in_file = b"filename" in options and name == "file"
        if self._in_file:
            if self.found:
                raise InvalidRequest("Send one file at a time.", param="file")
            self.found = True
            self.name = options[b"filename"].decode(errors="replace")
        self._field, self._text = name, bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
        else:
            self._grow(self._text, data[start:end], _LONGEST_FIELD)

    def _end_part(self) -> None:
        if not self._in_file and self._field is not None:
            if len(self.fields) >= _MOST_FIELDS:
                raise InvalidRequest("The multipart body has too many fields.")
            self.fields[self._field] = self._text.decode(errors="replace")
        self._in_file = False

    def _end(self) -> None:
        self._ended = True

    @staticmethod
    def _grow(text: bytearray, more: bytes, most: int) -> None:
        text += more
        if len(text) > most:
            raise InvalidRequest("A field of the multipart body is too long.")
