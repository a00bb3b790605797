"""What probes and Prometheus get from a service, whatever its clients do."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from credentials_provider.endpoint.answers import Answer
from credentials_provider.endpoint.server import Limits, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credentials_provider.endpoint.answers import Call

# A probe is served within milliseconds, so the oldest connection is one that is slow on purpose or
# has forgotten us. A renewal never lacks a file or a thread because of them.
LIMITS = Limits(most=8, patience=2.0, idle=None, evicts=True)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


@contextlib.contextmanager
def serving_health(
    addresses: Mapping[str, tuple[str, int]], pages: Mapping[str, Callable[[], Answer]]
) -> Iterator[list[str]]:
    """Answer GET and HEAD for the paths of `pages`, each made anew for its request.

    Gives the URLs, by the option that each address comes from.

    Raises:
        ConfigurationError: an address cannot be used.

    """
    with contextlib.ExitStack() as stack:
        urls = []
        for option, address in addresses.items():
            handle = partial(_answer, pages, address[0] in _LOOPBACK)
            server = serving(handle, lambda _: None, address=address, called=option, limits=LIMITS)
            urls.append(f"{stack.enter_context(server)}/")
        yield urls


def _answer(
    pages: Mapping[str, Callable[[], Answer]], on_loopback: bool, call: Call, _: int | None
) -> Answer | Callable[[], Answer]:
    """On loopback the request's Host must be loopback, too.

    A web page in a browser on this machine could otherwise read the answers (DNS rebinding).
    """
    host = call.headers.get("host", "")
    name, _colon, port = host.rpartition(":")
    if (
        on_loopback
        and (name if port.isdigit() and not name.endswith(":") else host) not in _LOOPBACK
    ):
        return _plain(403, "Forbidden")
    if call.method not in {"GET", "HEAD"}:
        return _plain(405, "Not Allowed")
    return pages.get(call.target.partition("?")[0]) or _plain(404, "Not Found")


def _plain(status: int, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode(), content_type="text/plain")
