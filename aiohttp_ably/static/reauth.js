/**
 * The client helper for ably-js: it requests capabilities, upgrades the live connection, and recovers from error
 * 40160. An ES module for browsers and Node.js 18 and later, without a build step. It imports two modules from the
 * same folder.
 *
 *     const reauth = new Reauthorizer("/ably/auth");
 *     const realtime = reauth.bind(new Ably.Realtime({ ...reauth.clientOptions() }));
 *     await reauth.need("chat:1", ["publish", "subscribe"]);
 *
 * It sends one auth request at a time. Calls that are made together share one request.
 */

import { AuthServerError, UNAVAILABLE, jwtOf, readAnswer } from "./answers.js";
import { ALL, allowedPart, allows, asList, covers, parseCapability, union, without } from "./capability.js";

export { AuthServerError };

/** The error code of an operation that a capability does not allow. */
export const DENIED = 40160;

const CHANNEL_FAILED = 90001; // "channel operation failed (invalid channel state)"
const ENDED = ["closing", "closed", "failed"]; // states of a connection
const FORBIDDEN = 403;
const GRANT = "Ably-Grant";

/** One step of a Reauthorizer; the members that its type has are in `detail`. */
export class ReauthorizerEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/**
 * Gets the tokens of one Ably client, and changes its capability while it is connected.
 *
 * Events, with the members of their `detail`:
 *
 * - `request`: a request is sent to the auth server (`requested`, `released`, `strict`)
 * - `granted`: the auth server answered with a token (`requested`, `capability`)
 * - `denied`: the auth server denied a part of the requested capability (`denied`, `error`)
 * - `failed`: the auth server gave no token; a denied strict request is `denied` instead (`error`)
 * - `refused`: Ably refused an operation with 40160, and `guard` requests what it needs (`requested`, `error`)
 * - `reauthorized`: a new token is in effect (`capability`, `connectionId`)
 *
 * reauth.d.ts describes each member.
 */
export class Reauthorizer extends EventTarget {
  #url;
  #options;
  #client = null;
  #state = { clientId: undefined, list: {}, grant: null };
  #lastCapability = {}; // that of the last token from the auth server
  #lastRequest = Promise.resolve();
  #calls = [];
  #running = false;
  #callbackResult = null; // for the authCallback of the authorize() that is running

