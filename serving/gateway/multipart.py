"""A file in a multipart body (RFC 7578), passed on as it comes: Starlette's own form would keep all of it first, on
a disk of its choice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import BodyTooLarge, InvalidRequest
from serving.protocol import bounds

# It would write bytes of a body that is not valid. A filter: uvicorn's configuration of logs enables all loggers anew.
logging.getLogger("python_multipart.multipart").addFilter(lambda record: False)
_AT_A_TIME = 16 * 2**10
"""Bytes that are parsed before others have their turn: the parser is Python, and takes a microsecond for some bytes."""
_LONGEST_BOUNDARY = 256


class Upload:
    """One body: read `file()` to its end, then `fields` has the others and `name` the file's name."""

    def __init__(self, content_type: str, body: AsyncIterable[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary or len(boundary) > _LONGEST_BOUNDARY:
            raise InvalidRequest("Send the file as multipart/form-data, with the fields 'purpose' and 'file'.")
        self.fields: dict[str, str] = {}
        self.name = ""
        self.found = False
        """Was there a file?"""
        self._body = body
        self._pieces: list[bytes] = []
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._parts = self._header_bytes = self._extra = 0
        self._field: str | None = None
        self._text = bytearray()
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._grow_header(self._header, data[start:end]),
                "on_header_value": lambda data, start, end: self._grow_header(self._value, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes. Raises InvalidRequest for a body that is none of this kind or is cut off, BodyTooLarge for
        one that has much beside its file.
        """
        try:
            async for chunk in self._body:
                pieces = []
                for at in range(0, len(chunk), _AT_A_TIME):
                    if at:
                        await asyncio.sleep(0)
                    pieces.append(self._file_in(chunk[at : at + _AT_A_TIME]))
                if piece := b"".join(pieces):
                    yield piece
        except MultipartParseError:
            raise InvalidRequest("The multipart body is not valid.") from None
        if not self._ended:
            raise InvalidRequest("The multipart body ends too early.")
        if not self.found:
            raise InvalidRequest("'file' is missing.", param="file")

    def _file_in(self, data: bytes) -> bytes:
        """What of the body is the file's."""
        self._parser.write(data)
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._extra += len(data) - len(piece)
        if self._extra > bounds.UPLOAD_EXTRA:
            raise BodyTooLarge(f"The multipart body has more than {bounds.UPLOAD_EXTRA} bytes beside its file.")
        return piece

    def _begin_part(self) -> None:
        self._headers, self._header_bytes, self._parts = {}, 0, self._parts + 1
        if self._parts > bounds.PARTS_OF_UPLOAD:
            raise InvalidRequest(f"The multipart body has too many fields: at most {bounds.PARTS_OF_UPLOAD} parts.")

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()
        if len(self._headers) > bounds.PART_HEADERS:
            raise InvalidRequest(f"A part of the multipart body has more than {bounds.PART_HEADERS} headers.")

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
            self._grow(self._text, data[start:end], bounds.UPLOAD_FIELD)

    def _end_part(self) -> None:
        if not self._in_file and self._field is not None:
            self.fields[self._field] = self._text.decode(errors="replace")
        self._in_file = False

    def _end(self) -> None:
        self._ended = True

    def _grow_header(self, text: bytearray, more: bytes) -> None:
        self._header_bytes += len(more)
        if self._header_bytes > bounds.PART_HEADER_BYTES:
            raise InvalidRequest(f"The headers of a part are longer than {bounds.PART_HEADER_BYTES} bytes.")
        text += more

    @staticmethod
    def _grow(text: bytearray, more: bytes, most: int) -> None:
        if len(text) + len(more) > most:
            raise InvalidRequest(f"A field of the multipart body is too long: at most {most} bytes.")
        text += more
