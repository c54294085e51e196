"""A WebSocket client that we did not write: Python's `websockets`, with MessagePack by `msgpack`.

Logs in by REST, connects, sends, and waits for its entry; a ping, fragments and a close handshake on the way.
Usage: python python_websockets.py BASE NAME PASSWORD OTHER_ID TEXT
"""
import asyncio
import json
import sys
import urllib.request
import uuid

import msgpack
import websockets

base, name, password, other, text = sys.argv[1:]


def login():
    body = json.dumps({"name": name, "password": password}).encode()
    request = urllib.request.Request(f"{base}/v1/auth/login", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["access_token"]


async def main():
    url = base.replace("http", "ws") + "/v1/socket"
    async with websockets.connect(url, subprotocols=["hubbub.v1.msgpack"]) as ws:
        assert ws.subprotocol == "hubbub.v1.msgpack", ws.subprotocol
        pushes = []

        async def ask(ref, op, **fields):
            await ws.send(msgpack.packb({"op": op, "ref": ref, **fields}))
            while True:
                push = msgpack.unpackb(await ws.recv())
                if push.get("ref") == ref:
                    assert push["op"] != "error", push
                    return push
                pushes.append(push)

        hello = await ask(1, "auth", token=login())
        assert hello["op"] == "hello" and hello["name"] == name, hello
        await ask(2, "resume", rooms=[], last=True)
        await (await ws.ping(b"are you there?"))
        room = (await ask(3, "create", kind="direct", members=[int(other)], cid=uuid.uuid4().bytes))["room"]
        cid = uuid.uuid4().bytes
        frame = msgpack.packb({"op": "send", "ref": 4, "room": room, "cid": cid, "text": text})
        # As fragments, which any client may send.
        await ws.send([frame[:7], frame[7:20], frame[20:]])
        sent = None
        while sent is None:
            push = msgpack.unpackb(await ws.recv())
            assert push["op"] != "error", push
            if push.get("ref") == 4:
                sent = push
            else:
                pushes.append(push)

        def mine(push):
            entries = push.get("entries", [push] if push["op"] == "entry" else [])
            return any(entry.get("cid") == cid and entry["body"]["message"]["text"] == text for entry in entries)

        while not any(mine(push) for push in pushes):
            pushes.append(msgpack.unpackb(await ws.recv()))
        print(json.dumps({"room": str(room), "seq": sent["seq"]}))
    assert ws.close_code == 1000, ws.close_code


asyncio.run(asyncio.wait_for(main(), 15))