  constructor(url, options = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#options = { list: false, storage: null, grant: "cookie", timeout: 10000, ...options };
    if (!["cookie", "header", "token"].includes(this.#options.grant)) {
      throw new TypeError(`grant: "${this.#options.grant}" must be one of "cookie", "header" and "token"`);
    }
    this.#restore();
  }

  /** Options for an Ably client, which then gets its tokens from this object. */
  clientOptions() {
    return { authCallback: (tokenParams, callback) => this.#authCallback(tokenParams, callback) };
  }

  /** Set the Ably client, which was made with `clientOptions()`. Returns `client`. */
  bind(client) {
    this.#client = client;
    return client;
  }

  /** The capability of the client's token: an object of lists of operations, by resource. */
  get capability() {
    return parseCapability(this.#client?.auth.tokenDetails?.capability) ?? structuredClone(this.#lastCapability);
  }

  /**
   * Whether the client's token allows `operations` on `resource`. `"*"`, the default, is allowed if any operation is.
   */
  allows(resource, operations = ALL) {
    return allows(this.capability, { [resource]: asList(operations) });
  }

  /**
   * Make sure that the client's token allows `operations` on `resource`. Sends nothing if the token allows them
   * already. Otherwise resolves when a new token is in effect. `"*"`, the default, requests all operations that the
   * client may have there. Rejects with AuthServerError if the auth server denies them; later requests do not repeat
   * them.
   */
  async need(resource, operations = ALL) {
    return this.#call({ requested: { [resourceOf(resource)]: asList(operations) } });
  }

  /** Release `resource`. Resolves when a token without it is in effect. */
  async drop(resource) {
    return this.#call({ released: resourceOf(resource), forced: true });
  }

  /** Get a new token. Resolves when it is in effect. */
  reauthorize() {
    return this.#call({ forced: true });
  }

  /** Forget the list and the grant, for example when the user signs out. Sends nothing. */
  clear() {
    this.#state = { clientId: undefined, list: {}, grant: null };
    this.#lastCapability = {};
    this.#save();
  }

  /**
   * Return the result of `run()`, and recover once from error 40160: request `operations` on `channel`, attach the
   * channel if it is FAILED, and call `run` again. `channel` is a channel or its name.
   */
  async guard(channel, operations, run) {
    const requested = { [resourceOf(channel)]: asList(operations) };
    try {
      return await run();
    } catch (error) {
      const attachable = typeof channel === "string" ? this.#client?.channels.get(channel) : channel;
      const isFailed = () => attachable?.state === "failed";
      const code = error?.code === CHANNEL_FAILED && isFailed() ? attachable.errorReason?.code : error?.code;
      if (code !== DENIED) throw error;
      this.#emit("refused", { requested, error });
      await this.#call({ requested, forced: true });
      if (isFailed()) await attachable.attach();
      return await run();
    }
  }

  /** `channel.attach()` under `guard`, which requests `operations`. */
  attach(channel, operations = ALL) {
    return this.guard(channel, operations, () => channel.attach());
  }

  /** `channel.publish(...)` under `guard`. */
  publish(channel, ...args) {
    return this.guard(channel, "publish", () => channel.publish(...args));
  }

  /** `channel.presence.enter(...)` under `guard`. Attaches the channel first. */
  enter(channel, ...args) {
    return this.guard(channel, "presence", async () => {
      await channel.attach(); // within `presence.enter` its error would become an unhandled rejection
      return channel.presence.enter(...args);
    });
  }

  /**
   * `fetch` for the app's own requests. If the response has `Ably-Reauthorize`, it gets a new token, which is in
   * effect on a connected client when the promise resolves. The promise does not reject if the auth server gives no
   * token; the event `failed` reports it.
   */
  async fetch(input, init) {
    const base = globalThis.location?.href ?? this.#url;
    const request = new Request(input instanceof Request ? input : new URL(input, base), init);
    const sameOrigin = new URL(request.url).origin === new URL(this.#url).origin;
    if (sameOrigin && this.#sendsGrant) request.headers.set(GRANT, this.#state.grant ?? "");
    const response = await this.#fetch(request);
    if (sameOrigin) this.#keepGrant(response.headers);
    const state = this.#client?.connection?.state;
    if (response.headers.has("Ably-Reauthorize") && this.#client && !ENDED.includes(state)) {
      const done = this.reauthorize().catch(() => {});
      if (state === undefined || state === "connected") await done;
    }
    return response;
  }

  // -- calls that wait for a new token -------------------------------------------------------------------------

  /** `forced`: get a new token even if the present one allows `requested`. */
  #call({ requested = {}, released = null, forced = false }) {
    if (!this.#client) {
      return Promise.reject(new TypeError("call bind(client) first: there is no client to authorize"));
    }
    return new Promise((resolve, reject) => {
      this.#calls.push({ requested, released, forced, resolve, reject });
      if (!this.#running) this.#run();
    });
  }

  async #run() {
    this.#running = true;
    await null; // calls made in the same turn of the event loop share the first request
    while (this.#calls.length) {
      const batch = this.#nextBatch();
      await this.#perform(batch).catch((error) => batch.forEach((call) => call.reject(error)));
    }
    this.#running = false;
  }

  /**
   * Take the calls that the next request can serve. They end before a call that releases a resource which an earlier
   * one requests, or requests one which an earlier one releases: in one request the order would be lost.
   */
  #nextBatch() {
    const released = new Set();
    const requested = new Set();
    let count = 0;
    for (const call of this.#calls) {
      const names = Object.keys(call.requested);
      if (requested.has(call.released) || names.some((name) => released.has(name))) break;
      if (call.released) released.add(call.released);
      for (const name of names) requested.add(name);
      count += 1;
    }
    return this.#calls.splice(0, count);
  }

  async #perform(batch) {
    const before = this.capability;
    const calls = batch.filter((call) => call.forced || !allows(before, call.requested));
    for (const call of batch) if (!calls.includes(call)) call.resolve();
    if (!calls.length) return;
    let obtained;
    try {
      obtained = await this.#obtain(calls, before);
    } catch (error) {
      if (calls.length > 1 && (error.statusCode === 400 || error.statusCode === 413)) {
        for (const call of calls) await this.#perform([call]); // only the malformed or too large one is to fail
        return;
      }
      if (error.statusCode === FORBIDDEN) await this.#failConnection(error);
      for (const call of calls) call.reject(error);
      return;
    }
    try {
      await this.#apply({ value: obtained.answer.value });
    } catch (error) {
      for (const call of calls) call.reject(error);
      return;
    }
    const capability = this.capability;
    for (const call of calls) {
      if (allows(capability, call.requested)) call.resolve();
      else call.reject(obtained.denial ?? missingCapabilityError(call.requested));
    }
  }

  /**
   * Get a token for `calls`. If a part of them was denied, `denial` is its error. The first request is strict, which
   * makes a denial an error. If other calls or the list can still be granted, a second request gets the token that
   * omits the denied part.
   */
  async #obtain(calls, before) {
    const requested = union(...calls.map((call) => call.requested));
    const released = calls.map((call) => call.released).filter(Boolean);
    const strict = Object.keys(requested).length > 0;
    let answer;
    let denial;
    try {
      answer = await this.#request({ requested, released, strict });
    } catch (error) {
      if (!strict || error.code !== DENIED) throw error;
      if (calls.length === 1 && !Object.keys(this.#state.list).length) {
        this.#emit("denied", { denied: requested, error });
        throw error;
      }
      denial = error;
      answer = await this.#request({ requested, released, denial });
    }
    if (strict && this.#lost(before, answer.capability, released)) {
      // With ServerDetermined a request narrows the token; one without a capability gets all of it.
      const whole = await this.#request({});
      const allowed = calls.filter((call) => allows(answer.capability, call.requested));
      if (allowed.every((call) => allows(whole.capability, call.requested))) answer = whole;
    }
    return { answer, denial };
  }

  /** Whether `after` lacks a part of `before` that was not released. */
  #lost(before, after, released) {
    return Object.entries(before).some(
      ([resource, operations]) => !released.includes(resource) && !covers(after, resource, operations),
    );
  }

  /** Run `authorize()`, whose authCallback gets `result`: a token in `value`, or an `error`. */
  async #apply(result) {
    const { auth, connection } = this.#client;
    this.#callbackResult = result;
    let onEnd;
    try {
      const authorized = auth.authorize();
      const ended = new Promise((_, reject) => {
        // ably-js does not settle authorize() if the connection is closed meanwhile.
        onEnd = (change) => reject(change.reason ?? new AuthServerError(`connection ${change.current}`, 80017, 400));
        connection?.on(["closing", "closed", "suspended"], onEnd);
      });
      await Promise.race([authorized, ended]);
    } finally {
      this.#callbackResult = null;
      connection?.off(onEnd);
    }
    this.#emit("reauthorized", { capability: this.capability, connectionId: connection?.id });
  }

