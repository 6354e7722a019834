/**
 * An ingest host of Snowpipe Streaming that takes every row, keeps none, and says at once that all is committed.
 *
 * Opening a channel forgets what came since it was opened with an offset. A GET tells when the last rows came (milliseconds since 1970), and up to which offset.
 */
import * as Schema from "effect/Schema"
import { createServer, type IncomingMessage } from "node:http"
import * as Slot from "./Slot.ts"

const { port } = Slot.options(Schema.Struct({ port: Schema.Finite }))

const committed = new Map<string, string>()
/** Offsets that channels were opened with. */
const given = new Map<string, string>()
let last = { at: 0, offset: "" }

const status = (name: string, at: string) => ({
  channel_name: name,
  channel_status_code: "SUCCESS",
  last_committed_offset_token: committed.get(at) ?? null,
  rows_error_count: 0
})

const text = async (request: IncomingMessage): Promise<string> => {
  const parts: Array<Buffer> = []
  for await (const part of request) parts.push(part as Buffer) // no encoding is set
  return Buffer.concat(parts).toString("utf8")
}

const channelOf = (path: string): string => decodeURIComponent(/\/channels\/([^/]+)/.exec(path)?.[1] ?? "")
const key = (path: string): string => `${/\/pipes\/([^/:]+)/.exec(path)?.[1] ?? ""} ${channelOf(path)}`

const answer = async (request: IncomingMessage): Promise<object> => {
  const url = new URL(request.url ?? "/", "http://localhost")
  if (url.pathname.endsWith("/rows")) {
    request.resume()
    await new Promise((resolve) => request.once("end", resolve))
    const end = url.searchParams.get("endOffsetToken") ?? ""
    committed.set(key(url.pathname), end)
    if (end > last.offset) last = { at: performance.timeOrigin + performance.now(), offset: end }
    return { next_continuation_token: "next" }
  }
  if (request.method === "GET") return last
  const body = await text(request)
  if (url.pathname.endsWith(":bulk-channel-status")) {
    const { channel_names } = JSON.parse(body) as { readonly channel_names: ReadonlyArray<string> } // our own sink's
    const pipe = /\/pipes\/([^/:]+)/.exec(url.pathname)?.[1] ?? ""
    return {
      channel_statuses: Object.fromEntries(channel_names.map((name) => [name, status(name, `${pipe} ${name}`)]))
    }
  }
  if (request.method === "PUT") {
    const { offset_token } = JSON.parse(body) as { readonly offset_token?: string } // the same
    const at = key(url.pathname)
    if (offset_token !== undefined) given.set(at, offset_token)
    const begin = given.get(at)
    if (begin === undefined) committed.delete(at)
    else committed.set(at, begin)
    last = { at: 0, offset: "" }
    return { next_continuation_token: "first", channel_status: status(channelOf(url.pathname), at) }
  }
  return {}
}

const server = createServer(async (request, response) => {
  const found = await answer(request)
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(found))
})
server.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"))
