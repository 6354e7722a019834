/**
 * Stages: PUT, LIST and REMOVE, and where staged files are on disk.
 *
 * A stage's files lie in `<dataDir>/stages/<stage id>/<path>`. The driver uploads them over HTTP as it would to Google's storage (see StageFiles for that side);
 * PUT only tells it where to.
 */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { readdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import type { Stage, Table } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { splitPath } from "../sql/Cursor.ts"
import * as Types from "../sql/SnowflakeType.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** A place in a stage. */
export interface Location {
  readonly stageId: string
  /** Path inside the stage without leading slash, as written. */
  readonly path: string
  /** What LIST shows before the path: the stage's name in lower case. */
  readonly shown: string
  /** The stage, or the table whose stage it is; undefined for the user's own. */
  readonly of: Stage | Table | undefined
}

/** Reading or writing files: a table's stage is its owner's. */
export const requireAccess = (context: StatementContext, { of }: Location, access: "READ" | "WRITE"): void => {
  if (of !== undefined) Privileges.require(context, of, of.kind === "STAGE" ? access : "OWNERSHIP")
}

/** The location that `@[db.][schema.]stage[/path]`, `@~[/path]` or `@%table[/path]` means. */
export const locate = (context: StatementContext, text: string): Location => {
  const match = /^((?:"(?:[^"]|"")*"|[^/"])+)(?:\/(.*))?$/.exec(text)
  const name = match?.[1] ?? ""
  const path = (match?.[2] ?? "").replace(/^\/+/, "")
  if (path.split("/").includes("..")) throw SnowflakeError.invalidOption("A stage path can't go up.")
  if (name === "~") return { stageId: `user-${context.session.user}`, path, shown: "~", of: undefined }
  const table = /^(.*)%([^.]+)$/.exec(name)
  if (table !== null) {
    const found = Statement.requireTable(context, splitPath(`${table[1]}${table[2]}`))
    return { stageId: `table-${found.id}`, path, shown: `%${found.name.toLowerCase()}`, of: found }
  }
  const stage = Statement.requireStage(context, splitPath(name))
  return { stageId: `stage-${stage.id}`, path, shown: stage.name.toLowerCase(), of: stage }
}

export const folderOf = (dataDir: string, stageId: string): string =>
  join(dataDir, "stages", Buffer.from(stageId).toString("base64url"))

export interface StagedFile {
  /** Path inside the stage. */
  readonly name: string
  readonly file: string
  readonly size: number
  readonly modifiedAt: Date
}

/** Files of a stage whose path begins with `prefix`, by name. */
export const listFiles = async (
  dataDir: string,
  stageId: string,
  prefix: string
): Promise<ReadonlyArray<StagedFile>> => {
  const folder = folderOf(dataDir, stageId)
  // Only the folder that the prefix names: another table's files may be many, and come and go.
  const within = join(folder, prefix.slice(0, prefix.lastIndexOf("/") + 1))
  const entries = await readdir(within, { recursive: true, withFileTypes: true }).catch(() => [])
  const names = entries.filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((name) => name.startsWith(prefix))
    .sort()
  const files = await Promise.all(names.map((name) => findFile(dataDir, stageId, name)))
  // A file may have been removed since it was listed.
  return files.filter((file) => file !== undefined)
}

/** The file of this very name, when it is uploaded completely. */
export const findFile = async (dataDir: string, stageId: string, name: string): Promise<StagedFile | undefined> => {
  if (name.split("/").includes("..") || name.endsWith(".part")) return undefined
  const file = join(folderOf(dataDir, stageId), name)
  const facts = await stat(file).catch(() => undefined)
  return facts?.isFile() === true ? { name, file, size: facts.size, modifiedAt: facts.mtime } : undefined
}

/** The file's MD5, which is its etag. */
export const etagOf = async (file: string): Promise<string> => {
  const hash = createHash("md5")
  for await (const part of createReadStream(file)) hash.update(part)
  return hash.digest("hex")
}

export const io = <A>(body: () => Promise<A>): Run<A> =>
  Effect.tryPromise({
    try: body,
    catch: (cause) => SnowflakeError.internal(cause instanceof Error ? cause.message : String(cause))
  })

const option = (text: string, name: string): string | undefined =>
  new RegExp(`\\b${name}\\s*=\\s*(\\w+)`, "i").exec(text)?.[1]?.toUpperCase()

