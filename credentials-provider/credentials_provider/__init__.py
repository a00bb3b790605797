"""Access tokens for machine identities from Microsoft Entra ID, renewed before they expire."""

__version__ = "1.0.0"