  /** Make the connection FAILED after a 403 (RSA4d1). */
  async #failConnection(error) {
    if (ENDED.includes(this.#client.connection?.state)) return;
    await this.#apply({ error }).catch(() => {});
  }

  // -- requests to the auth server, one at a time --------------------------------------------------------------

  #authCallback(tokenParams, callback) {
    const result = this.#callbackResult;
    this.#callbackResult = null;
    if (result) {
      callback(result.error ?? null, result.value ?? null);
      return;
    }
    this.#request({ tokenParams }).then(
      (answer) => callback(null, answer.value),
      (error) => callback(error, null),
    );
  }

  /**
   * Request a token when the requests before this one are done. `tokenParams` are the SDK's; `denial` is the error of
   * a strict request before this one, for the `denied` event.
   */
  #request({ requested = {}, released = [], strict = false, tokenParams, denial }) {
    const request = this.#lastRequest.then(() => this.#send({ requested, released, strict, tokenParams, denial }));
    this.#lastRequest = request.catch(() => {});
    return request;
  }

  async #send({ requested: added, released, strict, tokenParams, denial }) {
    const state = this.#state;
    const list = union(without(state.list, released), added);
    const requested = union(parseCapability(tokenParams?.capability) ?? {}, list);
    this.#emit("request", { requested, released, strict });
    let answer;
    try {
      const response = await this.#post(requested, released, strict, tokenParams);
      answer = await readAnswer(response);
      this.#keepGrant(response.headers, answer.value);
    } catch (error) {
      if (!strict || error.code !== DENIED) this.#emit("failed", { error });
      throw error;
    }
    const isAnotherClient = state.clientId !== undefined && state.clientId !== answer.clientId;
    if (isAnotherClient && (Object.keys(state.list).length || state.grant !== null)) {
      this.clear();
      return this.#send({ requested: added, released, strict, tokenParams, denial });
    }
    this.#state.clientId = answer.clientId;
    this.#lastCapability = answer.capability;
    if (this.#options.list) this.#state.list = allowedPart(list, answer.capability);
    this.#save();
    this.#emit("granted", { requested, capability: answer.capability });
    const isDenied = ([name, operations]) => !allows(answer.capability, { [name]: operations });
    const denied = Object.fromEntries(Object.entries(requested).filter(isDenied));
    if (Object.keys(denied).length) this.#emit("denied", { denied, error: denial });
    return answer;
  }

  async #post(requested, released, strict, tokenParams) {
    const clientId = tokenParams?.clientId ?? this.#client?.auth.clientId;
    const body = { ...(await resolved(this.#options.params)) };
    if (clientId && clientId !== ALL) body.clientId = clientId;
    if (tokenParams?.ttl) body.ttl = tokenParams.ttl;
    if (Object.keys(requested).length) body.capability = requested;
    if (released.length) body.drop = released;
    const headers = new Headers(await resolved(this.#options.headers));
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
      // An entry that was not written here counts as nothing granted.
    }
  }

  #save() {
    try {
      this.#options.storage?.setItem(this.#storageName, JSON.stringify(this.#state));
    } catch {
      // The storage is full or forbidden: the list and the grant stay in memory until the page is left.
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new ReauthorizerEvent(type, detail));
  }
}

/** The value of an option that may be a function, sync or async. */
async function resolved(option) {
  return typeof option === "function" ? await option() : option;
}

/** The resource name of a channel, or of a channel name with params or a filter. */
function resourceOf(channel) {
  const name = typeof channel === "string" ? channel : channel?.name;
  if (!name) throw new TypeError("name a resource, for example 'chat:1', or pass a channel");
  return name.replace(/^\[(?:filter=|\?)[^\]]*\]/, "");
}

/** The error for a token that was issued and does not allow all of `requested`. */
function missingCapabilityError(requested) {
  const text = JSON.stringify(requested);
  const message = `the issued token does not allow all of ${text}; its API key may not allow it`;
  return new AuthServerError(message, DENIED, 401);
}
