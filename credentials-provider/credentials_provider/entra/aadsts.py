"""The AADSTS codes that a machine identity meets: cause, cure, and whether waiting helps.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

from typing import Literal, NamedTuple

# Cures that several rows share. Breadcrumbs are the portal's own labels.
NEW_SETUP = " If this was set up just now, wait a minute and run again."
STATUS_PAGE = "if it lasts, look at https://azure.status.microsoft."
_SET_TENANT = (
    "Set tenant_id to the Directory (tenant) ID from App registrations > (your app) > Overview."
)
_SET_CREDENTIAL = (
    "Give the identity exactly one credential: a client secret, a certificate, a federated token "
    "file or a managed identity."
)
SET_SCOPE = (
    'Set scope to "<Application ID URI>/.default"; the URI stands in App registrations > '
    "(the gateway's app) > Expose an API."
)
CHECK_ASSERTION = (
    "Check that client_id is right and that the certificate with this private key is in "
    "App registrations > (your app) > Certificates & secrets."
)
_CHECK_FEDERATION = (
    "Compare issuer, subject and audience of the federated token, letter by letter, with "
    "App registrations > (your app) > Certificates & secrets > Federated credentials."
)
CHECK_FIELDS = (
    "Run `credentials-provider identities check` and compare tenant_id, client_id and scope with "
    "the portal."
)
_ADD_PERMISSION = (
    "Add the API in App registrations > (your app) > API permissions, then click "
    "Grant admin consent."
)
CHECK_POLICY = (
    "Look up the policy in Entra ID > Sign-in logs > Service principal sign-ins, and allow this "
    "machine's outgoing address in its named locations."
)

Verdict = Literal["permanent", "transient", "new"]  # new: permanent, unless just set up


class Row(NamedTuple):
    """Codes that mean the same; cause and cure as in `explanations.Diagnosis`."""

    codes: tuple[int, ...]
    cause: str
    cure: str
    verdict: Verdict = "permanent"


ROWS = (
    # The credential
    Row(
        (7000215,),
        "the client secret is wrong: its Secret ID instead of its Value, or a secret that was "
        "deleted or has expired",
        "Give the secret's Value, not its Secret ID: `credentials-provider identities secret "
        "NAME`; a new one is made in App registrations > (your app) > Certificates & secrets.",
        "new",
    ),
    Row(
        (7000222,),
        "the client secret has expired",
        "Create a new client secret in App registrations > (your app) > Certificates & secrets, "
        "and give its Value to `credentials-provider identities secret NAME`.",
    ),
    Row((7000216, 7000218), "the request carried no credential", _SET_CREDENTIAL),
    Row(
        (700025,),
        "the app is registered as a public client, which may not present a credential",
        "In App registrations > (your app) > Authentication set Allow public client flows to No.",
    ),
    Row(
        (700027,),
        "the certificate is not registered for the app, has expired, or does not fit the signature",
        "Upload the certificate in App registrations > (your app) > Certificates & secrets, and "
        "compare its thumbprint with the identity's certificate file.",
    ),
    Row(
        (700024,),
        "the signed assertion is not valid at this time: the machine's clock is off, or the "
        "federated token file is old",
        "Synchronise this machine's clock (NTP), and check that whatever writes "
        "federated_token_file still renews it.",
        "transient",
    ),
    Row(
        (700030,),
        "the certificate's subject name or issuer is not authorised for the app",
        "Use a certificate whose subject name and issuer the app trusts, or upload this one in "
        "App registrations > (your app) > Certificates & secrets.",
    ),
    Row(
        (50012, 50027, 700021),
        "the signed assertion is invalid: wrong certificate, private key or client id",
        CHECK_ASSERTION,
    ),
    Row(
        (50048,),
        "the signed assertion is invalid: its subject and its issuer differ",
        CHECK_ASSERTION,
    ),
    Row(
        (70021,),
        "no federated credential of the app matches the federated token",
        _CHECK_FEDERATION,
        "new",
    ),
    Row(
        (700211,),
        "no federated credential of the app has the federated token's issuer",
        _CHECK_FEDERATION,
        "new",
    ),
    Row(
        (700212,),
        "no federated credential of the app has the federated token's audience",
        _CHECK_FEDERATION,
        "new",
    ),
    Row(
        (700213, 7002137),
        "no federated credential of the app has the federated token's subject",
        _CHECK_FEDERATION,
        "new",
    ),
    Row(
        (7002138,),
        "a federated credential of the app differs from the federated token in upper and lower "
        "case only",
        _CHECK_FEDERATION,
        "new",
    ),
    Row(
        (700229,),
        "the federated token was issued to a user, where one issued to an application is needed",
        "Have federated_token_file written by a workload (managed identity, service account), "
        "not by a user's sign-in.",
    ),
    # The application
    Row(
        (700016,),
        "the application was not found in this tenant",
        "Compare client_id and tenant_id with App registrations > (your app) > Overview.",
        "new",
    ),
    Row(
        (7000229,),
        "the application has no enterprise application (service principal) in this tenant",
        'Create it in this tenant: "az ad sp create --id <client_id>", or grant the app admin '
        "consent; it then shows in Enterprise applications.",
        "new",
    ),
    Row(
        (70001, 7000112),
        "the application is disabled in this tenant",
        "In Enterprise applications > (your app) > Properties set "
        "Enabled for users to sign-in to Yes.",
    ),
    # The tenant and the cloud
    Row(
        (90002,),
        "the tenant was not found in this cloud",
        "Compare tenant_id with App registrations > (your app) > Overview. If it is right, set "
        "cloud (usgov, china) to the tenant's own.",
    ),
    Row((900023,), "tenant_id is neither a GUID nor a domain of a tenant", _SET_TENANT),
    Row((50059, 50128, 90019), "the request names no tenant", _SET_TENANT),
    Row(
        (9001023, 50194, 90130),
        "the tenant is common, organizations or consumers, which machine identities cannot use",
        _SET_TENANT,
    ),
    Row(
        (900382, 900432, 90038),
        "the tenant belongs to another national cloud than the login host",
        "Set cloud (public, usgov, china) or login_base_url to the tenant's own.",
    ),
    # The scope and the API behind it
    Row((70011, 28002, 1002012), "the scope is malformed", SET_SCOPE),
    Row(
        (700022,),
        "the scope names several resources",
        "Set scope to one resource, and give every other API an identity entry of its own.",
    ),
    Row((700023,), "the scope names no resource", SET_SCOPE),
    Row(
        (901002,), "the request named a resource as v1 does, which this endpoint refuses", SET_SCOPE
    ),
    Row(
        (500011, 50001),
        "the API in scope does not exist in this tenant, or is disabled",
        "Compare scope with the Application ID URI in App registrations > (the gateway's app) > "
        "Expose an API, and check that tenant_id is that app's tenant.",
    ),
    Row(
        (500014,),
        "the API in scope is disabled in this tenant",
        "In Enterprise applications > (the gateway's app) > Properties set "
        "Enabled for users to sign-in to Yes.",
    ),
    Row(
        (650052,),
        "the organisation has not subscribed to the API in scope, or not enabled it",
        _ADD_PERMISSION,
    ),
    Row((650056, 650057), "the API in scope is not among the app's permissions", _ADD_PERMISSION),
    Row(
        (65001,),
        "the app has no admin consent for the API in scope",
        "In App registrations > (your app) > API permissions click Grant admin consent.",
        "new",
    ),
    Row(
        (501051,),
        "the API in scope requires an assignment, and the app has none",
        "In App registrations > (your app) > API permissions add one of the API's app roles as an "
        "application permission, then click Grant admin consent.",
    ),
    # The request
    Row(
        (900144, 90014, 90023, 9002313, 90013, 90100),
        "the request is malformed: a field of the identity is empty or misspelt",
        CHECK_FIELDS,
    ),
    Row(
        (90015,),
        "the request is too long: a field of the identity is far longer than it can be",
        CHECK_FIELDS,
    ),
    Row(
        (900561,),
        "something on the way changed the request: the login host got a GET instead of a POST",
        "Have the proxy pass HTTPS to the login host unchanged, and check the login host "
        "(--cloud, --login-base-url).",
    ),
    # Policies and regions
    Row(
        (53003, 530032),
        "a Conditional Access or security policy of the tenant blocks this identity",
        CHECK_POLICY,
    ),
    Row(
        (100007,),
        "the regional login endpoint does not serve this application",
        "Use the global login host: take the region out of login_base_url, and unset "
        "MSAL_FORCE_REGION.",
    ),
    # Load and faults
    Row(
        (50196,),
        "the same token was asked for too often in a short time, which Entra takes for a loop",
        "Stop whatever keeps asking, wait an hour, then renew with --refresh-ahead so that tokens "
        "are kept until they are due.",
        "transient",
    ),
    Row(
        (90055,),
        "the tenant is throttled: it made too many requests",
        "Wait some minutes and run again. Use --refresh-ahead so that only tokens that are due are "
        "asked for.",
        "transient",
    ),
    Row(
        (50033, 90006, 90024, 90090, 90033, 90012, 90091),
        "the provider has a temporary fault",
        f"Run again in a minute; {STATUS_PAGE}",
        "transient",
    ),
)
