// A WebSocket client that we did not write: Node's own, with JSON. Logs in by REST, connects, sends, and waits for its entry.
// Usage: node --experimental-websocket node.mjs BASE NAME PASSWORD OTHER_ID TEXT
const [base, name, password, other, text] = process.argv.slice(2);
const login = await fetch(`${base}/v1/auth/login`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ name, password }),
});
const { access_token } = await login.json();

// The token travels as a subprotocol, as in a browser, where no header can be set.
const ws = new WebSocket(`${base.replace("http", "ws")}/v1/socket`, ["hubbub.v1.json", `hubbub.bearer.${access_token}`]);
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail("not in time"), 15_000).unref();
let ref = 0, room, cid = crypto.randomUUID(), acked = false, seen = false;
const call = (op, fields) => { ws.send(JSON.stringify({ op, ref: ++ref, ...fields })); return ref; };
let created, sent;
ws.onerror = (event) => fail(`error: ${event.message}`);
ws.onclose = (event) => process.exit(acked && seen && event.code === 1000 ? 0 : fail(`closed with ${event.code}`));
ws.onmessage = ({ data }) => {
  const push = JSON.parse(data);
  if (push.op === "error") fail(data);
  if (push.op === "hello") {
    if (ws.protocol !== "hubbub.v1.json") fail(`protocol ${ws.protocol}`);
    call("resume", { rooms: [], last: true });
  }
  if (push.op === "resumed") created = call("create", { kind: "direct", members: [other], cid: crypto.randomUUID() });
  if (push.op === "ok" && push.ref === created) sent = call("send", { room: (room = push.room), cid, text });
  if (push.op === "ok" && push.ref === sent) acked = push.seq;
  // What is said while a room is being caught up with comes in its pages.
  const entry = [push, ...(push.entries ?? [])].find((e) => e.cid === cid);
  if (entry) seen = entry.body.message.text === text;
  if (acked && seen) { console.log(JSON.stringify({ room, seq: acked })); ws.close(1000); }
};
