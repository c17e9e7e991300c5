/** Capabilities: objects of lists of operations, by resource, under Ably's rules. Part of reauth.js. */

export const ALL = "*";

export function listed(operations) {
  return Array.isArray(operations) ? operations : [operations];
}

/** A capability from JSON text or an object; null where there is none. */
export function parseCapability(value) {
  const capability = typeof value === "string" ? parsed(value) : value;
  if (!capability || typeof capability !== "object") return null;
  return Object.fromEntries(Object.entries(capability).map(([name, operations]) => [name, listed(operations)]));
}

export function union(...capabilities) {
  const all = new Map();
  for (const [name, operations] of capabilities.flatMap(Object.entries)) {
    const both = new Set([...(all.get(name) ?? []), ...operations]);
    all.set(name, both.has(ALL) ? [ALL] : [...both].sort());
  }
  return Object.fromEntries(all);
}

export function without(capability, names) {
  return Object.fromEntries(Object.entries(capability).filter(([name]) => !names.includes(name)));
}

/** The operations that `capability` allows on all that `resource` names, by Ably's rules for patterns. */
function allowed(capability, resource) {
  const matching = Object.keys(capability).filter((pattern) => contains(pattern, resource));
  return new Set(matching.flatMap((pattern) => capability[pattern]));
}

export function covers(capability, resource, operations) {
  const got = allowed(capability, resource);
  return got.has(ALL) || operations.every((operation) => got.has(operation));
}

/** Whether an ask is met; one for `*` is met by anything. */
export function meets(capability, asked) {
  return Object.entries(asked).every(([resource, operations]) =>
    operations.includes(ALL) ? allowed(capability, resource).size > 0 : covers(capability, resource, operations),
  );
}

/** The part of a list that a token carries. */
export function kept(list, capability) {
  const parts = Object.entries(list).map(([resource, operations]) => {
    return [resource, operations.filter((operation) => meets(capability, { [resource]: [operation] }))];
  });
  return Object.fromEntries(parts.filter(([, operations]) => operations.length));
}

function contains(pattern, resource) {
  if (pattern === resource) return true;
  const [kind, segments] = split(pattern);
  const [otherKind, others] = split(resource);
  if (kind !== otherKind && kind !== ALL) return false;
  const last = segments.length - 1;
  if (others.length <= last || (others.length > segments.length && segments[last] !== ALL)) return false;
  return segments.every((segment, position) => segment === ALL || segment === others[position]);
}

function split(resource) {
  const [, kind, name] = /^(?:\[([^\]]*)\])?(.*)$/s.exec(resource);
  return [kind ?? "", name.split(":")];
}

export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
