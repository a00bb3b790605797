"""AI assistants' MCP configurations: how each is written, and how a token gets there alive."""
