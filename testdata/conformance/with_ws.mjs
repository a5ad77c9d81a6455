// What the library ws sees of the server, on a topic behind a token.
import WebSocket from "ws";

import { check, done, Follower, say, server, token } from "./common.mjs";

const url = `${server.replace("http", "ws")}/v1/ws?topic=closed/ws`;
const connect = (options) => new WebSocket(url, { headers: { Authorization: `Bearer ${token}` }, ...options });
const once = (ws, name) => new Promise((done) => ws.once(name, (...args) => done(args)));

async function follow() {
	const ws = connect({});
	const f = new Follower();
	let pings = 0;
	ws.on("message", (data) => f.take(data));
	ws.on("ping", () => pings++);
	await f.when(() => f.controls.length);
	check("hello", f.controls, ["hello"]);
	ws.send("hello");
	ws.send("");
	ws.send(Buffer.from([0, 255]));
	ws.send("a", { fin: false });
	ws.send("", { fin: false });
	ws.send("漢", { fin: true });
	ws.ping("payload");
	check("pong", String(await once(ws, "pong")), "payload");
	say("publish closed/ws 0 200");
	await f.when(() => f.next === 200);
	check("200 events", f.next, 200);
	await f.when(() => pings >= 2);
	check("pings", f.controls.filter((c) => c === "heartbeat").length >= 4, true);
	say("publish closed/ws 200 202");
	await f.when(() => f.next === 202);
	ws.close(4001, "bye");
	check("close", (await once(ws, "close"))[0], 1000);
}

async function broken(what, code, write) {
	const ws = connect({});
	await once(ws, "message");
	ws.on("error", () => {}); // the end says it all
	write(ws);
	check(what, (await once(ws, "close"))[0], code);
}

async function refused(what, status, options) {
	const ws = connect(options);
	const [, answer] = await once(ws, "unexpected-response");
	check(what, answer.statusCode, status);
	if (status === 426) check("version told", answer.headers["sec-websocket-version"], "13");
	answer.destroy();
}

await follow();
await broken("unmasked", 1002, (ws) => ws.send("hello", { mask: false }));
await broken("compressed without agreement", 1002, (ws) => ws._socket.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0])));
await broken("too large", 1009, (ws) => ws.send("x".repeat(70000)));
await broken("bad UTF-8", 1007, (ws) => ws.send(Buffer.from([0xff]), { binary: false }));
await broken("too many messages", 1008, (ws) => Array.from({ length: 200 }, () => ws.send("x")));
await refused("foreign origin", 403, { origin: "https://evil.example" });
await refused("wrong version", 426, { protocolVersion: 8 });
await refused("wrong key", 400, { finishRequest: (r) => r.setHeader("Sec-WebSocket-Key", "short").end() });
done();
