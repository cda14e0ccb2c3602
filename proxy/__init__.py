"""The HTTP server, the ASGI app, and the command line."""

__version__ = "0.1.0"
