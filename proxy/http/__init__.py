"""HTTP/1.1 as uvicorn serves it, with limits on time and size, and signals to each request."""
