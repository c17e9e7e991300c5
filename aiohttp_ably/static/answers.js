/** The answers of an auth server, read into tokens and errors. Part of reauth.js. */

import { parseCapability, parsed } from "./capability.js";

export const UNAVAILABLE = 50300;
const NO_TOKEN = 40170; // Ably's "error from client token callback"

/** An auth server's refusal, in the terms of Ably's ErrorInfo: `message`, `code`, `statusCode`, `href`. */
export class AuthServerError extends Error {
  constructor(message, code, statusCode, options) {
    super(message, options);
    this.name = "AuthServerError";
    this.code = code;
    this.statusCode = statusCode;
    this.href = `https://help.ably.io/error/${code}`;
  }
}

/** The token in a response, with the capability and client id it has; throws what the server says in its place. */
export async function read(response) {
  const type = (response.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  const text = await response.text().catch((cause) => {
    throw new AuthServerError(`the answer of the auth server broke off: ${cause.message}`, UNAVAILABLE, 503, { cause });
  });
  const json = type === "application/json" ? parsed(text) : undefined;
  if (!response.ok) {
    const { message, code } = json?.error ?? {};
    const header = Number(response.headers.get("X-Ably-ErrorCode"));
    throw new AuthServerError(
      message ?? response.headers.get("X-Ably-ErrorMessage") ?? `the auth server answered with ${response.status}`,
      code ?? (header || response.status * 100),
      response.status,
    );
  }
  const value = json ?? (type === "application/jwt" || type === "text/plain" ? text.trim() : null);
  if (!value || !(typeof value === "string" || value.token || value.keyName)) {
    throw new AuthServerError(`the auth server answered with ${type || "no type"} and no token`, NO_TOKEN, 401);
  }
  const claims = claimsOf(jwtOf(value));
  return {
    value,
    capability: parseCapability(value.capability ?? claims["x-ably-capability"]) ?? {},
    clientId: value.clientId ?? claims["x-ably-clientId"] ?? null,
  };
}

/** The JWT in an answer, null where its token is none. */
export function jwtOf(value) {
  const token = typeof value === "string" ? value : value?.token;
  return token?.split(".").length === 3 ? token : null;
}

function claimsOf(jwt) {
  try {
    const base64 = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return {};
  }
}
