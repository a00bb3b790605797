# ruff: noqa: INP001 - a script, not a package
"""``credentials-provider generate`` under the name that the MCP Gateway Registry runs."""

import os
import runpy
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.argv.insert(1, "generate")
    runpy.run_path(os.path.join(folder, "__main__.py"), run_name="__main__")
