"""One identity's token, by whichever credential it has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from credentials_provider.entra.client_credentials import mint
from credentials_provider.entra.managed_identity import mint_managed
from credentials_provider.minting import Failure, Minted

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.identities.identity import Identity
    from credentials_provider.transport.retrying import Transport

    Resolve = Callable[[Identity, str], Credential | Failure]

_REFUSED_CREDENTIAL = "invalid_client"  # RFC 6749 section 5.2


def acquire(
    identity: Identity, resolve: Resolve, authority_base: str, transport: Transport
) -> Minted | Failure:
    """A token by the identity's credential; by its previous secret where that one is refused.

    `resolve` gets the credential of a field; the other arguments are as in `entra.mint`.
    """
    field, previous = identity.credential, identity.previous
    first = _with(identity, field, resolve, authority_base, transport)
    if previous is None:
        return first
    name = identity.identity_name
    if isinstance(first, Minted) and identity.is_rotated:
        return first
    if isinstance(first, Minted):
        warning = f"{name}: {field} works: {previous} can go once nobody else needs it"
        return replace(first, warnings=(*first.warnings, warning))
    if first.error != _REFUSED_CREDENTIAL:
        return first
    second = _with(identity, previous, resolve, authority_base, transport)
    attempts = first.attempts + second.attempts
    warnings = (*first.warnings, *second.warnings)
    if isinstance(second, Failure):
        message = f"{first.message}; with {previous}: {second.message}"
        return replace(first, message=message, attempts=attempts, warnings=warnings)
    code = f"AADSTS{first.aadsts}" if first.aadsts else _REFUSED_CREDENTIAL
    warning = (
        f"{name}: {field} was refused ({code}) and {previous} worked: unless {field} was made just "
        f"now, it can go and what {previous} names take its place"
    )
    return replace(second, attempts=attempts, warnings=(*warnings, warning))


def _with(
    identity: Identity, field: str, resolve: Resolve, authority_base: str, transport: Transport
) -> Minted | Failure:
    credential = resolve(identity, field)
    if isinstance(credential, Failure):
        return credential
    if credential.for_msal is None:
        return mint_managed(identity, transport)
    minted = mint(identity, credential, authority_base, transport)
    if isinstance(minted, Minted):
        minted = replace(minted, credential_ends=credential.expires_on)
    return replace(minted, warnings=credential.warnings)
