"""AI assistants' MCP configurations: how each is written, and how a valid token gets there."""
