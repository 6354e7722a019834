/**
 * The Lua scripts: each works on one key, so that it can be executed in a cluster, and in one step, so that nobody sees half of it.
 *
 * Each may be executed again when its answer was lost, as its writes are tied to versions that exist once; only a document's creation isn't.
 */
import { createHash } from "node:crypto"

export interface Script {
  readonly lua: string
  /** SHA-1 of `lua`, what EVALSHA names it by. */
  readonly sha: string
}

const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/**
 * ARGV: field, value, expected version (empty: none), new version. 1 when the new version is there, also when it was there before, and 0 when
 * another one is. A document is `<version> <value>`.
 */
export const compareAndSet = script(`
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = stored and string.match(stored, '^[^ ]*') or ''
if version == ARGV[4] then return 1 end
if version ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[2])
return 1
`)

/** ARGV: field, version. 1 when that version was there and is gone, else 0. */
export const removeVersion = script(`
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored or string.match(stored, '^[^ ]*') ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
`)

/** ARGV: prefix. The fields that begin with it, each with its document after it. Only this namespace's own fields are gone through. */
export const list = script(`
local found = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #ARGV[1]) == ARGV[1] then
    found[#found + 1] = field
    found[#found + 1] = redis.call('HGET', KEYS[1], field)
  end
end
return found
`)

/** Seconds and microseconds by the clock of the server that has the key. */
export const now = script(`
return redis.call('TIME')
`)

/** Writes and takes it back, to find out whether writing is possible at all. ARGV: field. */
export const probe = script(`
redis.call('HSET', KEYS[1], ARGV[1], '')
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
`)
