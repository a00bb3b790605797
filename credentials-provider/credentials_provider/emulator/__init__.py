"""A local Entra ID for demos and tests: TLS, discovery, keys, signed tokens, Entra's own errors.

It imports nothing of the rest of the package, so that what it says is said independently.
"""

from credentials_provider.emulator.apps import Added, App, Federated, Lifetime, sample_apps
from credentials_provider.emulator.core import Emulator
from credentials_provider.emulator.faults import KINDS as FAULT_KINDS
from credentials_provider.emulator.faults import Fault, Injection
from credentials_provider.emulator.vault import VaultSecret
from credentials_provider.emulator.wire import RecordedRequest

__all__ = [
    "FAULT_KINDS",
    "Added",
    "App",
    "Emulator",
    "Fault",
    "Federated",
    "Injection",
    "Lifetime",
    "RecordedRequest",
    "VaultSecret",
    "sample_apps",
]
