/** Types of reauth.js. It declares the parts of ably-js that it uses, so that it imports no version of ably-js. */

export type Operations = string | string[];
export type Capability = Record<string, string[]>;

/** The error code of an operation that a capability does not allow: 40160. */
export const DENIED: 40160;

/**
 * The auth server gave no token, or one that does not allow the requested capability. It has the members of Ably's
 * ErrorInfo.
 */
export class AuthServerError extends Error {
  constructor(message: string, code: number, statusCode: number, options?: { cause?: unknown });
  readonly name: "AuthServerError";
  readonly code: number;
  readonly statusCode: number;
  readonly href: string;
}

export interface ReauthorizerOptions {
  /** Sent with every auth request: an object, or a function that returns one. Default: no params. */
  params?: Record<string, unknown> | (() => Record<string, unknown> | Promise<Record<string, unknown>>);
  /**
   * HTTP headers of every auth request, or a function that returns them, for example with the current bearer token.
   * Default: no headers.
   */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /**
   * True: keep the client's list of granted capabilities here, and send all of it with every auth request, which the
   * strategy ClientStored needs. Default: false, only what is new is sent.
   */
  list?: boolean;
  /**
   * Keeps the list and the grant, so that a later page can use them: for example `sessionStorage`, which is separate
   * for each tab. Default: both are lost with the page.
   */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /**
   * How a signed grant is kept and sent: "cookie", the default, is a cookie of the browser; "header" is the header
   * Ably-Grant, for clients without cookies; "token" sends the last JWT as the grant, for a JWTStore.
   */
  grant?: "cookie" | "header" | "token";
  /** Milliseconds that the auth server has to answer. After them a call fails with code 50300. Default: 10000. */
  timeout?: number;
  /** Used in place of the global `fetch`. */
  fetch?: typeof fetch;
}

/**
 * The events, with the members of their `detail`:
 *
 * - `requested`: the capability that is requested of the auth server
 * - `released`: the resources that the client releases
 * - `strict`: true if the auth server is to answer a denial with an error, not with a token that omits the denied part
 *   (`Prefer: handling=strict`)
 * - `capability`: what the new token allows
 * - `denied`: the requested part that the new token does not allow; after a strict request without a token, all that
 *   was requested
 * - `error`: the error of the auth server or of Ably; not set for a `denied` part of a request that was not strict
 * - `connectionId`: the id of the connection that uses the token; undefined for a REST client
 */
export interface ReauthorizerEvents {
  /** A request is sent to the auth server. */
  request: { requested: Capability; released: string[]; strict: boolean };
  /** The auth server answered with a token. */
  granted: { requested: Capability; capability: Capability };
  /** The auth server denied a part of the requested capability. */
  denied: { denied: Capability; error?: AuthServerError };
  /** The auth server gave no token; a denied strict request is `denied` instead. */
  failed: { error: Error };
  /** Ably refused an operation with 40160, and `guard` requests what it needs. */
  refused: { requested: Capability; error: Error };
  /** A new token is in effect. */
  reauthorized: { capability: Capability; connectionId: string | undefined };
}

export class ReauthorizerEvent<T extends keyof ReauthorizerEvents> extends Event {
  readonly type: T;
  readonly detail: ReauthorizerEvents[T];
}

/** The members of `Ably.Realtime` and `Ably.Rest` that are used. */
export interface AblyClient {
  auth: { authorize(): Promise<unknown>; clientId: string; tokenDetails?: unknown };
  channels: { get(name: string): unknown };
}

/** The member of a channel that `guard` uses. */
export interface Guarded {
  readonly name: string;
}
export interface Attachable extends Guarded {
  attach(): Promise<unknown>;
}

/** Gets the tokens of one Ably client, and changes its capability while it is connected. */
export class Reauthorizer extends EventTarget {
  constructor(url: string | URL, options?: ReauthorizerOptions);

  /** Options for an Ably client, which then gets its tokens from this object. */
  clientOptions(): {
    authCallback(tokenParams: any, callback: (error: any, tokenRequestOrDetails: any) => void): void;
  };

  /** Set the Ably client, which was made with `clientOptions()`. Returns `client`. */
  bind<C extends AblyClient>(client: C): C;

  /** The capability of the client's token. */
  readonly capability: Capability;

  /**
   * Whether the client's token allows `operations` on `resource`. `"*"`, the default, is allowed if any operation is.
   */
  allows(resource: string, operations?: Operations): boolean;

  /**
   * Make sure that the client's token allows `operations` on `resource`. Sends nothing if the token allows them
   * already. Otherwise resolves when a new token is in effect. `"*"`, the default, requests all operations that the
   * client may have there. Rejects with AuthServerError if the auth server denies them; later requests do not repeat
   * them.
   */
  need(resource: string, operations?: Operations): Promise<void>;

  /** Release `resource`. Resolves when a token without it is in effect. */
  drop(resource: string): Promise<void>;

  /** Get a new token. Resolves when it is in effect. */
  reauthorize(): Promise<void>;

  /** Forget the list and the grant, for example when the user signs out. Sends nothing. */
  clear(): void;

  /**
   * Return the result of `run()`, and recover once from error 40160: request `operations` on `channel`, attach the
   * channel if it is FAILED, and call `run` again. `channel` is a channel or its name.
   */
  guard<R>(channel: string | Guarded, operations: Operations, run: () => R | Promise<R>): Promise<R>;

  /** `channel.attach()` under `guard`, which requests `operations`: `"*"` by default. */
  attach<C extends Attachable>(channel: C, operations?: Operations): ReturnType<C["attach"]>;

  /** `channel.publish(...)` under `guard`. */
  publish<C extends Guarded & { publish(...args: any[]): Promise<any> }>(
    channel: C,
    ...args: any[]
  ): ReturnType<C["publish"]>;

  /** `channel.presence.enter(...)` under `guard`. Attaches the channel first. */
  enter(channel: Attachable & { presence: { enter(data?: any): Promise<void> } }, data?: any): Promise<void>;

  /**
   * `fetch` for the app's own requests. If the response has `Ably-Reauthorize`, it gets a new token, which is in
   * effect on a connected client when the promise resolves. The promise does not reject if the auth server gives no
   * token; the event `failed` reports it.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;

  addEventListener<T extends keyof ReauthorizerEvents>(
    type: T,
    listener: (event: ReauthorizerEvent<T>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<T extends keyof ReauthorizerEvents>(
    type: T,
    listener: (event: ReauthorizerEvent<T>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
