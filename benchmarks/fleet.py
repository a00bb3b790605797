"""Identities to measure with: the same ones here and in the provider's process."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from credentials_provider.emulator import App, sample_apps

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = os.path.join(ROOT, "credentials-provider")
SCOPE = "api://6b2e1a77-3c1d-4f0a-8a54-0d9f6f4c2b10/.default"


def tenant(number: int) -> str:
    """The id of a tenant, counted from 0."""
    return f"{number:08x}-0000-4000-8000-00000000feed"


def fleet(count: int, tenants: int = 1) -> list[App]:
    """`count` apps, spread evenly over the tenants."""
    sizes = [(count + number) // tenants for number in range(tenants)]
    apps = [app for number, size in enumerate(sizes) for app in sample_apps(size, tenant(number))]
    return [replace(app, name=f"worker-{number:05}") for number, app in enumerate(apps)]


class Place:
    """A folder to run in: its identities file and its tokens."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.tokens = os.path.join(folder, ".oauth-tokens")
        self.identities_file = os.path.join(self.tokens, "entra-identities.json")

    @property
    def options(self) -> tuple[str, ...]:
        """Where a command finds it, in the words of a timer that `schedule` wrote."""
        return ("--identities-file", self.identities_file, "--output-dir", self.tokens)

    def make(self, apps: list[App]) -> None:
        """Write the identities file, private."""
        os.makedirs(self.tokens, mode=0o700)
        entries = [
            {
                "identity_name": app.name,
                "tenant_id": app.tenant_id,
                "client_id": app.client_id,
                "client_secret": app.secrets[0],
                "scope": SCOPE,
            }
            for app in apps
        ]
        descriptor = os.open(self.identities_file, os.O_WRONLY | os.O_CREAT, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(entries, file, indent=2)