/** The source is a file URL, which isn't SQL, so PUT is read by pattern. */
const putPattern =
  /^\s*PUT\s+(?:'file:\/\/((?:[^'\\]|\\.)*)'|file:\/\/(\S+))\s+(?:'@([^']+)'|@(\S+?))\s*(?:;|\s+(.*?);?)?\s*$/is

export const isPut = (source: string): boolean => /^\s*PUT\s/i.test(source)

export const put = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const match = putPattern.exec(context.source)
    if (match === null) {
      return yield* SnowflakeError.syntax("syntax error: PUT file://<path> @<stage>[/<path>] [options]")
    }
    const source = match[1] ?? match[2] ?? ""
    const settings = match[5] ?? ""
    const location = yield* Statement.parse(() => {
      const unknown = settings.replaceAll(/\b(PARALLEL|AUTO_COMPRESS|SOURCE_COMPRESSION|OVERWRITE)\s*=\s*\w+/gi, "")
        .trim()
      if (unknown !== "") throw SnowflakeError.syntax(`syntax error: unexpected '${unknown.split(/\s/)[0]}'.`)
      const found = locate(context, (match[3] ?? match[4] ?? "").replace(/\/+$/, ""))
      requireAccess(context, found, "WRITE")
      return found
    })
    const key = folderOf("", location.stageId).split("/").pop() ?? ""
    return {
      kind: "PUT",
      typeId: Statement.typeIds.control,
      result: ResultRows.ofRows([], []),
      extra: {
        command: "UPLOAD",
        src_locations: [source],
        sourceCompression: (option(settings, "SOURCE_COMPRESSION") ?? "AUTO_DETECT").toLowerCase(),
        autoCompress: option(settings, "AUTO_COMPRESS") !== "FALSE",
        parallel: Number(option(settings, "PARALLEL") ?? 4),
        overwrite: option(settings, "OVERWRITE") === "TRUE",
        threshold: 209_715_200,
        clientShowEncryptionParameter: false,
        encryptionMaterial: null,
        uploadInfo: null,
        presignedUrls: [],
        stageInfo: {
          locationType: "GCS",
          location: `stage/${key}/${location.path === "" ? "" : `${location.path.replace(/\/+$/, "")}/`}`,
          path: "",
          region: "us-central1",
          endPoint: context.origin,
          isClientSideEncrypted: false,
          creds: { GCS_ACCESS_TOKEN: context.services.stageToken }
        }
      }
    }
  })

/** `@stage/path` and an optional PATTERN. */
const locationAndPattern = (context: StatementContext, words: ReadonlyArray<string>) => {
  const cursor = Statement.cursorOf(context)
  const verb = cursor.identifier()
  if (!words.includes(verb)) throw cursor.unexpected()
  const token = cursor.next()
  if (token.kind !== "stage" && token.kind !== "string") throw cursor.unexpected()
  const location = locate(context, token.text.replace(/^@/, ""))
  requireAccess(context, location, verb.startsWith("R") ? "WRITE" : "READ")
  let pattern: RegExp | undefined
  if (cursor.accept("PATTERN")) {
    cursor.expectOp("=")
    pattern = new RegExp(`^(?:${cursor.string()})$`)
  }
  cursor.end()
  return { location, pattern }
}

const shownName = (location: Location, file: StagedFile): string => `${location.shown}/${file.name}`

export const list = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const { location, pattern } = yield* Statement.parse(() => locationAndPattern(context, ["LIST", "LS"]))
    const rows = yield* io(async () => {
      const files = await listFiles(context.services.storage.dataDir, location.stageId, location.path)
      const out: Array<ReadonlyArray<string>> = []
      for (const file of files) {
        const name = shownName(location, file)
        if (pattern !== undefined && !pattern.test(name)) continue
        out.push([name, String(file.size), await etagOf(file.file), file.modifiedAt.toUTCString()])
      }
      return out
    })
    const columns = [
      ResultRows.column("name"),
      ResultRows.column("size", Types.number38),
      ResultRows.column("md5"),
      ResultRows.column("last_modified")
    ]
    return { kind: "LIST", typeId: Statement.typeIds.show, result: ResultRows.ofRows(columns, rows) }
  })

export const remove = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const { location, pattern } = yield* Statement.parse(() => locationAndPattern(context, ["REMOVE", "RM"]))
    const rows = yield* io(async () => {
      const out: Array<ReadonlyArray<string>> = []
      for (const file of await listFiles(context.services.storage.dataDir, location.stageId, location.path)) {
        const name = shownName(location, file)
        if (pattern !== undefined && !pattern.test(name)) continue
        await rm(file.file)
        out.push([name, "removed"])
      }
      return out
    })
    const columns = [ResultRows.column("name"), ResultRows.column("result")]
    return { kind: "REMOVE", typeId: Statement.typeIds.control, result: ResultRows.ofRows(columns, rows) }
  })
