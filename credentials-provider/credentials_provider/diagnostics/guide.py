"""Where the MCP Gateway Registry's set-up guide speaks of something."""

from __future__ import annotations

GUIDE = "https://github.com/agentic-community/mcp-gateway-registry/blob/main/docs/entra-id-setup.md"

IDS = f"{GUIDE}#step-2-note-your-application-ids"
SECRET = f"{GUIDE}#step-3-create-a-client-secret"
CONSENT = f"{GUIDE}#step-5-add-api-permissions"
CANNOT_CONSENT = f"{GUIDE}#issue-cannot-grant-admin-consent"
GRAPH_FORBIDDEN = f"{GUIDE}#issue-403-forbidden-when-using-iam-management-ui"
NO_GROUPS = f"{GUIDE}#issue-missing-email-and-groups-claims"
NO_ACCESS = f"{GUIDE}#issue-user-cannot-access-any-resources"
OVERAGE = f"{GUIDE}#issue-groups-overage-claim"
ISSUER = f"{GUIDE}#issue-token-validation-fails-with-invalid-issuer"
EXPOSE_API = f"{GUIDE}#step-11-configure-app-for-api-access-optional"
ENVIRONMENT = f"{GUIDE}#step-1-update-env-file"
MACHINES = f"{GUIDE}#step-5-test-machine-to-machine-m2m-authentication"
EXPIRED_SECRET = f"{GUIDE}#issue-client-secret-expired"

_BY_CODE = {
    **dict.fromkeys((7000215, 7000222), EXPIRED_SECRET),
    **dict.fromkeys((7000216, 7000218, 700025, 700027, 700024, 700030, 50012, 50048), SECRET),
    **dict.fromkeys((70021, 700211, 700213, 7002138, 700229), SECRET),
    **dict.fromkeys((700016, 7000229, 70001, 7000112, 90002, 900023, 50059, 50128, 90019), IDS),
    **dict.fromkeys((9001023, 50194, 90130, 900382, 900432, 90038), IDS),
    **dict.fromkeys((70011, 28002, 1002012, 700022, 700023, 500011, 50001, 500014), EXPOSE_API),
    **dict.fromkeys((650052, 650056, 650057, 501051), CONSENT),
    65001: CANNOT_CONSENT,
}


def about_code(code: int) -> str:
    """The guide's step for an AADSTS code; the part about machine identities where it has none."""
    return _BY_CODE.get(code, MACHINES)
