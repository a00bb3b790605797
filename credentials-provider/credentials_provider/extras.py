"""What to type where the packages of an extra are missing, for the way of installation."""

from __future__ import annotations

import os
import sys

NAME = "credentials-provider"
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cure(extra: str = "") -> str:
    """A sentence with the command that adds what pyproject.toml's extra of this name has.

    Without a name, something is missing that belongs to every installation. A checkout's set-up
    installs every extra. No command asks an index for this program itself: nobody has registered
    its name there.
    """
    script = os.path.join(CHECKOUT, "generate_creds.sh")
    if os.path.isfile(script):
        return f"Remove {os.path.join(CHECKOUT, '.venv')} and run {script}, which installs it."
    import shlex  # only for a message
    from importlib.metadata import distributions

    program = next(iter(distributions(name=NAME)), None) if extra else None
    if program is None:
        return "Install this program again."
    of_extra = [each.partition(";") for each in program.requires or () if f"'{extra}'" in each]
    packages = [package.strip() for package, _, _ in of_extra]
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        words = ["pipx", "inject", os.path.basename(sys.prefix), *packages]
    elif os.path.exists(os.path.join(sys.prefix, "uv-receipt.toml")):
        source = _source(program.read_text("direct_url.json"))
        words = ["uv", "tool", "install", "--force"]
        words += [word for package in packages for word in ("--with", package)]
        words.append(source)
    else:
        words = [sys.executable, "-m", "pip", "install", *packages]
    return f"Run: {shlex.join(words)}"


def _source(direct_url: str | None) -> str:
    """Where it was installed from (PEP 610): a local folder or file as a path, else the address."""
    import json
    from urllib.request import url2pathname

    url = str(json.loads(direct_url or "{}").get("url", "CHECKOUT"))
    return url2pathname(url.removeprefix("file://")) if url.startswith("file://") else url
