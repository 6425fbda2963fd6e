"""The web console at /console: one page of static files, which speaks to the public API with its user's key.

Nothing is kept on either side: no cookie, no session here, no storage there.
"""

from serving.gateway.console.routes import router

__all__ = ["router"]
