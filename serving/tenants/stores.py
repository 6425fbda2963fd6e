"""What may go wrong with any store of tenants/, whatever is kept in it."""

from serving.errors import ServingError


class StoreUnavailable(ServingError):
    """The database cannot answer now. Says nothing about what was asked, so for a key it is never a 401."""

    status, kind, code = 503, "server_error", "store_unavailable"
    default_message = "The database cannot be reached right now. Nothing was generated; try again shortly."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after=2)


class NotStorable(StoreUnavailable):
    """The database is there and does not take this: a number or a text that its column cannot hold."""


class StoreTooNew(Exception):
    """The store was written by a newer release, so this one cannot know what its rows mean."""
