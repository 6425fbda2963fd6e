"""Files and batches: large jobs of a tenant, run line by line when nobody waits.

files.py       what may be done with files         file.py    what one is, where its row is kept
batches.py     what may be done with batches       batch.py   what one is, where it is kept
sealed.py      bytes as they are kept: sealed      orphans.py bytes without a file, files without bytes
contents.py    where bytes are kept                disk.py, blob.py
lines.py       lines of an input file, and of an output file
worker.py      takes batches that nobody works on  run.py     one batch from validating to its end
checkpoint.py  results, written as lines end       retries.py whether a line is tried again
"""
