"""Sets a stage at the server whose URL is given: prints shell variables for scripts/schemathesis."""

import json
import sys
import urllib.request

URL = sys.argv[1]


def call(method, path, body=None, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def main():
    password = "correct horse battery staple"
    judge = call("POST", "/v1/auth/register", {"name": "judge", "password": password})
    last = call("POST", "/v1/auth/login", {"name": "judge", "password": password})
    other = call("POST", "/v1/auth/register", {"name": "other", "password": password})
    token = judge["access_token"]
    call("PUT", f"/v1/contacts/{other['user']}", token=token)
    call("PUT", f"/v1/contacts/{judge['user']}", token=other["access_token"])
    room = call("POST", "/v1/rooms", {"kind": "group", "name": "stage", "members": [other["user"]]}, token)["room"]
    for n in range(3):
        call("POST", f"/v1/rooms/{room}/messages", {"text": f"message {n}"}, token)
    code = call("POST", f"/v1/rooms/{room}/invites", {}, token)["code"]
    print(f"TOKEN={token}\nLAST_TOKEN={last['access_token']}\nUSER_ID={other['user']}\nROOM_ID={room}\nCODE={code}")


main()
