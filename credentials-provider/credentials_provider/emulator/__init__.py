"""A local Entra ID for demos and tests: TLS, discovery, keys, signed tokens, Entra's own errors.

It imports nothing of the rest of the package, so that what it says is said independently.
"""

from .apps import Added, App, Federated, Lifetime, sample_apps
from .core import Emulator
from .faults import KINDS as FAULT_KINDS
from .faults import Fault, Injection
from .vault import VaultSecret
from .wire import RecordedRequest

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
