# /// script
# requires-python = ">=3.10"
# dependencies = []
# ///
"""``credentials-provider generate`` under the name that the MCP Gateway Registry runs.

`uv run` gives it an empty environment of its own: what it needs is pinned by requirements.lock, and
generate_creds.sh installs that. A virtual environment that has it already is used as it is.
"""

import importlib.util
import os
import runpy
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.argv.insert(1, "generate")
    ready = sys.prefix != sys.base_prefix and importlib.util.find_spec("msal")
    if os.name == "posix" and not ready:
        script = os.path.join(os.path.dirname(folder), "generate_creds.sh")
        os.execv("/bin/sh", ["/bin/sh", script, *sys.argv[1:]])  # noqa: S606 - is that program
    runpy.run_path(os.path.join(folder, "__main__.py"), run_name="__main__")
