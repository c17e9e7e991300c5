/**
 * The browser's half of an Ably auth server: asks for what a client needs, upgrades its live connection, and
 * puts right what Ably refuses with 40160. An ES module, with two beside it, for browsers and Node.js 18 and later;
 * no build step.
 *
 *     const reauth = new Reauthorizer("/ably/auth");
 *     const realtime = reauth.bind(new Ably.Realtime({ ...reauth.clientOptions() }));
 *     await reauth.need("chat:1", ["publish", "subscribe"]);
 *
 * It sends one request at a time, and calls made together share one.
 */

import { AuthServerError, UNAVAILABLE, jwtOf, read } from "./answers.js";
import { ALL, covers, kept, listed, meets, parseCapability, union, without } from "./capability.js";

export { AuthServerError };

/** The code with which Ably and auth servers refuse what a capability does not allow. */
export const DENIED = 40160;

const CHANNEL_FAILED = 90001; // "channel operation failed (invalid channel state)"
const FORBIDDEN = 403;
const GRANT = "Ably-Grant";

/** What happened, for those who want to show it; `detail` says it. */
export class ReauthorizerEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/**
 * Holds what one Ably client may do, and changes it. An EventTarget:
 *
 * - `request`: the auth server is asked (`asked`, `dropped`, `strict`)
 * - `granted`: it answered with a token (`asked`, `capability`)
 * - `denied`: part of an ask is denied (`denied`, and `error` where the server gave one)
 * - `failed`: it gave no token for another reason (`error`)
 * - `refused`: Ably refused an operation, which is about to be put right (`resource`, `operations`, `error`)
 * - `reauthorized`: a new token is in effect (`capability`, `connectionId`)
 */
export class Reauthorizer extends EventTarget {
  #url;
  #options;
  #client = null;
  #state = { clientId: undefined, list: {}, grant: null };
  #answered = {}; // the capability of the last answer
  #lastRequest = Promise.resolve();
  #calls = [];
  #running = false;
  #handover = null; // what authCallback gives to the authorize() that is under way

