/**
 * An ingest host of Snowpipe Streaming that takes every row, keeps none, and says at once that all is committed.
 *
 * Opening a channel forgets what came since it was opened with an offset. `GET /last` tells when the last rows came (milliseconds since 1970), and up to which
 * offset; with the option `looksInto` also of how many rows a status was answered that says they are committed, and `GET /told` when that was, and the rows' commit times.
 */
import * as Schema from "effect/Schema"
import { createServer, type IncomingMessage } from "node:http"
import { gunzipSync, zstdDecompressSync } from "node:zlib"
import * as Slot from "./Slot.ts"

const { looksInto } = Slot.options(Schema.Struct({ looksInto: Schema.Boolean }))

const committed = new Map<string, string>()
/** Offsets that channels were opened with. */
const given = new Map<string, string>()
let last = { at: 0, offset: "" }

/** Commit times, by channel, of rows that nobody has been told of yet. */
const untold = new Map<string, Array<number>>()
/** Of rows that the sink was told of: when they were committed, and when that was told. */
let told: { readonly committed: Array<number>; readonly at: Array<number> } = { committed: [], at: [] }

const now = (): number => performance.timeOrigin + performance.now()

const body = async (request: IncomingMessage): Promise<Buffer> => {
  const parts: Array<Buffer> = []
  for await (const part of request) parts.push(part as Buffer) // no encoding is set
  return Buffer.concat(parts)
}

const decoded = (bytes: Buffer, encoding: string | undefined): Buffer =>
  encoding === "zstd" ? zstdDecompressSync(bytes) : encoding === "gzip" ? gunzipSync(bytes) : bytes

const timeName = "\"_ETL_COMMIT_TIME\":\""

/** `2026-01-31 23:59:59.123456` in milliseconds since 1970. */
const millis = (text: string): number => {
  const [, seconds = "", fraction = "0"] = /^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:(\.\d+))?/.exec(text) ?? []
  const at = Date.parse(`${seconds.replace(" ", "T")}Z`) + Number(fraction) * 1000
  if (Number.isNaN(at)) throw new Error("a row's commit time can't be read")
  return at
}

const lookInto = (channel: string, rows: Buffer): void => {
  const times = untold.get(channel) ?? []
  untold.set(channel, times)
  for (let at = rows.indexOf(timeName); at >= 0; at = rows.indexOf(timeName, at + timeName.length)) {
    const from = at + timeName.length
    times.push(millis(rows.toString("latin1", from, rows.indexOf("\"", from))))
  }
}

/** The sink is being told that everything of a channel is committed. */
const tell = (channel: string): void => {
  const times = untold.get(channel)
  if (times === undefined || times.length === 0) return
  const at = now()
  for (const time of times) {
    told.committed.push(time)
    told.at.push(at)
  }
  untold.delete(channel)
}

const status = (name: string, at: string) => ({
  channel_name: name,
  channel_status_code: "SUCCESS",
  last_committed_offset_token: committed.get(at) ?? null,
  rows_error_count: 0
})

const channelOf = (path: string): string => decodeURIComponent(/\/channels\/([^/]+)/.exec(path)?.[1] ?? "")
const key = (path: string): string => `${/\/pipes\/([^/:]+)/.exec(path)?.[1] ?? ""} ${channelOf(path)}`

const answer = async (request: IncomingMessage): Promise<object> => {
  const url = new URL(request.url ?? "/", "http://localhost")
  if (url.pathname.endsWith("/rows")) {
    if (looksInto) {
      lookInto(key(url.pathname), decoded(await body(request), request.headers["content-encoding"]))
    } else {
      request.resume()
      await new Promise((resolve) => request.once("end", resolve))
    }
    const end = url.searchParams.get("endOffsetToken") ?? ""
    committed.set(key(url.pathname), end)
    if (end > last.offset) last = { at: now(), offset: end }
    return { next_continuation_token: "next" }
  }
  if (request.method === "GET") {
    return url.pathname === "/told" ? told : { ...last, told: told.at.length }
  }
  const asked = (await body(request)).toString("utf8")
  if (url.pathname.endsWith(":bulk-channel-status")) {
    const { channel_names } = JSON.parse(asked) as { readonly channel_names: ReadonlyArray<string> } // our own sink's
    const pipe = /\/pipes\/([^/:]+)/.exec(url.pathname)?.[1] ?? ""
    for (const name of channel_names) tell(`${pipe} ${name}`)
    return {
      channel_statuses: Object.fromEntries(channel_names.map((name) => [name, status(name, `${pipe} ${name}`)]))
    }
  }
  if (request.method === "PUT") {
    const { offset_token } = JSON.parse(asked) as { readonly offset_token?: string } // the same
    const at = key(url.pathname)
    if (offset_token !== undefined) given.set(at, offset_token)
    const begin = given.get(at)
    if (begin === undefined) committed.delete(at)
    else committed.set(at, begin)
    last = { at: 0, offset: "" }
    untold.delete(at)
    told = { committed: [], at: [] }
    return { next_continuation_token: "first", channel_status: status(channelOf(url.pathname), at) }
  }
  return {}
}

const server = createServer(async (request, response) => {
  const found = await answer(request)
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(found))
})
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.stdout.write(`ready ${typeof address === "object" && address !== null ? address.port : 0}\n`)
})
