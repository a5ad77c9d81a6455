// What runs in a page: the browser's own WebSocket and EventSource. It is put
// into a function that is given the server's address, and returns these.
const text = (n) => (n % 100 === 50 ? "漢".repeat(20000) : `é漢字😀\u2028 ${n}`);
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));

/** Follows, and keeps what is wrong; next is the event that comes next. */
const follower = () => {
	const f = { next: 0, controls: [], wrong: "" };
	f.take = ({ data, lastEventId }) => {
		const m = JSON.parse(data);
		if (m.control) {
			f.controls.push(m.control);
		} else if (m.data.n !== f.next || m.data.text !== text(f.next) || (lastEventId && lastEventId !== m.cursor)) {
			f.wrong ||= `event ${m.data.n} came with the id ${lastEventId}, want ${f.next}`;
		} else {
			f.next++;
		}
	};
	f.when = async (claim) => {
		while (!claim() && !f.wrong) await new Promise((done) => setTimeout(done, 20));
		return f.wrong;
	};
	return f;
};

const socketURL = `${server.replace("http", "ws")}/v1/ws?topic=open/page`;
const socket = follower();
const stream = follower();
let ws, source;
let opened = 0;

return {
	/** Opens both and waits for their hellos. */
	async open() {
		ws = new WebSocket(socketURL);
		ws.onmessage = socket.take;
		source = new EventSource(`${server}/v1/stream?topic=open/page`);
		source.onopen = () => opened++;
		source.onmessage = stream.take;
		source.addEventListener("control", stream.take);
		return (await socket.when(() => socket.controls[0] === "hello")) || (await stream.when(() => stream.controls[0] === "hello"));
	},

	/** Sends what a page can, and waits until both have so many events. */
	async events(n) {
		for (const junk of ["hello 漢", "", new Uint8Array(65536), new Blob(["x"])]) ws.send(junk);
		return (await socket.when(() => socket.next === n)) || (await stream.when(() => stream.next === n));
	},

	/** Stays for two pings and more, which come with every fourth heartbeat. */
	async stay() {
		const beats = socket.controls.length + 10;
		const wrong = await socket.when(() => socket.controls.length >= beats);
		return wrong || (ws.readyState === WebSocket.OPEN ? "" : "it was cut");
	},

	async close() {
		ws.close(4001, "bye");
		const { code, wasClean } = await once(ws, "close");
		return code === 1000 && wasClean ? "" : `closed by ${code}`;
	},

	async tooLarge() {
		const other = new WebSocket(socketURL);
		await once(other, "message");
		other.send("x".repeat(70000));
		const { code } = await once(other, "close");
		return code === 1009 ? "" : `closed by ${code}`;
	},

	/** Waits until the stream, which was cut, has come back and has so many. */
	async resume(n) {
		const wrong = await stream.when(() => stream.next === n);
		return wrong || (opened === 2 && !stream.controls.includes("reset") ? "" : `opened ${opened} times, told ${stream.controls}`);
	},

	/** Tries both from a page that may not. */
	async foreign() {
		const other = new WebSocket(socketURL);
		const { code } = await once(other, "close");
		const refused = new EventSource(`${server}/v1/stream?topic=open/page`);
		await once(refused, "error");
		return code === 1006 && refused.readyState === EventSource.CLOSED ? "" : `closed by ${code}, the stream is in state ${refused.readyState}`;
	},
};
