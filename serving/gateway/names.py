"""Names and ids in paths and queries, as far as they are ours to look up."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from serving.protocol import bounds

PathName = Annotated[str, Path(max_length=bounds.PATH_PARAMETER)]
QueryName = Annotated[str | None, Query(max_length=bounds.QUERY_VALUE)]
