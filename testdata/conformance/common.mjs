// What the programs have in common: how they speak with the test, as common.py.

export const [server, token] = process.argv.slice(2);

export const say = (line) => console.log(line);

export const text = (n) => (n % 100 === 50 ? "漢".repeat(20000) : `é漢字😀\u2028 ${n}`);

/** Checks what comes: controls, and events from a number on. */
export class Follower {
	controls = [];
	next = 0;
	cursor = "";
	#waiting = [];

	take(message) {
		const m = JSON.parse(message);
		if (m.control) {
			this.controls.push(m.control);
		} else {
			if (m.data.n !== this.next || m.data.text !== text(this.next)) fail(`event ${m.data.n} came, want ${this.next}`);
			this.next++;
			this.cursor = m.cursor;
		}
		this.#waiting = this.#waiting.filter(({ until, done }) => !until() || done());
	}

	/** Resolves when the claim has become true. */
	when(until) {
		return until() ? undefined : new Promise((done) => this.#waiting.push({ until, done }));
	}
}

export const fail = (why) => {
	console.error(why);
	process.exit(1);
};

export const check = (what, got, want) => {
	if (JSON.stringify(got) !== JSON.stringify(want)) fail(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
	say(`ok ${what}`);
};

/** Keeps the program alive until done: undici's timers do not. */
const limit = setTimeout(() => fail("it takes more than 60 s"), 60_000);

export const done = () => clearTimeout(limit);
