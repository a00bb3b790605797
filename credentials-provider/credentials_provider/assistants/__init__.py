"""AI assistants' MCP configurations: how each is written, and how a token gets there alive."""

MISSING_EXTRA = "The bridge needs the MCP SDK: pip install 'credentials-provider[bridge]'"
