"""/admin/v1: what administrators do over HTTP, a file for each noun. Rules and rights are tenants/administration.py.

Routes are plain functions: FastAPI runs them in threads, where the verbs may block on the database.
"""
