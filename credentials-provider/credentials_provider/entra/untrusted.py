"""Why a TLS connection is not trusted: cause and cure of every reason of `transport.trust`."""

from __future__ import annotations

from credentials_provider.entra.diagnosis import Diagnosis

_NEW_CERTIFICATE = "Whoever runs {host}, or the proxy before it, must give it a new certificate."

UNTRUSTED = {
    "unknown_ca": Diagnosis(
        "the certificate of {host} is signed by an authority that this machine does not trust",
        "If your organisation's proxy inspects TLS, pass its CA certificate with --ca-bundle FILE; "
        "otherwise update this machine's CA certificates.",
    ),
    "self_signed": Diagnosis(
        "{host} shows a self-signed certificate",
        "If a proxy or an emulator of yours answers there, pass its certificate with "
        "--ca-bundle FILE; otherwise check {peer}.",
    ),
    "expired": Diagnosis(
        "the certificate of {host} has expired, or this machine's clock is ahead",
        "Check this machine's clock (NTP). If it is right, the host or the proxy before it needs "
        "a new certificate.",
    ),
    "not_yet_valid": Diagnosis(
        "the certificate of {host} is not valid yet, or this machine's clock is behind",
        "Synchronise this machine's clock (NTP) and run again.",
    ),
    "hostname": Diagnosis(
        "the certificate shown for {host} belongs to another host",
        "Check the spelling of {peer}, and that no proxy or captive portal answers in its place.",
    ),
    "other_key": Diagnosis(
        "the certificate of {host} was signed with another key than the authority of that name has",
        "The authority was probably renewed: get its present certificate, and pass it with "
        "--ca-bundle FILE.",
    ),
    "not_an_authority": Diagnosis(
        "the certificate of {host} is signed by one that is not an authority's (not a CA)",
        "Pass the certificate of the authority itself with --ca-bundle FILE. If it lacks "
        "basicConstraints CA:TRUE or the key usage Certificate Sign, it must be made anew.",
    ),
    "purpose": Diagnosis(
        "the certificate of {host} is not made for servers (key usage)", _NEW_CERTIFICATE
    ),
    "too_long": Diagnosis(
        "the chain of certificates of {host} is longer than one of its authorities allows",
        "Pass the last authority of the chain with --ca-bundle FILE, or have the chain made anew "
        "with a larger path length.",
    ),
    "revoked": Diagnosis("the certificate of {host} was revoked", _NEW_CERTIFICATE),
    "revocation_list": Diagnosis(
        "the certificate of {host} cannot be checked against a revocation list ({detail})",
        "Python does not ask for a list by itself: look for that in OpenSSL's configuration "
        "(OPENSSL_CONF), and renew the list that it names.",
    ),
    "other_names": Diagnosis(
        "the authority that signed the certificate of {host} may not sign for that name",
        "Check {peer}. If a proxy inspects TLS, its authority must be allowed to sign for this "
        "host (name constraints).",
    ),
    "weak": Diagnosis(
        "the certificate of {host}, or of its authority, has a weak key or signature ({detail})",
        "It must be made again, with RSA of 2048 bits or more and SHA-256.",
    ),
    "strict": Diagnosis(
        "a certificate of {host} breaks a rule that Python 3.13 and later check ({detail})",
        "Pass the authority that signed it with --ca-bundle FILE: certificates of an authority "
        "that you name are not held to these rules.",
    ),
    "malformed": Diagnosis("the certificate of {host} is malformed ({detail})", _NEW_CERTIFICATE),
    "proxy": Diagnosis(
        "the proxy on the way to {host} shows a certificate that this machine does not trust",
        "Pass the certificate of the proxy's authority with --ca-bundle FILE, or name the proxy "
        "with http:// in HTTPS_PROXY.",
    ),
    "client_certificate": Diagnosis(
        "{host} asks for a certificate of this machine (mutual TLS), which is not supported",
        "Check {peer}, and that no proxy answers in its place.",
    ),
    "protocol": Diagnosis(
        "{host} and this machine share no TLS version or cipher, or the port does not speak TLS",
        "Check host and port of {peer} and of HTTPS_PROXY; TLS 1.2 or newer is needed.",
    ),
    "other": Diagnosis(
        "no trusted TLS connection to {host} could be made ({detail})",
        "Check {peer}, this machine's clock, and --ca-bundle if a proxy inspects TLS.",
    ),
}
