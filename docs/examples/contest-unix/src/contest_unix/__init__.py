"""JSON lines over a unix socket for Contest: a listener and a client."""
