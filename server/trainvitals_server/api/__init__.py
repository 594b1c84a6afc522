"""What the server answers over HTTP: one file of routes per resource. Handlers that read the database are plain
functions, which run on threads; those that write hand the work to the writer and await the commit."""
