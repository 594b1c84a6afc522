"""From tensors on a device to numbered columns on the host: layouts, frames, and what is non-finite in them."""
