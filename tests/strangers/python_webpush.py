"""Opens a Web Push request as a browser and a push service would, with implementations that are not ours.

Usage: python_webpush.py private_key auth_secret origin < request.json
request.json: {"body": hex, "authorization": text}. Prints what the browser reads and what the service is told, as JSON.
"""

import base64
import json
import sys

import http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils


def raw(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


private_key, auth_secret, origin = sys.argv[1:4]
request = json.load(sys.stdin)

key = ec.derive_private_key(int.from_bytes(raw(private_key), "big"), ec.SECP256R1())
plain = http_ece.decrypt(
    bytes.fromhex(request["body"]), private_key=key, auth_secret=raw(auth_secret), version="aes128gcm"
)

scheme, _, parameters = request["authorization"].partition(" ")
assert scheme == "vapid", scheme
fields = dict(part.strip().split("=", 1) for part in parameters.split(","))
head, claims, signature = fields["t"].split(".")
assert json.loads(raw(head))["alg"] == "ES256"
r, s = (int.from_bytes(half, "big") for half in (raw(signature)[:32], raw(signature)[32:]))
public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw(fields["k"]))
public.verify(utils.encode_dss_signature(r, s), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
claims = json.loads(raw(claims))
assert claims["aud"] == origin, claims

print(json.dumps({"plain": json.loads(plain), "claims": claims, "key": fields["k"]}))
