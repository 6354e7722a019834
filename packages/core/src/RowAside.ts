/**
 * Changes of a table that came while its copy was under way: kept in a local file, in order, until they can be applied.
 *
 * The file goes with the run, however that ends: it has no name, and what is in it was never reported durable, so it comes again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { type FileHandle, open, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConnectorError } from "./ConnectorError.ts"
import type { Rows, Truncate } from "./Element.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import { RecordReader } from "./SpoolSegment.ts"
import type { TableSchema } from "./TableSchema.ts"

export interface RowAside {
  readonly put: (element: Rows | Truncate) => Effect.Effect<void, ConnectorError>
  /** Gives everything that was put, in order, then forgets it. */
  readonly replay: (
    give: (element: Rows | Truncate) => Effect.Effect<void, ConnectorError>
  ) => Effect.Effect<void, ConnectorError>
  readonly clear: Effect.Effect<void, ConnectorError>
}

interface File {
  readonly handle: FileHandle
  size: number
  readonly schemas: Array<TableSchema>
}

export const make = (plugin: string, directory = tmpdir()): Effect.Effect<RowAside, never, Scope.Scope> => {
  let file: File | undefined

  const attempt = <A>(work: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    Effect.tryPromise({
      try: work,
      catch: (cause) =>
        new ConnectorError({
          reason: "Unreachable",
          plugin,
          message: `Changes that come while a table is copied can't be kept in ${directory}`,
          hint: "Make room in that folder, or give the sink another one that can be written to.",
          cause
        })
    })

  const remove = async (): Promise<void> => {
    const old = file
    file = undefined
    if (old === undefined) return
    await old.handle.close()
  }

  const put = async (element: Rows | Truncate): Promise<void> => {
    if (file === undefined) {
      const path = join(directory, `etl-stream-aside-${randomUUID()}`)
      // Row values: nobody else is to read them, and a process that is killed is not to leave them behind.
      const handle = await open(path, "wx+", 0o600)
      await rm(path)
      file = { handle, size: 0, schemas: [] }
    }
    const schema = element._tag === "Rows" ? element.batch.table : element.table
    let number = file.schemas.findIndex((known) => known === schema || known.version === schema.version)
    if (number < 0) number = file.schemas.push(schema) - 1
    const { length, parts } = SpoolRecord.element(element, number, undefined)
    await file.handle.appendFile(Buffer.concat(parts))
    file.size += length
  }

  const clear = attempt(remove)

  const replay: RowAside["replay"] = (give) =>
    Effect.gen(function*() {
      if (file === undefined) return
      const { handle, schemas, size } = file
      const reader = RecordReader.of(handle, size)
      for (let at = 0; at < size;) {
        const record = yield* attempt(() => reader.read(at, size))
        const decoded = record === undefined ? undefined : SpoolRecord.decode(record.payload, schemas)
        const element = decoded?._tag === "Element" ? decoded.element : undefined
        if (record === undefined || (element?._tag !== "Rows" && element?._tag !== "Truncate")) {
          return yield* new ConnectorError({
            reason: "Unreachable",
            plugin,
            message: `Changes that were kept in ${directory} while a table was copied can't be read back`,
            hint: "Look at the disk; they come again with the next run."
          })
        }
        yield* give(element)
        at = record.next
      }
      yield* clear
    })

  return Effect.as(
    Effect.addFinalizer(() => Effect.promise(remove)),
    { put: (element) => attempt(() => put(element)), replay, clear }
  )
}
