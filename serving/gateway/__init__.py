"""HTTP: the only package that imports fastapi and starlette's applications. chat.py is one request, top to bottom."""
