-- Change what is granted to one client, and return it: one atomic step.
--
-- KEYS[1] is a hash. A field is "<keyName> <resource>", its value a JSON list of operations.
-- ARGV: the hash's lifetime in ms; the number of API keys; their names, newest first; the number of resources
-- to add; each with its operations; the resources to release.
--
-- Releases come first, then adds. A release that a capability cannot express changes nothing, and the first
-- element of the answer is 1. What was granted under an older key moves to the newest. `parse` and `common`
-- compare resources as `Resource` does in capability/resources.py.

local ttl, names = ARGV[1], tonumber(ARGV[2])
local newest, ring = ARGV[3], {}
for i = 3, 2 + names do ring[ARGV[i]] = true end
local at = 3 + names
local releases = at + 1 + 2 * tonumber(ARGV[at])

local function union(one, other)
  if one == nil or one == other then return other end
  local seen, all = {}, {}
  for _, list in ipairs({cjson.decode(one), cjson.decode(other)}) do
    for _, operation in ipairs(list) do
      if operation == '*' then return '["*"]' end
      if not seen[operation] then
        seen[operation] = true
        all[#all + 1] = operation
      end
    end
  end
  table.sort(all)
  return cjson.encode(all)
end

local function parse(text)
  local name, qualifier = text, ''
  if name:sub(1, 1) == '[' then
    local close = name:find(']', 2, true)
    local question = name:find('?', 2, true)
    if close and question and question < close then
      local kept = name:sub(2, question - 1)
      name = name:sub(close + 1)
      if kept ~= '' then name = '[' .. kept .. ']' .. name end
    end
  end
  if name:sub(1, 1) == '[' then
    local close = name:find(']', 2, true)
    if close then qualifier, name = name:sub(2, close - 1), name:sub(close + 1) end
  end
  local segments = {}
  for segment in (name .. ':'):gmatch('([^:]*):') do segments[#segments + 1] = segment end
  return {qualifier = qualifier, segments = segments}
end

-- Whether two resources have anything in common, and whether `release` covers all of `target`.
local function common(release, target)
  local all = true
  if release.qualifier ~= target.qualifier then
    if target.qualifier == '*' then all = false
    elseif release.qualifier ~= '*' then return false end
  end
  local r, t = release.segments, target.segments
  local short = #r <= #t and r or t
  if #r ~= #t and short[#short] ~= '*' then return false end
  for i = 1, #short do
    if r[i] == '*' and i == #r then return true, all end
    if t[i] == '*' and i == #t then return true, false end
    if t[i] == '*' and r[i] ~= '*' then all = false
    elseif r[i] ~= '*' and r[i] ~= t[i] then return false end
  end
  return true, all
end

local granted, stored, moved = {}, {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local space = flat[i]:find(' ', 1, true)
  local name, resource = flat[i]:sub(1, space - 1), flat[i]:sub(space + 1)
  if ring[name] then
    granted[resource] = union(granted[resource], flat[i + 1])
    if name == newest then stored[resource] = flat[i + 1] else moved[#moved + 1] = flat[i] end
  end
end

local refused, left = 0, granted
if releases <= #ARGV then
  local exact, parsed = {}, {}
  for i = releases, #ARGV do
    exact[ARGV[i]] = true
    parsed[#parsed + 1] = parse(ARGV[i])
  end
  left = {}
  for resource, operations in pairs(granted) do
    local covered, partly = exact[resource], false
    if not covered then
      local target = parse(resource)
      for _, release in ipairs(parsed) do
        local any, all = common(release, target)
        if any and all then covered = true break elseif any then partly = true end
      end
    end
    if not covered then
      left[resource] = operations
      if partly then refused = 1 end
    end
  end
end

if refused == 0 then
  granted = left
  for i = at + 1, releases - 1, 2 do granted[ARGV[i]] = union(granted[ARGV[i]], ARGV[i + 1]) end
end

for resource, operations in pairs(granted) do
  if stored[resource] ~= operations then
    redis.call('HSET', KEYS[1], newest .. ' ' .. resource, operations)
  end
end
for resource in pairs(stored) do
  if not granted[resource] then redis.call('HDEL', KEYS[1], newest .. ' ' .. resource) end
end
for _, field in ipairs(moved) do redis.call('HDEL', KEYS[1], field) end
redis.call('PEXPIRE', KEYS[1], ttl)

local answer = {refused}
for resource, operations in pairs(granted) do
  answer[#answer + 1] = resource
  answer[#answer + 1] = operations
end
return answer
