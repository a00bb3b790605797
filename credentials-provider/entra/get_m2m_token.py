# /// script
# requires-python = ">=3.10"
# dependencies = []
# ///
"""generate_tokens.py under its present name in the MCP Gateway Registry."""

import os
import runpy

if __name__ == "__main__":
    folder = os.path.dirname(os.path.realpath(__file__))
    runpy.run_path(os.path.join(folder, "generate_tokens.py"), run_name="__main__")
