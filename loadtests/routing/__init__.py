"""Which way of choosing a replica keeps caches warm?"""
