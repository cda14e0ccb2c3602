"""uvicorn, hardened: HTTP/1.1 with limits on time and size, and signals to each request."""
