/** Requests to the chat's own server. */

/** An error whose message is shown to the user. */
export class ApiError extends Error {}

export async function api(method, path, { body, fetch: send = (...args) => fetch(...args) } = {}) {
  const init = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await send(path, init);
  } catch {
    throw new ApiError("The server does not answer. Is it still running?");
  }
  if (!response.ok) throw new ApiError(await response.text());
  return response.json();
}

/** Load ably-js from `address`; rejects with an ApiError that names it. */
export function loadSdk(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => {
      reject(
        new ApiError(
          `ably-js is missing: it could not be loaded from ${script.src}. Install the npm package "ably"` +
            " (for example: npm install, in tests/js) and start the demo again, or go online for Ably's CDN.",
        ),
      );
    };
    document.head.append(script);
  });
}
