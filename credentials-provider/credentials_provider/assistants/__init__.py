"""AI assistants' MCP configurations: how each is written, and how a token gets there alive."""

MISSING_EXTRA = "the bridge needs an extra: pip install 'credentials-provider[bridge]'"
