/** Types of reauth.js. What it needs of an Ably client is named here, so that no version of ably-js is. */

export type Operations = string | string[];
export type Capability = Record<string, string[]>;

/** The code with which Ably and auth servers refuse what a capability does not allow: 40160. */
export const DENIED: 40160;

/** An auth server's refusal, in the terms of Ably's ErrorInfo. */
export class AuthServerError extends Error {
  constructor(message: string, code: number, statusCode: number, options?: { cause?: unknown });
  readonly name: "AuthServerError";
  readonly code: number;
  readonly statusCode: number;
  readonly href: string;
}

export interface ReauthorizerOptions {
  /** Sent with every auth request, beside what is asked; or a function that gives them. */
  params?: Record<string, unknown> | (() => Record<string, unknown> | Promise<Record<string, unknown>>);
  /** HTTP headers of every auth request; or a function that gives them, such as a bearer token that changes. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Hold the client's list here and send all of it every time, as the strategy ClientStored wants it. */
  list?: boolean;
  /** Where the list and the grant outlive the page: `sessionStorage`, say. In memory when left out. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /**
   * How a signed grant travels: in a "cookie" (the default), in the Ably-Grant "header" where there are no cookies,
   * or as the "token" itself, for a JWTCarrier.
   */
  grant?: "cookie" | "header" | "token";
  /** How long the auth server has to answer, in milliseconds: 10,000 when left out, as SDKs have it. */
  timeout?: number;
  /** The `fetch` to use in place of the global one. */
  fetch?: typeof fetch;
}

export interface ReauthorizerEvents {
  /** The auth server is asked. */
  request: { asked: Capability; dropped: string[]; strict: boolean };
  /** It answered with a token. */
  granted: { asked: Capability; capability: Capability };
  /** Part of what was asked is denied; `error` is there when it was asked strictly. */
  denied: { denied: Capability; error?: AuthServerError };
  /** It gave no token, for another reason. */
  failed: { error: Error };
  /** Ably refused an operation, which is about to be put right. */
  refused: { resource: string; operations: string[]; error: Error };
  /** A new token is in effect. */
  reauthorized: { capability: Capability; connectionId: string | undefined };
}

export class ReauthorizerEvent<T extends keyof ReauthorizerEvents> extends Event {
  readonly type: T;
  readonly detail: ReauthorizerEvents[T];
}

/** What is used of `Ably.Realtime` and `Ably.Rest`. */
export interface AblyClient {
  auth: { authorize(): Promise<unknown>; clientId: string; tokenDetails?: unknown };
  channels: { get(name: string): unknown };
}

/** What is used of a channel to run something on it again. */
export interface Guarded {
  readonly name: string;
}
export interface Attachable extends Guarded {
  attach(): Promise<unknown>;
}

/** Holds what one Ably client may do, and changes it; one request at a time. */
export class Reauthorizer extends EventTarget {
  constructor(url: string | URL, options?: ReauthorizerOptions);

  /** The options that make an Ably client get its tokens here. */
  clientOptions(): {
    authCallback(tokenParams: any, callback: (error: any, tokenRequestOrDetails: any) => void): void;
  };

  /** Say which client is kept authorized: the one made with `clientOptions()`. Returns it. */
  bind<C extends AblyClient>(client: C): C;

  /** What the client's token allows. */
  readonly capability: Capability;

  /** Whether the token allows `operations` on `resource`; `*`, the default, stands for any of them. */
  holds(resource: string, operations?: Operations): boolean;

  /**
   * Have `operations` on `resource`: asks for what the token lacks and resolves once a new one is in effect.
   * `*`, the default, asks for all that this client may have there. Rejects with the auth server's error
   * (AuthServerError) where it is denied, and then the ask is forgotten.
   */
  need(resource: string, operations?: Operations): Promise<void>;

  /** Give `resource` back; resolves once a token without it is in effect. */
  drop(resource: string): Promise<void>;

  /** Get a new token now, and put it into effect. */
  reauthorize(): Promise<void>;

  /** Forget the list and the grant, as when the user signs out. Sends nothing. */
  clear(): void;

  /**
   * What `run()` gives; where Ably refuses it with 40160, asks for `operations`, attaches the channel again if
   * that made it FAILED, and runs it once more.
   */
  guard<R>(channel: string | Guarded, operations: Operations, run: () => R | Promise<R>): Promise<R>;

  /** `channel.attach()`, guarded; asks for all there is, or for `operations`. */
  attach<C extends Attachable>(channel: C, operations?: Operations): ReturnType<C["attach"]>;

  /** `channel.publish(...)`, guarded. */
  publish<C extends Guarded & { publish(...args: any[]): Promise<any> }>(
    channel: C,
    ...args: any[]
  ): ReturnType<C["publish"]>;

  /** `channel.presence.enter(...)`, guarded. Attaches first. */
  enter(channel: Attachable & { presence: { enter(data?: any): Promise<void> } }, data?: any): Promise<void>;

  /**
   * `fetch` for the app's own requests: where the response says `Ably-Reauthorize`, what it changed is in effect
   * when this resolves. The response is given whether or not that worked; `failed` events tell.
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
