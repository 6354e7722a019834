/**
 * The source: follows a file to which changes are appended, one JSON object a line, and gives them as changes of one table.
 *
 * ```json
 * {"insert": {"id": 1, "note": "a new row"}}
 * {"update": {"id": 1, "note": "what it is from now on"}}
 * {"remove": {"id": 1}}
 * ```
 *
 * Row-wise sources are made by `@etl-stream/core/RowSource`, whose documentation is the contract. The one rule that everything rests on: each piece has a
 * position that grows, and is the same whenever the piece is read again. Here a line's position is the byte behind its end.
 */
import * as Column from "@etl-stream/core/Column"
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import * as RowChange from "@etl-stream/core/RowChange"
import * as RowSource from "@etl-stream/core/RowSource"
import * as RowTable from "@etl-stream/core/RowTable"
import type { Source } from "@etl-stream/core/Source"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs/promises"
import { resolve } from "node:path"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** The table that the lines are changes of. `origin` tells one file from another in its place, which would have to be read from its beginning. */
const notes = (origin: string) =>
  RowTable.make({
    name: "files.notes",
    columns: { id: Column.int64(), note: Column.text().nullable },
    key: ["id"],
    origin
  })
type Notes = ReturnType<typeof notes>

const Row = Schema.Struct({ id: Schema.Int, note: Schema.NullOr(Schema.String) })
const Line = Schema.fromJsonString(
  Schema.Union([
    Schema.Struct({ insert: Row }),
    Schema.Struct({ update: Row }),
    Schema.Struct({ remove: Schema.Struct({ id: Schema.Int }) })
  ])
)
const decodeLine = Schema.decodeUnknownOption(Line)

const rowOf = ({ id, note }: typeof Row.Type) => ({ id: BigInt(id), note })

const changeOf = (table: Notes, line: typeof Line.Type): RowChange.RowChange =>
  "insert" in line
    ? RowChange.insert(table, rowOf(line.insert))
    : "update" in line
    ? RowChange.update(table, rowOf(line.update))
    : RowChange.remove(table, { id: BigInt(line.remove.id) })

/** So much is read at once, and more only for a line that is longer, up to a limit: what others write must not fill the memory. */
const blockBytes = 64 * 1024
const longestLine = 64 * 1024 * 1024

const newline = 0x0a

/** The reason decides what happens: `Unreachable` is tried again, the others wait for somebody. Messages never hold a line's text. */
const failure = (reason: Reason, message: string, hint: string, cause?: unknown): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, ...(cause === undefined ? {} : { cause }) })

const fromCause = (file: string) => (cause: unknown): ConnectorError =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT"
    ? failure("Missing", `There is no file ${file}`, "Check `file`, or create the file empty.", cause)
    : failure("Misconfigured", `The file ${file} can't be read`, "Check its permissions.", cause)

/** The changes of a block's whole lines, which begin at byte `offset` of the file. */
const piecesOf = (
  table: Notes,
  block: Uint8Array,
  offset: number
): Effect.Effect<ReadonlyArray<RowSource.Piece>, ConnectorError> =>
  Effect.gen(function*() {
    const pieces: Array<RowSource.Piece> = []
    for (let begin = 0, end; (end = block.indexOf(newline, begin)) >= 0; begin = end + 1) {
      const text = Buffer.from(block.buffer, block.byteOffset + begin, end - begin).toString("utf8")
      if (text.trim() === "") continue
      const line = decodeLine(text)
      if (Option.isNone(line)) {
        return yield* failure(
          "Rejected",
          `The line at byte ${offset + begin} is no {"insert": …}, {"update": …} or {"remove": …}`,
          "Correct the line; the pipeline goes on from there."
        )
      }
      pieces.push({ position: BigInt(offset + end + 1), changes: [changeOf(table, line.value)] })
    }
    return pieces
  })

export const make = (config: Config, directory: string): Source => {
  const file = resolve(directory, config.file)
  const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    Effect.tryPromise({ try: run, catch: fromCause(file) })

  const table = Effect.map(attempt(() => Fs.stat(file)), ({ dev, ino }) => notes(`${dev}:${ino}`))

  const read = (from: bigint): Stream.Stream<RowSource.Piece, ConnectorError> =>
    Stream.unwrap(Effect.gen(function*() {
      const lines = yield* table
      const handle = yield* Effect.acquireRelease(
        attempt(() => Fs.open(file)),
        (handle) => Effect.promise(() => handle.close())
      )
      let buffer = new Uint8Array(blockBytes)
      let offset = Number(from)
      /** The next lines, as soon as there are some. Called when somebody wants them: that is all the back pressure there is. */
      const next: Effect.Effect<ReadonlyArray<RowSource.Piece>, ConnectorError> = Effect.gen(function*() {
        for (;;) {
          const { bytesRead } = yield* attempt(() => handle.read(buffer, 0, buffer.length, offset))
          const whole = buffer.subarray(0, bytesRead).lastIndexOf(newline) + 1
          if (whole > 0) {
            const pieces = yield* piecesOf(lines, buffer.subarray(0, whole), offset)
            offset += whole
            buffer = new Uint8Array(blockBytes)
            return pieces
          }
          if (bytesRead === longestLine) {
            return yield* failure(
              "Unsupported",
              `The line at byte ${offset} is too long`,
              "Split it into shorter ones."
            )
          }
          if (bytesRead === buffer.length) {
            buffer = new Uint8Array(buffer.length * 2)
            continue
          }
          if ((yield* attempt(() => handle.stat())).size < offset) {
            return yield* failure(
              "Lost",
              `The file ${file} has become shorter`,
              "Only append to it, or follow another."
            )
          }
          yield* Effect.sleep(config.every)
        }
      })
      return Stream.fromEffectRepeat(next).pipe(Stream.flatMap((pieces) => Stream.fromIterable(pieces)))
    }))

  return RowSource.make({
    plugin: pluginName,
    tables: Effect.map(table, (table) => [table]),
    // What is in the file stays there, so that a table can be copied by reading it from its beginning.
    history: "kept",
    read
  })
}
