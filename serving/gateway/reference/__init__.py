"""The reference: /openapi.json, and /docs, which is the same as a page.

document.py   what FastAPI knows of the routes, and what it cannot know: refusals, credentials, headers, streams
bodies.py     the shapes of answers that are passed on or built by hand
page.py       the page, without any script
"""
