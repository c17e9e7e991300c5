/** Capabilities as objects of lists of operations by resource, under Ably's rules. Part of reauth.js. */

export const ALL = "*";

/** One operation, or a list of them, as a list. */
export function asList(operations) {
  return Array.isArray(operations) ? operations : [operations];
}

/** Read a capability from a JSON string or an object; null if `value` is neither. */
export function parseCapability(value) {
  const capability = typeof value === "string" ? parseJson(value) : value;
  if (!capability || typeof capability !== "object") return null;
  return Object.fromEntries(Object.entries(capability).map(([name, operations]) => [name, asList(operations)]));
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

/** The operations that `capability` allows on `resource`, which may be a pattern itself. */
function operationsOn(capability, resource) {
  const matching = Object.keys(capability).filter((pattern) => contains(pattern, resource));
  return new Set(matching.flatMap((pattern) => capability[pattern]));
}

/** Whether `capability` allows every one of `operations` on `resource`; only `*` allows `*`. */
export function covers(capability, resource, operations) {
  const granted = operationsOn(capability, resource);
  return granted.has(ALL) || operations.every((operation) => granted.has(operation));
}

/** Whether `capability` allows all that is requested; a requested `*` is allowed if any operation is. */
export function allows(capability, requested) {
  return Object.entries(requested).every(([resource, operations]) =>
    operations.includes(ALL) ? operationsOn(capability, resource).size > 0 : covers(capability, resource, operations),
  );
}

/** The part of `requested` that `capability` allows. */
export function allowedPart(requested, capability) {
  const parts = Object.entries(requested).map(([resource, operations]) => {
    return [resource, operations.filter((operation) => allows(capability, { [resource]: [operation] }))];
  });
  return Object.fromEntries(parts.filter(([, operations]) => operations.length));
}

/** Whether `pattern` contains everything that `resource` names. */
function contains(pattern, resource) {
  if (pattern === resource) return true;
  const [kind, segments] = split(pattern);
  const [otherKind, others] = split(resource);
  if (kind !== otherKind && kind !== ALL) return false;
  const last = segments.length - 1;
  if (others.length <= last || (others.length > segments.length && segments[last] !== ALL)) return false;
  return segments.every((segment, position) => segment === ALL || segment === others[position]);
}

/** The kind of a resource, `meta` in `[meta]log`, and the segments of its name. */
function split(resource) {
  const [, kind, name] = /^(?:\[([^\]]*)\])?(.*)$/s.exec(resource);
  return [kind ?? "", name.split(":")];
}

/** The value of a JSON string; undefined if it is not JSON. */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
