"""Attacks on a running product, one at a time, beside an ordinary caller who must notice none of them."""
