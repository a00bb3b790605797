"""`Credential`: an identity's tokens for Python programs."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.model import Observer, RunOptions
from credentials_provider.permissions import TRUST_VARIABLE, trust_owner
from credentials_provider.run.access import audit_for, only_name, resource_of
from credentials_provider.run.source import TokenSource
from credentials_provider.settings import CLOUDS, Flags, load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from azure.core.credentials import AccessToken, AccessTokenInfo

    from credentials_provider.run.access import ValidToken

_Request = TypeVar("_Request")

_log = logging.getLogger("credentials_provider")
_MIN_TTL = 300.0  # seconds
_DEADLINE = 30.0  # seconds for a renewal in all
_UNAUTHORIZED = 401


class _AzureToken:
    """What Azure's libraries read of a token. Times in epoch seconds."""

    __slots__ = ("expires_on", "refresh_on", "token", "token_type")

    def __init__(self, access: ValidToken) -> None:
        self.token = access.token
        self.expires_on = int(access.expires_on)
        self.refresh_on = int(access.refresh_at)
        self.token_type = "Bearer"  # noqa: S105  a kind of token

    def __iter__(self) -> Iterator[str | int]:
        """As a tuple of token and expiry, which azure.core's AccessToken is."""
        return iter((self.token, self.expires_on))

    def __repr__(self) -> str:
        return f"AccessToken(expires_on={self.expires_on})"


