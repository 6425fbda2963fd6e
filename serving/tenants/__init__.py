"""Who may call and how much: keys, quotas, usage. Plain Python that knows neither HTTP nor Ray.

Each part has an in-memory store and a shared one, with one contract suite for both. `sql.py` alone knows SQLAlchemy.
"""
