/**
 * Staged files over HTTP: the part of Google's storage that the driver's PUT speaks.
 *
 * An upload goes to a file beside its place, is synced, and is then renamed, so a staged file is whole or not there, and survives a kill once acknowledged.
 */
import { createWriteStream } from "node:fs"
import { mkdir, open, rename, rm, stat } from "node:fs/promises"
import type { IncomingMessage } from "node:http"
import { dirname, join, normalize, sep } from "node:path"
import { pipeline } from "node:stream/promises"
import type { Response } from "./Http.ts"

export interface Place {
  readonly dataDir: string
  /** The bearer token that PUT hands out. */
  readonly token: string
}

/** The file behind `/stage/<key>/<path>`; undefined when it would leave its stage. */
const fileOf = (place: Place, url: URL): string | undefined => {
  const [, , key, ...rest] = url.pathname.split("/").map(decodeURIComponent)
  const path = rest.join("/")
  if (key === undefined || key === "" || path === "" || /[/\\]|^\.+$/.test(key)) return undefined
  const folder = join(place.dataDir, "stages", key)
  const file = normalize(join(folder, path))
  return file.startsWith(folder + sep) ? file : undefined
}

const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

let uploads = 0

/** PUT, HEAD of one staged file. The request's body is read here. */
export const handle = async (request: IncomingMessage, url: URL, place: Place): Promise<Response> => {
  if (request.headers.authorization !== `Bearer ${place.token}`) return { status: 401, body: "" }
  const file = fileOf(place, url)
  if (file === undefined) return { status: 400, body: "" }
  if (request.method === "HEAD") {
    const facts = await stat(file).catch(() => undefined)
    if (facts === undefined) return { status: 404, body: "" }
    return { status: 200, headers: { "content-length": String(facts.size), "x-goog-meta-sfc-digest": "" }, body: "" }
  }
  if (request.method !== "PUT") return { status: 405, body: "" }
  await mkdir(dirname(file), { recursive: true })
  const part = `${file}.${process.pid}-${++uploads}.part`
  try {
    const announced = request.headers["content-length"]
    const out = createWriteStream(part, { flush: true })
    await pipeline(request, out)
    if (announced !== undefined && out.bytesWritten !== Number(announced)) return { status: 400, body: "" }
    await rename(part, file)
    await syncFolder(dirname(file))
    return { status: 200, headers: { etag: `"${out.bytesWritten}"` }, body: "" }
  } finally {
    await rm(part, { force: true })
  }
}
