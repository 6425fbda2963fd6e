"""OpenAI's Responses API as a translation of chat, both ways. No HTTP, nothing kept.

request.py   a request: which fields there are, and the ChatRequest that it means
items.py     its input: items into messages
answer.py    a chat's answer, whole or event by event, into a response and its events
output.py    the items of which it is made
"""
