"""An MCP server for Contest: its tools are the verbs."""
