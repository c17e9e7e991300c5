/** Read the responses of an auth server: a token, or the error that it sent in place of one. Part of reauth.js. */

import { parseCapability, parseJson } from "./capability.js";

export const UNAVAILABLE = 50300;
const NO_TOKEN = 40170; // Ably's "error from client token callback"

/**
 * The auth server gave no token, or one that does not allow the requested capability.
 * It has the members of Ably's ErrorInfo: `message`, `code`, `statusCode`, `href`.
 */
export class AuthServerError extends Error {
  constructor(message, code, statusCode, options) {
    super(message, options);
    this.name = "AuthServerError";
    this.code = code;
    this.statusCode = statusCode;
    this.href = `https://help.ably.io/error/${code}`;
  }
}

/** The token in `response`, its capability and its client id. Throws AuthServerError for a response without a token. */
export async function readAnswer(response) {
  const type = (response.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  const text = await response.text().catch((cause) => {
    throw new AuthServerError(`the auth server's response ended early: ${cause.message}`, UNAVAILABLE, 503, { cause });
  });
  const json = type === "application/json" ? parseJson(text) : undefined;
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

/** The JWT in an answer; null if its token is not a JWT. */
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
