"""Responses that are kept: for whom, how long, how they are sealed, and those that run when nobody waits. No HTTP.

response.py     what is kept, its states, and where
responses.py    what a tenant may do with it
background.py   responses that this process works on
"""