  constructor(url, options = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#options = { list: false, storage: null, grant: "cookie", timeout: 10000, ...options };
    if (!["cookie", "header", "token"].includes(this.#options.grant)) {
      throw new TypeError(`grant: ${this.#options.grant} is none of "cookie", "header" and "token"`);
    }
    this.#restore();
  }

  /** The options that make an Ably client get its tokens here. */
  clientOptions() {
    return { authCallback: (tokenParams, callback) => this.#authCallback(tokenParams, callback) };
  }

  /** Say which client is kept authorized: the one made with `clientOptions()`. Returns it. */
  bind(client) {
    this.#client = client;
    return client;
  }

  /** What the client's token allows: an object of lists of operations, by resource. */
  get capability() {
    return parseCapability(this.#client?.auth.tokenDetails?.capability) ?? structuredClone(this.#answered);
  }

  /** Whether the token allows `operations` on `resource`; `*` stands for any of them. */
  holds(resource, operations = ALL) {
    return meets(this.capability, { [resource]: listed(operations) });
  }

  /**
   * Have `operations` on `resource`: asks for what the token lacks and resolves once a new one is in effect.
   * `*` asks for all that this client may have there. Rejects with the auth server's error where it is denied.
   */
  async need(resource, operations = ALL) {
    return this.#call({ asked: { [named(resource)]: listed(operations) } });
  }

  /** Give `resource` back; resolves once a token without it is in effect. */
  async drop(resource) {
    return this.#call({ dropped: named(resource), forced: true });
  }

  /** Get a new token now, and put it into effect: what this client may do has changed. */
  reauthorize() {
    return this.#call({ forced: true });
  }

  /** Forget the list and the grant, as when the user signs out. Sends nothing. */
  clear() {
    this.#state = { clientId: undefined, list: {}, grant: null };
    this.#answered = {};
    this.#save();
  }

  /**
   * What `run()` gives; where Ably refuses it with 40160, asks for `operations`, attaches the channel again if
   * that made it FAILED, and runs it once more. `channel` is a channel, or the name of one.
   */
  async guard(channel, operations, run) {
    const resource = named(channel);
    try {
      return await run();
    } catch (error) {
      const attachable = typeof channel === "string" ? this.#client?.channels.get(channel) : channel;
      const failed = () => attachable?.state === "failed";
      const code = error?.code === CHANNEL_FAILED && failed() ? attachable.errorReason?.code : error?.code;
      if (code !== DENIED) throw error;
      this.#emit("refused", { resource, operations: listed(operations), error });
      await this.#call({ asked: { [resource]: listed(operations) }, forced: true });
      if (failed()) await attachable.attach();
      return await run();
    }
  }

  /** `channel.attach()`, guarded; asks for all there is, or for `operations`. */
  attach(channel, operations = ALL) {
    return this.guard(channel, operations, () => channel.attach());
  }

  /** `channel.publish(...)`, guarded. */
  publish(channel, ...args) {
    return this.guard(channel, "publish", () => channel.publish(...args));
  }

  /** `channel.presence.enter(...)`, guarded. Attaches first: nobody would hear why it cannot, and browsers complain. */
  enter(channel, ...args) {
    return this.guard(channel, "presence", async () => {
      await channel.attach();
      return channel.presence.enter(...args);
    });
  }

  /**
   * `fetch` for the app's own requests: where the response says `Ably-Reauthorize`, what it changed is in effect
   * when this resolves. The response is given whether or not that worked; `failed` events tell.
   */
  async fetch(input, init) {
    const base = globalThis.location?.href ?? this.#url;
    const request = new Request(input instanceof Request ? input : new URL(input, base), init);
    const ours = new URL(request.url).origin === new URL(this.#url).origin;
    if (ours && this.#sendsGrant) request.headers.set(GRANT, this.#state.grant ?? "");
    const response = await this.#fetch(request);
    if (ours) this.#keepGrant(response.headers);
    const state = this.#client?.connection?.state;
    if (response.headers.has("Ably-Reauthorize") && this.#client && !["closing", "closed", "failed"].includes(state)) {
      const done = this.reauthorize().catch(() => {});
      if (state === undefined || state === "connected") await done;
    }
    return response;
  }

  // -- calls: what is asked of us, some of it together ---------------------------------------------------------

  #call({ asked = {}, dropped = null, forced = false }) {
    if (!this.#client) return Promise.reject(new TypeError("bind(client) first: there is no client to authorize"));
    return new Promise((resolve, reject) => {
      this.#calls.push({ asked, dropped, forced, resolve, reject });
      if (!this.#running) this.#run();
    });
  }

  async #run() {
    this.#running = true;
    await null; // lets calls made together come together
    while (this.#calls.length) {
      const batch = this.#nextBatch();
      await this.#perform(batch).catch((error) => batch.forEach((call) => call.reject(error)));
    }
    this.#running = false;
  }

  /** The calls that go into the next request: those up to one that gives back what another asks for. */
  #nextBatch() {
    const dropped = new Set();
    const asked = new Set();
    let count = 0;
    for (const call of this.#calls) {
      const names = Object.keys(call.asked);
      if (asked.has(call.dropped) || names.some((name) => dropped.has(name))) break;
      if (call.dropped) dropped.add(call.dropped);
      for (const name of names) asked.add(name);
      count += 1;
    }
    return this.#calls.splice(0, count);
  }

  async #perform(batch) {
    const before = this.capability;
    const calls = batch.filter((call) => call.forced || !meets(before, call.asked));
    for (const call of batch) if (!calls.includes(call)) call.resolve();
    if (!calls.length) return;
    let decided;
    try {
      decided = await this.#decide(calls, before);
    } catch (error) {
      if (calls.length > 1 && (error.statusCode === 400 || error.statusCode === 413)) {
        for (const call of calls) await this.#perform([call]); // the fault of one is no other's
        return;
      }
      if (error.statusCode === FORBIDDEN) await this.#stop(error);
      for (const call of calls) call.reject(error);
      return;
    }
    try {
      await this.#apply({ value: decided.answer.value });
    } catch (error) {
      for (const call of calls) call.reject(error);
      return;
    }
    const capability = this.capability;
    for (const call of calls) {
      if (meets(capability, call.asked)) call.resolve();
      else call.reject(decided.denial ?? withheld(call.asked));
    }
  }

  /** The answer to `calls`. They ask strictly, so that a denial is an error; the denial of one is no other's. */
  async #decide(calls, before) {
    const asked = union(...calls.map((call) => call.asked));
    const dropped = calls.map((call) => call.dropped).filter(Boolean);
    const strict = Object.keys(asked).length > 0;
    let answer;
    let denial;
    try {
      answer = await this.#request({ asked, dropped, strict });
    } catch (error) {
      if (!strict || error.code !== DENIED) throw error;
      if (calls.length === 1 && !Object.keys(this.#state.list).length) {
        this.#emit("denied", { denied: asked, error });
        throw error;
      }
      denial = error;
      answer = await this.#request({ asked, dropped, denial });
    }
    if (strict && this.#narrowed(before, answer.capability, dropped)) {
      // Where the server alone decides, an ask can only narrow a token; without one it has all there is.
      const whole = await this.#request({});
      if (calls.every((call) => !meets(answer.capability, call.asked) || meets(whole.capability, call.asked))) {
        answer = whole;
      }
    }
    return { answer, denial };
  }

  #narrowed(before, after, dropped) {
    return Object.entries(before).some(
      ([resource, operations]) => !dropped.includes(resource) && !covers(after, resource, operations),
    );
  }

  /** Have the client take `handover` as its token, or as the reason why it gets none; settles with it. */
  async #apply(handover) {
    const { auth, connection } = this.#client;
    this.#handover = handover;
    let ended;
    try {
      const authorized = auth.authorize();
      const over = new Promise((_, reject) => {
        // authorize() itself does not settle when the connection is closed meanwhile.
        ended = (change) => reject(change.reason ?? new AuthServerError(`connection ${change.current}`, 80017, 400));
        connection?.on(["closing", "closed", "suspended"], ended);
      });
      await Promise.race([authorized, over]);
    } finally {
      this.#handover = null;
      connection?.off(ended);
    }
    this.#emit("reauthorized", { capability: this.capability, connectionId: connection?.id });
  }

  /** A refusal for good: the client must hear it, and stops. */
  async #stop(error) {
    if (["closing", "closed", "failed"].includes(this.#client.connection?.state)) return;
    await this.#apply({ error }).catch(() => {});
  }

  // -- requests: one at a time ---------------------------------------------------------------------------------

  #authCallback(tokenParams, callback) {
    const handover = this.#handover;
    this.#handover = null;
    if (handover) {
      callback(handover.error ?? null, handover.value ?? null);
      return;
    }
    this.#request({ tokenParams }).then(
      (answer) => callback(null, answer.value),
      (error) => callback(error, null),
    );
  }

