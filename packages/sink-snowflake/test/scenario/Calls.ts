/**
 * The matrix: the calls that a sink makes to Snowflake, and what may go wrong with each. Every cell of it is struck by `npm test`.
 *
 * The cells are written down, none is found by watching, so that one that is never reached is seen. What isn't a cell:
 *
 * - `expireToken` for the streaming endpoints `hostname` and `token`: these are called without a token that could expire;
 * - `invalidateChannel` for `drop`: a channel is dropped whatever its state is;
 * - sessions that expire or end at a login or an upload: there is no session yet, or the request goes to the stage and not to a session.
 */
import type { Scenario } from "./Scenario.ts"
import type { ModeName, Statement } from "./Statements.ts"
import * as Statements from "./Statements.ts"

/** One kind of request: an endpoint, or a statement for one purpose. */
export interface Call {
  readonly name: string
  readonly server: "streaming" | "driver"
  readonly endpoint: string
  readonly modes: ReadonlyArray<ModeName>
  readonly statement?: Statement
}

/** Something that goes wrong with a call: a fault of the server, as it is asked for. */
export interface Mishap {
  readonly name: string
  readonly fault: Readonly<Record<string, unknown>>
  /** The scenarios that it may strike; absent: all. */
  readonly suits?: (scenario: Scenario) => boolean
}

export interface Cell {
  readonly name: string
  readonly call: Call
  readonly mishap: Mishap
}

const answers503 = { name: "is refused before it has an effect", fault: { kind: "status", status: 503 } }

const driverMishaps: ReadonlyArray<Mishap> = [
  answers503,
  { name: "has its effect and is answered with an error", fault: { kind: "statusAfter", status: 503 } },
  { name: "loses its connection before it has an effect", fault: { kind: "dropBefore" } },
  { name: "has its effect and loses its connection", fault: { kind: "dropAfter" } }
]

const statementMishaps: ReadonlyArray<Mishap> = [
  ...driverMishaps,
  { name: "fails inside Snowflake", fault: { kind: "error", code: "000603", sqlState: "XX000" } },
  { name: "finds its session's token expired", fault: { kind: "expireSession" } },
  { name: "finds its session ended and its transaction rolled back", fault: { kind: "endSession" } }
]

const streamingMishaps: ReadonlyArray<Mishap> = [
  answers503,
  { name: "has its effect and is answered with an error", fault: { kind: "statusAfterStore", status: 503 } },
  { name: "loses its connection before it has an effect", fault: { kind: "dropBeforeStore" } },
  { name: "has its effect and loses its connection", fault: { kind: "dropAfterStore" } }
]

const scopedMishaps: ReadonlyArray<Mishap> = [
  ...streamingMishaps,
  { name: "finds its token expired", fault: { kind: "expireToken" } }
]

const invalidated: Mishap = { name: "finds its channel invalid", fault: { kind: "invalidateChannel" } }

/** How an open that finds nothing of what was accepted is told from other faults: it needs rows that aren't committed. */
export const losesUncommitted = "finds that Snowflake lost what it had accepted"

const streaming: ReadonlyArray<readonly [endpoint: string, mishaps: ReadonlyArray<Mishap>]> = [
  ["hostname", streamingMishaps],
  ["token", streamingMishaps],
  ["open", [...scopedMishaps, invalidated, {
    name: losesUncommitted,
    fault: { kind: "loseUncommitted" },
    suits: ({ runs }) => runs.length > 0
  }]],
  ["append", [
    ...scopedMishaps,
    invalidated,
    { name: "is throttled", fault: { kind: "status", status: 429, body: { code: "ReceiverSaturated" } } },
    {
      name: "is refused as too large",
      fault: { kind: "status", status: 413 },
      // Nothing is smaller than a truncate: Snowflake would never refuse one as too large, and one that is ends the table.
      suits: ({ commands }) => commands.every(({ name }) => name !== "truncate")
    },
    {
      name: "has a stale continuation token",
      fault: { kind: "status", status: 400, body: { code: "STALE_CONTINUATION_TOKEN_SEQUENCER" } }
    }
  ]],
  ["status", [...scopedMishaps, invalidated]],
  ["drop", scopedMishaps]
]

const endpoint = (server: Call["server"], name: string): Call => ({
  name: `${server} ${name}`,
  server,
  endpoint: name,
  modes: Statements.modeNames
})

const cell = (call: Call, mishap: Mishap): Cell => ({ name: `${call.name} ${mishap.name}`, call, mishap })

const statementCalls = Statements.statements.map((statement): Call => ({
  name: statement.name,
  server: "driver",
  endpoint: "query",
  modes: statement.modes,
  statement
}))

const statementCells = (call: Call): ReadonlyArray<Cell> => statementMishaps.map((mishap) => cell(call, mishap))

/** All cells, by their names. */
export const cells: ReadonlyMap<string, Cell> = new Map(
  [
    ...streaming.flatMap(([name, mishaps]) => mishaps.map((mishap) => cell(endpoint("streaming", name), mishap))),
    ...driverMishaps.map((mishap) => cell(endpoint("driver", "login"), mishap)),
    ...driverMishaps.map((mishap) => cell(endpoint("driver", "upload"), mishap)),
    ...statementCalls.flatMap(statementCells)
  ].map((each): readonly [string, Cell] => [each.name, each])
)

/** The cells that are struck in `mode`: those of calls that several modes make are divided among them. */
export const cellsOf = (mode: ModeName): ReadonlyArray<Cell> =>
  [...cells.values()].filter(({ call }, index) => call.modes[index % call.modes.length] === mode)
