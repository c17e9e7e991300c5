// The life of a client at the emulator, with the real Ably JavaScript SDK: in Node.js or in a page.
//
//     node emulator_scenario.mjs '{"options": {...}, "authUrl": "...", "kinds": [...]}'
//
// prints what was seen as JSON; a page imports `run` and gives it the `Ably` of its script tag.

const wait = (what, state) =>
  what.state === state ? Promise.resolve() : new Promise((resolve) => what.once(state, resolve));

const codeOf = (promise) => promise.then(() => null, (error) => error.code);

async function live(Ably, { options, authUrl }, kind, binary, user) {
  const name = `${kind}-${binary ? 'msgpack' : 'json'}`;
  const seen = { name };
  const room = (number) => `${name}:${number}`;
  const authParams = (rooms, more) => ({ kind, user, rooms: rooms.map(room).join(','), ...more });
  const client = new Ably.Realtime({
    ...options, authUrl, authParams: authParams([1]), useBinaryProtocol: binary, logLevel: 0,
  });
  const authorize = (rooms, more) => client.auth.authorize(null, { authUrl, authParams: authParams(rooms, more) });
  const states = [];
  await wait(client.connection, 'connected');
  const id = client.connection.id;
  client.connection.on((change) => states.push(change.current));
  const [first, second, third] = [1, 2, 3].map((number) => client.channels.get(room(number)));

  const queue = [];
  let arrived = () => {};
  await first.subscribe((message) => { queue.push(message); arrived(); });
  await first.publish('greeting', { hello: 'world' });
  while (!queue.length) await new Promise((resolve) => { arrived = resolve; });
  seen.received = queue[0].data;
  seen.clientId = queue[0].clientId ?? null;

  seen.attach = await codeOf(second.attach());
  seen.attachState = second.state;
  seen.publish = await codeOf(third.publish('n', 'd'));
  const response = await client.request('GET', `/channels/${room(2)}/messages`, 3);
  seen.rest = [response.statusCode, response.errorCode];
  seen.history = await codeOf(second.history());

  await authorize([1, 2]);
  await second.attach();
  seen.upgraded = [first.state, second.state, client.connection.id === id, [...new Set(states)]];

  await authorize([1]);
  await wait(second, 'failed');
  seen.downgraded = [first.state, second.state, second.errorReason.code, client.connection.state];

  const cutOff = new Promise((resolve) => client.connection.once('disconnected', resolve));
  await authorize([1], { life: 5000 });
  await fetch(`${new URL(authUrl).origin}/advance?seconds=5`);
  seen.expired = (await cutOff).reason.code;
  await wait(client.connection, 'connected');
  await wait(first, 'attached');
  seen.renewed = client.connection.id === id;

  if (user) {
    seen.otherClient = await codeOf(authorize([1], { user: 'mallory' }));
    await wait(client.connection, 'failed');
    seen.failed = client.connection.errorReason.code;
  } else {
    client.close();
    await wait(client.connection, 'closed');
  }
  return seen;
}

async function pair(Ably, { options, authUrl }) {
  const make = (user, useBinaryProtocol) => new Ably.Realtime({
    ...options, authUrl, authParams: { kind: 'request', user, rooms: 'room' }, useBinaryProtocol, logLevel: 0,
  });
  const clients = [make('alice', true), make('bob', false)];
  const rooms = clients.map((client) => client.channels.get('room'));
  const members = [];
  const texts = rooms.map(() => []);
  const all = Promise.all(rooms.map(async (room, index) => {
    await room.attach();
    await new Promise((resolve) => {
      room.subscribe((message) => texts[index].push(`${message.clientId}: ${message.data}`) === 2 && resolve());
    });
  }));
  const saw = (action) => new Promise((resolve) => rooms[1].presence.subscribe(action, resolve));
  const [updated, left] = [saw('update'), saw('leave')];
  rooms[1].presence.subscribe((member) => members.push(`${member.clientId} ${member.action} ${member.data}`));
  await Promise.all(rooms.map((room) => room.attach()));
  await rooms[0].publish('text', 'hello');
  await rooms[1].publish('text', 'hi');
  await all;
  await rooms[0].presence.enter('online');
  await rooms[0].presence.update('away');
  await updated;
  const present = (await rooms[1].presence.get()).map((member) => `${member.clientId} ${member.data}`);
  await rooms[0].presence.leave();
  await left;
  const gone = saw('leave');
  await rooms[0].presence.enter('again');
  await rooms[0].detach();
  await gone;
  const remaining = (await rooms[1].presence.get()).length;
  await Promise.all(clients.map((client) => { client.close(); return wait(client.connection, 'closed'); }));
  return { texts, members, present, remaining };
}

export async function run(Ably, config) {
  const lives = [];
  for (const [kind, user] of config.kinds) {
    for (const binary of [true, false]) lives.push(await live(Ably, config, kind, binary, user));
  }
  return { lives, pair: await pair(Ably, config) };
}

if (typeof process !== 'undefined' && process.argv[1]?.endsWith('emulator_scenario.mjs')) {
  const { default: Ably } = await import('ably');
  console.log(JSON.stringify(await run(Ably, JSON.parse(process.argv[2]))));
  process.exit(0);
}
