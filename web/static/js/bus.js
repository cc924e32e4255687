// The socket: what the page wants to hear, and into the store with what comes. It subscribes again after each reconnect and
// keeps a count per topic, so that two panels may want the same one. Nothing else of the page knows Socket.IO.

import { io } from "socket.io-client";

const AGAIN_MS = 1000;

export class Bus {
  #socket;
  #store;
  #wanted = new Map();
  #onLink;
  link = "connecting"; // or "up", "down" (it tries again), "refused" (it does not)
  reason = "";

  constructor(store, onLink) {
    this.#store = store;
    this.#onLink = onLink;
    this.#socket = io({ transports: ["websocket", "polling"], withCredentials: true, reconnectionDelayMax: 3000 });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (reason) => {
      this.#say("down");
      // then the client would not try again by itself; the answer tells whether the login still counts
      if (reason === "io server disconnect") setTimeout(() => this.#socket.connect(), AGAIN_MS);
    });
    this.#socket.on("connect_error", (error) => this.#say(this.#socket.active ? "down" : "refused", error.message));
    for (const name of ["snapshot", "change"]) {
      this.#socket.on(name, ({ topic, data, published_ns: at }) => this.#store.put(topic, data, at ?? null));
    }
    this.#socket.on("gone", ({ topic }) => this.#store.drop(topic));
  }

  /** Wants these topics until the returned function is called. */
  want(topics) {
    const added = topics.filter((topic) => {
      this.#wanted.set(topic, (this.#wanted.get(topic) ?? 0) + 1);
      return this.#wanted.get(topic) === 1;
    });
    if (added.length && this.#socket.connected) this.#socket.emit("subscribe", { topics: added });
    let isWanted = true;
    return () => {
      if (!isWanted) return;
      isWanted = false;
      this.#release(topics);
    };
  }

  #release(topics) {
    const gone = topics.filter((topic) => {
      const left = this.#wanted.get(topic) - 1;
      if (left > 0) this.#wanted.set(topic, left);
      else this.#wanted.delete(topic);
      return left <= 0;
    });
    if (gone.length && this.#socket.connected) this.#socket.emit("unsubscribe", { topics: gone });
  }

  #connected() {
    const topics = [...this.#wanted.keys()];
    if (topics.length) this.#socket.emit("subscribe", { topics });
    this.#say("up");
  }

  #say(link, reason = "") {
    this.link = link;
    this.reason = reason;
    this.#onLink(link);
  }
}
