// Drives ably-js as an app does, without help of ours: JSON commands by line on stdin, JSON answers on stdout.
import Ably from "ably";
import readline from "node:readline";

let realtime;
const events = [];
let watching = () => {};

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
  // A token through the REST client, and what Ably says it may do.
  async obtain({ options, params }) {
    const details = await new Ably.Rest(withCallback(options)).auth.requestToken(params ?? null, null);
    return { capability: JSON.parse(details.capability), clientId: details.clientId ?? null };
  },
  async connect({ options }) {
    realtime = new Ably.Realtime(withCallback(options));
    realtime.connection.on((change) => {
      events.push(change.current === change.previous ? "update" : change.current);
      watching();
    });
    await realtime.connection.whenState("connected");
    return { id: realtime.connection.id };
  },
  async authorize({ params, options }) {
    const details = await realtime.auth.authorize(params ?? undefined, options ?? undefined);
    return { capability: details.capability ? JSON.parse(details.capability) : null };
  },
  // Waits until the connection has said `event` that often.
  async until({ event, times }) {
    await new Promise((resolve) => {
      watching = () => events.filter((one) => one === event).length >= times && resolve();
      watching();
    });
    return {};
  },
  async attach({ channel }) {
    await realtime.channels.get(channel).attach();
    return {};
  },
  // Waits for a channel's state, and says why it is in it.
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
  const { command, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command](given);
  } catch (error) {
    answer = { error: { code: error.code, statusCode: error.statusCode, message: error.message ?? String(error) } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
