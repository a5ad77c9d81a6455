// What undici's WebSocket and EventSource see of the server, on public topics.
import diagnostics from "node:diagnostics_channel";

import { EventSource, WebSocket } from "undici";

import { check, done, Follower, say, server } from "./common.mjs";

const url = `${server.replace("http", "ws")}/v1/ws?topic=open/undici`;
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));

async function followSocket() {
	const ws = new WebSocket(url);
	const f = new Follower();
	let pings = 0;
	diagnostics.channel("undici:websocket:ping").subscribe(() => pings++);
	ws.onmessage = ({ data }) => f.take(data);
	await f.when(() => f.controls.length);
	check("hello", f.controls, ["hello"]);
	ws.send("hello 漢");
	ws.send("");
	ws.send(new Uint8Array(65536));
	say("publish open/undici 0 200");
	await f.when(() => f.next === 200);
	check("200 events", f.next, 200);
	await f.when(() => pings >= 2);
	check("pings", f.controls.filter((c) => c === "heartbeat").length >= 4, true);
	say("publish open/undici 200 202");
	await f.when(() => f.next === 202);
	ws.close(4001, "bye");
	const { code, wasClean } = await once(ws, "close");
	check("close", [code, wasClean], [1000, true]);
}

async function tooLarge() {
	const ws = new WebSocket(url);
	await once(ws, "message");
	ws.send("x".repeat(70000));
	check("too large", (await once(ws, "close")).code, 1009);
}

async function foreign() {
	const ws = new WebSocket(url, { headers: { Origin: "https://evil.example" } });
	ws.onopen = () => check("foreign origin", "it was let in", "");
	await once(ws, "error"); // which says no status, as in a browser
	check("foreign origin", ws.readyState === WebSocket.OPEN, false);
}

/** Resumes by itself, with Last-Event-ID, after the server was killed. */
async function followStream() {
	const source = new EventSource(`${server}/v1/stream?topic=open/source`);
	const f = new Follower();
	let opened = 0;
	source.onopen = () => opened++;
	source.addEventListener("control", ({ data }) => f.take(data));
	source.onmessage = ({ data, lastEventId }) => {
		f.take(data);
		if (lastEventId !== f.cursor) check("id", lastEventId, f.cursor);
	};
	await f.when(() => f.controls.length);
	say("publish open/source 0 200");
	await f.when(() => f.next === 200);
	say("restart");
	say("publish open/source 200 220");
	await f.when(() => f.next === 220);
	check("resume", [opened, f.controls.includes("reset")], [2, false]);
	source.close();
}

await followSocket();
await tooLarge();
await foreign();
await followStream();
done();
