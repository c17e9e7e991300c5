/** The page's Ably client, its Reauthorizer, and the events of both for the panel. */

import { Reauthorizer } from "/ably/reauth.js";

/**
 * Events: `connection` (its state), `token` (the token may have changed), `ended` (the auth server answered 403), and
 * `happened` for everything that the time line shows.
 */
export class Client extends EventTarget {
  #sending = new Set();
  #reauthorized = 0;

  constructor(session) {
    super();
    this.reauth = new Reauthorizer("/ably/auth", {
      list: session.strategy === "client-stored",
      storage: sessionStorage,
      fetch: (...args) => this.#fetch(...args),
    });
    this.#watchRequests();
    this.realtime = this.reauth.bind(new Ably.Realtime({ ...session.options, ...this.reauth.clientOptions() }));
    this.#watchConnection();
  }

  get connection() {
    return this.realtime.connection;
  }

  get token() {
    return this.realtime.auth.tokenDetails ?? null;
  }

  /** A channel that begins with its last 50 messages. */
  channel(name) {
    const channel = this.realtime.channels.get(name, { params: { rewind: "50" }, attachOnSubscribe: false });
    channel.on((change) => {
      if (change.current === "attached" && !change.resumed) this.#happened("attached", { channel: name });
      if (change.current === "detached") this.#happened("detached", { channel: name });
      if (change.current === "failed") this.#happened("channel-failed", { channel: name, error: change.reason });
    });
    return channel;
  }

  /** Send one of the app's own requests; a capability that it grants is in effect when the promise resolves. */
  fetch(...args) {
    return this.reauth.fetch(...args);
  }

  /** Close the client. `forget`: also forget the list and the grant. */
  async stop({ forget = false } = {}) {
    this.realtime.close();
    // A response that is not here yet could set the session's cookie again.
    await Promise.allSettled(this.#sending);
    if (forget) this.reauth.clear();
  }

  async #fetch(...args) {
    const sent = fetch(...args);
    this.#sending.add(sent);
    try {
      const response = await sent;
      const checked = response.headers.get("Chat-Checked");
      if (checked) this.#happened("checked", { checked: JSON.parse(checked) });
      return response;
    } finally {
      this.#sending.delete(sent);
    }
  }

  #watchRequests() {
    for (const type of ["request", "granted", "denied", "failed", "refused"]) {
      this.reauth.addEventListener(type, ({ detail }) => this.#happened(type, detail));
    }
  }

  #watchConnection() {
    this.connection.on((change) => {
      const id = this.connection.id;
      if (change.previous === "connected" && change.current === "connected") {
        this.#reauthorized += 1;
        this.#happened("reauthorized", { id });
      } else if (["connected", "disconnected", "suspended", "failed", "closed"].includes(change.current)) {
        this.#happened(change.current, { id, error: change.reason });
      }
      this.#emit("connection", { state: change.current, id, reauthorized: this.#reauthorized });
      this.#emit("token");
      if (change.current === "failed" && change.reason?.statusCode === 403) this.#emit("ended", change.reason);
    });
  }

  #happened(what, detail) {
    this.#emit("happened", { what, ...detail });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
