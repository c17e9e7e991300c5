// ably-js with the emulator, in Node.js or in a page: one client through all changes of its token, and two clients
// that exchange messages and presence.
//
//     node emulator_scenario.mjs '{"options": {...}, "authUrl": "...", "kinds": [...]}'
//
// prints the results as JSON. A page imports `run` and passes it the global `Ably` of its script tag.

const wait = (target, state) =>
  target.state === state ? Promise.resolve() : new Promise((resolve) => target.once(state, resolve));

const codeOf = (promise) => promise.then(() => null, (error) => error.code);

async function oneClient(Ably, { options, authUrl }, kind, binary, user) {
  const name = `${kind}-${binary ? 'msgpack' : 'json'}`;
  const result = { name };
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
  result.received = queue[0].data;
  result.clientId = queue[0].clientId ?? null;

  result.attach = await codeOf(second.attach());
  result.attachState = second.state;
  result.publish = await codeOf(third.publish('n', 'd'));
  const response = await client.request('GET', `/channels/${room(2)}/messages`, 3);
  result.rest = [response.statusCode, response.errorCode];
  result.history = await codeOf(second.history());

  await authorize([1, 2]);
  await second.attach();
  result.upgraded = [first.state, second.state, client.connection.id === id, [...new Set(states)]];

  await authorize([1]);
  await wait(second, 'failed');
  result.downgraded = [first.state, second.state, second.errorReason.code, client.connection.state];

  const disconnected = new Promise((resolve) => client.connection.once('disconnected', resolve));
  await authorize([1], { life: 5000 });
  await fetch(`${new URL(authUrl).origin}/advance?seconds=5`);
  result.expired = (await disconnected).reason.code;
  await wait(client.connection, 'connected');
  await wait(first, 'attached');
  result.renewed = client.connection.id === id;

  if (user) {
    result.otherClient = await codeOf(authorize([1], { user: 'mallory' }));
    await wait(client.connection, 'failed');
    result.failed = client.connection.errorReason.code;
  } else {
    client.close();
    await wait(client.connection, 'closed');
  }
  return result;
}

async function twoClients(Ably, { options, authUrl }) {
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
  const clients = [];
  for (const [kind, user] of config.kinds) {
    for (const binary of [true, false]) clients.push(await oneClient(Ably, config, kind, binary, user));
  }
  return { clients, pair: await twoClients(Ably, config) };
}

if (typeof process !== 'undefined' && process.argv[1]?.endsWith('emulator_scenario.mjs')) {
  const { default: Ably } = await import('ably');
  console.log(JSON.stringify(await run(Ably, JSON.parse(process.argv[2]))));
  process.exit(0);
}