  #request(what) {
    const request = this.#lastRequest.then(() => this.#send({ asked: {}, dropped: [], strict: false, ...what }));
    this.#lastRequest = request.catch(() => {});
    return request;
  }

  async #send({ asked, dropped, strict, tokenParams, denial }) {
    const state = this.#state;
    const wanted = union(parseCapability(tokenParams?.capability) ?? {}, without(state.list, dropped), asked);
    this.#emit("request", { asked: wanted, dropped, strict });
    let answer;
    try {
      const response = await this.#post(wanted, dropped, strict, tokenParams);
      answer = await read(response);
      this.#keepGrant(response.headers, answer.value);
    } catch (error) {
      if (!strict || error.code !== DENIED) this.#emit("failed", { error });
      throw error;
    }
    const stranger = state.clientId !== undefined && state.clientId !== answer.clientId;
    if (stranger && (Object.keys(state.list).length || state.grant !== null)) {
      this.clear(); // somebody else is signed in now: nothing is carried over
      return this.#send({ asked, dropped, strict, tokenParams, denial });
    }
    this.#state.clientId = answer.clientId;
    this.#answered = answer.capability;
    if (this.#options.list) this.#state.list = kept(union(without(state.list, dropped), asked), answer.capability);
    this.#save();
    this.#emit("granted", { asked: wanted, capability: answer.capability });
    const denied = Object.entries(wanted).filter(([name, named]) => !meets(answer.capability, { [name]: named }));
    if (denied.length) this.#emit("denied", { denied: Object.fromEntries(denied), error: denial });
    return answer;
  }

  async #post(wanted, dropped, strict, tokenParams) {
    const clientId = tokenParams?.clientId ?? this.#client?.auth.clientId;
    const body = { ...(await given(this.#options.params)) };
    if (clientId && clientId !== ALL) body.clientId = clientId;
    if (tokenParams?.ttl) body.ttl = tokenParams.ttl;
    if (Object.keys(wanted).length) body.capability = wanted;
    if (dropped.length) body.drop = dropped;
    const headers = new Headers(await given(this.#options.headers));
    headers.set("Accept", "application/json, application/jwt;q=0.9, text/plain;q=0.8");
    headers.set("Content-Type", "application/json");
    headers.set("Prefer", `handling=${strict ? "strict" : "lenient"}`);
    if (this.#sendsGrant) headers.set(GRANT, this.#state.grant ?? "");
    const signal = AbortSignal.timeout(this.#options.timeout);
    try {
      const init = { method: "POST", credentials: "include", cache: "no-store", headers, signal };
      return await this.#fetch(this.#url, { ...init, body: JSON.stringify(body) });
    } catch (cause) {
      throw new AuthServerError(`no answer from ${this.#url}: ${cause.message}`, UNAVAILABLE, 503, { cause });
    }
  }

  get #fetch() {
    return this.#options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  get #sendsGrant() {
    return this.#options.grant !== "cookie" || this.#state.grant !== null;
  }

  #keepGrant(headers, value) {
    const grant = headers.get(GRANT) ?? (this.#options.grant === "token" ? jwtOf(value) : null);
    if (grant === null || grant === this.#state.grant) return;
    this.#state.grant = grant;
    this.#save();
  }

  get #storageName() {
    return `aiohttp-ably:${this.#url}`;
  }

  #restore() {
    try {
      const { clientId, list, grant } = JSON.parse(this.#options.storage?.getItem(this.#storageName)) ?? {};
      this.#state = { clientId, list: parseCapability(list) ?? {}, grant: grant ?? null };
    } catch {
      // What is not ours to read counts as nothing held.
    }
  }

  #save() {
    try {
      this.#options.storage?.setItem(this.#storageName, JSON.stringify(this.#state));
    } catch {
      // A full or forbidden storage: what is held in memory serves until the page is left.
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new ReauthorizerEvent(type, detail));
  }
}

/** An option that may be a function, and async. */
async function given(option) {
  return typeof option === "function" ? await option() : option;
}

/** The resource that a channel or text names; channel params and filters are no part of it. */
function named(channel) {
  const name = typeof channel === "string" ? channel : channel?.name;
  if (!name) throw new TypeError("name a resource, such as 'chat:1', or give a channel");
  return name.replace(/^\[(?:filter=|\?)[^\]]*\]/, "");
}

function withheld(asked) {
  const text = JSON.stringify(asked);
  return new AuthServerError(`the token that was issued lacks part of ${text}; its API key may lack it`, DENIED, 401);
}
