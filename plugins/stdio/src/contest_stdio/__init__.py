"""JSON lines on stdin and stdout for Contest: a listener, and a client that spawns a server."""
