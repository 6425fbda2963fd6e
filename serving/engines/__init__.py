"""Engines: what turns a request into tokens. engine.py is the contract; echo.py and http.py fulfil it."""
