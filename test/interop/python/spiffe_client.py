"""What a Python service does with py-spiffe against our agent. Prints one JSON document.

usage: spiffe_client.py SOCKET SPIFFE_ID ROTATIONS
"""

import json
import sys
import time

from spiffe import JwtSource, JwtSvid, SpiffeId, WorkloadApiClient, X509Source

WAIT_SECONDS = 60


def main(socket: str, wanted: str, rotations: int) -> dict:
    def pick(svids):
        return next(svid for svid in svids if str(svid.spiffe_id) == wanted)

    serials = []
    with X509Source(socket_path=socket, timeout_in_seconds=15, svid_picker=pick) as source:
        end = time.monotonic() + WAIT_SECONDS
        while len(serials) <= rotations and time.monotonic() < end:
            serial = format(source.svid.leaf.serial_number, "x")
            if serial not in serials:
                serials.append(serial)
            time.sleep(0.1)
        domain = source.svid.spiffe_id.trust_domain
        bundle = source.get_bundle_for_trust_domain(domain)
        authorities = len(bundle.x509_authorities)
        identity = str(source.svid.spiffe_id)
    with JwtSource(socket_path=socket, timeout_in_seconds=15) as tokens:
        svid = tokens.fetch_svid(audience={"interop"}, subject=SpiffeId(wanted))
        keys = tokens.get_bundle_for_trust_domain(domain)
        parsed = JwtSvid.parse_and_validate(svid.token, keys, {"interop"})
    with WorkloadApiClient(socket_path=socket) as client:
        validated = client.validate_jwt_svid(svid.token, "interop")
    return {
        "id": identity,
        "serials": serials,
        "authorities": authorities,
        "jwt_subject": str(parsed.spiffe_id),
        "validated": str(validated.spiffe_id),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