class Credential:
    """One identity's tokens, renewed before they expire: the same files as the command's.

    It is a credential for Azure's client libraries, and an `auth=` for requests and httpx (also
    for MCP's SDK, sync and async). Safe for threads. An answer of 401 is followed by one renewal
    and one more try, at most once in five minutes.

    Args:
        identity_name: may be left out where there is one identity.
        identities_file, output_dir, env_file, login_base_url, cloud, ca_bundle: as the options of
            the command, with the same defaults as those of the installed program.
        header_name: where `auth=` puts the token; X-Authorization for an MCP gateway.

    Raises:
        ConfigurationError: there is no such identity, or its settings cannot be used.

    """

    requires_request_body = False  # httpx.Auth's
    requires_response_body = False

    def __init__(
        self,
        identity_name: str | None = None,
        *,
        identities_file: str | None = None,
        output_dir: str | None = None,
        env_file: str | None = None,
        login_base_url: str | None = None,
        cloud: str | None = None,
        ca_bundle: str | None = None,
        header_name: str = "Authorization",
    ) -> None:
        if cloud is not None and (cloud not in CLOUDS or login_base_url is not None):
            raise ConfigurationError(
                f"cloud must be one of {', '.join(CLOUDS)}, and not be given with login_base_url",
                hint="Give either of them.",
            )
        for name in os.environ.get(TRUST_VARIABLE, "").split():
            trust_owner(name)
        flags = Flags(
            identities_file=identities_file,
            output_dir=output_dir,
            env_file=env_file,
            login_base_url=login_base_url,
            cloud=cloud,
            ca_bundle=ca_bundle,
        )
        settings = load_settings(flags, os.environ, "")
        file = read_entries(settings)
        self.identity_name = identity_name or only_name(file.entries, file.path)
        entry, *_ = select(file.entries, (self.identity_name,), file.path)
        self._scope = str(entry.fields.get("scope"))
        self._header = header_name
        options = RunOptions(settings, deadline=_DEADLINE, lock_timeout=_DEADLINE)
        self._source = TokenSource(options, _LoggingObserver(), audit=audit_for(settings, "python"))

    def __repr__(self) -> str:
        return f"Credential({self.identity_name!r})"

    def token(self, min_ttl: float = _MIN_TTL) -> str:
        """A token that is valid for `min_ttl` seconds or longer, renewed first if needed.

        Raises:
            NoTokenError: there is none.

        """
        return self._access(min_ttl).token

    # Azure's client libraries: azure.core.credentials.TokenCredential and SupportsTokenInfo

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,  # noqa: ARG002  the protocol's; an identity has one tenant
        enable_cae: bool = False,  # noqa: ARG002  the protocol's
        **_: Any,
    ) -> AccessToken:
        """A token for Azure's client libraries.

        Args:
            scopes: the identity's own scope, or none.
            claims: of a challenge, which asks for a new token.
            tenant_id: without effect.
            enable_cae: without effect.

        Raises:
            ConfigurationError: another scope than the identity's.
            NoTokenError: there is no valid token.

        """
        return cast("AccessToken", self._azure_token(scopes, claims))

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """The same, as newer ones of these libraries ask for it."""
        return cast("AccessTokenInfo", self._azure_token(scopes, (options or {}).get("claims")))

    def _azure_token(self, scopes: tuple[str, ...], claims: str | None) -> _AzureToken:
        for scope in scopes:
            if resource_of(scope) != resource_of(self._scope):
                raise ConfigurationError(
                    f"{self.identity_name} has tokens for {self._scope}, not for {scope[:200]}",
                    hint="Add an identity with that scope.",
                )
        access = self._access(_MIN_TTL)
        if claims is not None:
            access = self._another(access.token) or access
        return _AzureToken(access)

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Credential:  # noqa: PYI034  typing has Self from 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    # requests: `auth=` is called with the request

    def __call__(self, request: _Request) -> _Request:
        """Put the token on a request of requests, or of another library that calls its `auth`."""
        plain: Any = request
        _check_encrypted(str(plain.url))
        sent = self._put(plain.headers, self._access(_MIN_TTL))
        if hasattr(plain, "register_hook"):
            origin = _origin(plain.url)
            plain.register_hook(
                "response", lambda response, **more: self._after(response, sent, origin, more)
            )
        return request

    def _after(self, response: Any, sent: str, origin: object, more: dict[str, Any]) -> Any:
        """A response of requests: the one after a renewal where that helped."""
        request = response.request
        if response.is_redirect:
            target = response.headers.get("Location", "")
            if _origin(target, response.url) != origin:  # requests itself minds Authorization alone
                request.headers.pop(self._header, None)
            return response
        same = _origin(request.url) == origin and request.headers.get(self._header) == sent
        body = request.body
        stream = not isinstance(body, (bytes, str, type(None)))  # it cannot be sent again
        if response.status_code != _UNAUTHORIZED or not same or stream:
            return response
        access = self._another(sent)
        if access is None:
            return response
        _ = response.content  # so that its connection is free again
        response.close()
        again = request.copy()
        again.hooks["response"] = []  # once
        self._put(again.headers, access)
        answer = response.connection.send(again, **more)
        answer.history.append(response)
        answer.request = again
        return answer

    # httpx: `auth=` is an httpx.Auth, by shape

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Also a subclass of the `Auth` of each httpx that is loaded: httpx asks for one.

        So asynchronous requests wait for a renewal without blocking their loop, and nothing of
        httpx is imported here.
        """
        loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
        return _also(tuple({each.Auth: None for each in loaded if each is not None}))

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """httpx: the request with the token, once more after a 401."""
        _check_encrypted(str(request.url))
        sent = self._put(request.headers, self._access(_MIN_TTL))
        response = yield request
        if _refused(request, response) and (access := self._another(sent)):
            self._put(request.headers, access)
            yield request

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The same without blocking the event loop: a renewal takes place in a thread."""
        from anyio.to_thread import run_sync  # httpx's own

        _check_encrypted(str(request.url))
        access = self._source.ready(self.identity_name, _MIN_TTL)
        if access is None:
            access = await run_sync(self._access, _MIN_TTL)
        sent = self._put(request.headers, access)
        response = yield request
        if _refused(request, response) and (new := await run_sync(self._another, sent)):
            self._put(request.headers, new)
            yield request

    def _access(self, min_ttl: float) -> ValidToken:
        access = self._source.get(self.identity_name, min_ttl)
        if access.kept is not None:
            left = int(access.expires_on - time.time())
            message = "%s: not renewed, the token expires in %d s: %s"
            _log.warning(message, self.identity_name, left, access.kept.message)
        return access

    def _another(self, refused: str) -> ValidToken | None:
        """Another token than the one in this header, where there is one."""
        return self._source.replaced(self.identity_name, refused.removeprefix("Bearer "))

    def _put(self, headers: Any, access: ValidToken) -> str:
        headers[self._header] = value = f"Bearer {access.token}"
        return value


@functools.cache
def _also(bases: tuple[type, ...]) -> type:
    return type("Credential", (Credential, *bases), {}) if bases else Credential


class _LoggingObserver(Observer):
    def warn(self, message: str) -> None:
        _log.warning("%s", message)


def _refused(request: Any, response: Any) -> bool:
    """Whether a request of httpx was refused by the server that it was meant for."""
    if response.status_code != _UNAUTHORIZED or _origin(str(response.url)) != _origin(
        str(request.url)
    ):
        return False
    try:
        _ = request.content  # a stream has gone: it cannot be sent again
    except RuntimeError:
        return False
    return True


def _origin(url: str, base: str = "") -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(urljoin(base, url))
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:  # a server's Location can hold anything
        return "", None, None
    return parts.scheme, parts.hostname, port


def _check_encrypted(url: str) -> None:
    """Refuse to send a token over a network in the clear."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ConfigurationError(
            f"no token is sent to {parts.scheme}://{parts.hostname}: it is not encrypted",
            hint="Use https.",
        )
