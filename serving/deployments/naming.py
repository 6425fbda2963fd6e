"""How deployments are named in Ray Serve. Apart, so that it can be known without importing ray."""

ENGINE_PREFIX = "/_engine/"
SECRET_HEADER = "x-clinserve-engine"
"""What opens the engine routes; its value is secrets.Secrets.engine."""


def app_name_of(deployment: str) -> str:
    """The Ray Serve application of a deployment: one each, so that one can change without the others."""
    return f"engine-{deployment}"
