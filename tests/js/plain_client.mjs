// Drives ably-js without reauth.js: a JSON command in each line of stdin, its JSON result in a line of stdout.
import Ably from "ably";
import readline from "node:readline";

let realtime;
const events = [];
let onEvent = () => {};

async function callback(url, headers, method) {
  const response = await fetch(url, { headers, method });
  const text = await response.text();
  if (!response.ok) throw JSON.parse(text).error;
  return response.headers.get("content-type") === "application/json" ? JSON.parse(text) : text;
}

function withCallback({ callbackUrl, callbackHeaders, callbackMethod, ...options }) {
  if (!callbackUrl) return options;
  return {
    ...options,
    authCallback: (_params, done) =>
      callback(callbackUrl, callbackHeaders, callbackMethod).then(
        (token) => done(null, token),
        (error) => done(error, null),
      ),
  };
}

const commands = {
  // Gets a token with the REST client; returns the capability and client id that Ably gave it.
  async obtain({ options, params }) {
    const details = await new Ably.Rest(withCallback(options)).auth.requestToken(params ?? null, null);
    return { capability: JSON.parse(details.capability), clientId: details.clientId ?? null };
  },
  async connect({ options }) {
    realtime = new Ably.Realtime(withCallback(options));
    realtime.connection.on((change) => {
      events.push(change.current === change.previous ? "update" : change.current);
      onEvent();
    });
    await realtime.connection.whenState("connected");
    return { id: realtime.connection.id };
  },
  async authorize({ params, options }) {
    const details = await realtime.auth.authorize(params ?? undefined, options ?? undefined);
    return { capability: details.capability ? JSON.parse(details.capability) : null };
  },
  // Waits until the connection has emitted `event` so many `times`.
  async until({ event, times }) {
    await new Promise((resolve) => {
      onEvent = () => events.filter((name) => name === event).length >= times && resolve();
      onEvent();
    });
    return {};
  },
  async attach({ channel }) {
    await realtime.channels.get(channel).attach();
    return {};
  },
  // Waits for a state of the channel; returns the code of its error.
  async channel({ channel, state }) {
    const one = realtime.channels.get(channel);
    await one.whenState(state);
    return { code: one.errorReason?.code ?? null };
  },
  async state() {
    return { state: realtime.connection.state, id: realtime.connection.id, events };
  },
  async close() {
    realtime?.close();
    return {};
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { command, ...args } = JSON.parse(line);
  let result;
  try {
    result = await commands[command](args);
  } catch (error) {
    result = { error: { code: error.code, statusCode: error.statusCode, message: error.message ?? String(error) } };
  }
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
