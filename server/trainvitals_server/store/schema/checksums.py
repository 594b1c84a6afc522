"""Checksums of what is kept as it came."""

# CRC-32 of a row's blobs, one after another, without those that are absent; NULL: of before there were any.
STATEMENTS = (
    "ALTER TABLE frames ADD COLUMN checksum INTEGER",  # steps, times, values, present
    "ALTER TABLE fresh_buckets ADD COLUMN checksum INTEGER",  # shape, edges, odd
)
