"""The life of data: how long runs are kept, how they are removed, carried away and taken in."""
