"""Access tokens for machine identities from Microsoft Entra ID, renewed before they expire.

For Python programs:

    from credentials_provider import Credential

    requests.get(url, auth=Credential("ci"))
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for typing's, whose import costs milliseconds
if TYPE_CHECKING:
    from credentials_provider.errors import CredentialsProviderError
    from credentials_provider.python_api import Credential
    from credentials_provider.run.access import NoTokenError

__version__ = "2.0.0"
__all__ = ["Credential", "CredentialsProviderError", "NoTokenError", "__version__"]

_PLACES = {
    "Credential": "python_api",
    "CredentialsProviderError": "errors",
    "NoTokenError": "run.access",
}


def __getattr__(name: str) -> object:
    """Import at first use: the command line needs none of it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
