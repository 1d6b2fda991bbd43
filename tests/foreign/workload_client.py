"""A workload as somebody else would write it: the Python package `spiffe`, unmodified.

Fetches X.509- and JWT-SVIDs from $SPIFFE_ENDPOINT_SOCKET, verifies both against the bundles it is
given, and shows that what must be refused is refused. One JSON object on stdout; exit 0 when all
of it holds, 1 when something was wrong, 2 when there was nobody to ask.

    workload_client.py [AUDIENCE]
"""

import json
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from spiffe import JwtSvid, WorkloadApiClient
from spiffe.errors import ArgumentError, PySpiffeError

DEADLINE_S = 20


def main(audience: str) -> int:
    try:
        client = WorkloadApiClient(default_timeout=DEADLINE_S)
    except ArgumentError as error:
        return answer(2, error=str(error))
    try:
        with client:
            facts = x509_svid(client) | jwt_svid(client, audience)
    except PySpiffeError as error:
        return answer(2 if "UNAVAILABLE" in str(error) else 1, error=str(error))
    except (AssertionError, InvalidSignature, verification.VerificationError) as error:
        return answer(1, error=f"{type(error).__name__}: {error}")
    return answer(0, **facts)


def x509_svid(client: WorkloadApiClient) -> dict:
    context = client.fetch_x509_context()
    svid = context.default_svid
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    assert bundle is not None, "no bundle for the SVID's own trust domain"
    roots = list(bundle.x509_authorities)

    # Path to the bundle, as a TLS server with a strict Web-PKI verifier would walk it.
    verifier = (
        verification.PolicyBuilder().store(verification.Store(roots)).build_client_verifier()
    )
    verified = verifier.verify(svid.leaf, svid.cert_chain[1:])
    assert len(verified.chain) >= 2, "the leaf is its own root"

    # The key that came along is the certified one: it signs what the certificate verifies.
    signature = svid.private_key.sign(b"mine", ec.ECDSA(hashes.SHA256()))
    svid.leaf.public_key().verify(signature, b"mine", ec.ECDSA(hashes.SHA256()))

    names = svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [str(svid.spiffe_id)], f"URI names {uris}"

    # The bundle call answers the same authorities as the SVID call.
    alone = client.fetch_x509_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    assert alone == bundle, "the two calls disagree on the bundle"
    return {
        "spiffe_id": str(svid.spiffe_id),
        "serial": format(svid.leaf.serial_number, "x"),
        "lifetime_s": int(
            (svid.leaf.not_valid_after_utc - svid.leaf.not_valid_before_utc).total_seconds()
        ),
        "chain": len(verified.chain),
    }


def jwt_svid(client: WorkloadApiClient, audience: str) -> dict:
    token = client.fetch_jwt_svid({audience}).token
    unverified = JwtSvid.parse_insecure(token, {audience})
    bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(
        unverified.spiffe_id.trust_domain
    )
    assert bundle is not None, "no JWT bundle for the token's trust domain"

    # Here by the published key, there by the agent: both accept it.
    here = JwtSvid.parse_and_validate(token, bundle, {audience})
    there = client.validate_jwt_svid(token, audience)
    assert here.spiffe_id == there.spiffe_id

    # And both refuse it for somebody else, or with one bit of the signature turned.
    head, payload, signature = token.split(".")
    first = "B" if signature[0] == "A" else "A"
    turned = f"{head}.{payload}.{first}{signature[1:]}"
    refused = [
        ("another audience, here", lambda: JwtSvid.parse_and_validate(token, bundle, {"other"})),
        ("another audience, there", lambda: client.validate_jwt_svid(token, "other")),
        ("a turned bit, here", lambda: JwtSvid.parse_and_validate(turned, bundle, {audience})),
        ("a turned bit, there", lambda: client.validate_jwt_svid(turned, audience)),
    ]
    for what, attempt in refused:
        try:
            attempt()
        except PySpiffeError:
            continue
        raise AssertionError(f"accepted: {what}")
    return {
        "jwt_spiffe_id": str(here.spiffe_id),
        "jwt_audience": sorted(here.audience),
        "jwt_expires": here.expiry,
        "refused": [what for what, _ in refused],
    }


def answer(code: int, **facts) -> int:
    print(json.dumps(facts, sort_keys=True))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "foreign"))
