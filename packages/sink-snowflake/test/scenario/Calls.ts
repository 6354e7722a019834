/**
 * The calls that a sink makes to Snowflake, told apart by what they are for, and what may go wrong with each.
 *
 * Statements aren't listed here: they are taken from the server's log as they come, so that the matrix has a row for each that the sink begins to use.
 */

/** One kind of request: an endpoint, or a statement for one purpose. */
export interface Call {
  readonly label: string
  readonly server: "streaming" | "driver"
  readonly endpoint: string
  /** For statements: a regular expression that their text matches. */
  readonly match?: string
}

/** Something that goes wrong with a call: a fault of the server, as it is asked for. */
export interface Mishap {
  readonly name: string
  readonly fault: Readonly<Record<string, unknown>>
}

export interface Cell {
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
  ["open", [...scopedMishaps, invalidated, { name: losesUncommitted, fault: { kind: "loseUncommitted" } }]],
  ["append", [
    ...scopedMishaps,
    invalidated,
    { name: "is throttled", fault: { kind: "status", status: 429, body: { code: "ReceiverSaturated" } } },
    { name: "is refused as too large", fault: { kind: "status", status: 413 } },
    {
      name: "has a stale continuation token",
      fault: { kind: "status", status: 400, body: { code: "STALE_CONTINUATION_TOKEN_SEQUENCER" } }
    }
  ]],
  ["status", [...scopedMishaps, invalidated]],
  ["drop", scopedMishaps]
]

const endpoint = (server: Call["server"], name: string): Call => ({
  label: `${server} ${name}`,
  server,
  endpoint: name
})

/** Cells of calls that every sink makes and that are no statements. */
export const endpointCells: ReadonlyArray<Cell> = [
  ...streaming.flatMap(([name, mishaps]) => mishaps.map((mishap) => ({ call: endpoint("streaming", name), mishap }))),
  ...driverMishaps.map((mishap) => ({ call: endpoint("driver", "login"), mishap })),
  ...driverMishaps.map((mishap) => ({ call: endpoint("driver", "upload"), mishap }))
]

export const cellName = ({ call, mishap }: Cell): string => `${call.label} ${mishap.name}`

// ---- statements

/** Every table of the scenarios is named like this. */
export const tableName = (serial: number): string => `seq_${serial}`
const name = String.raw`SEQ_\d+\w*`

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")

const verbs =
  /^(CREATE (?:OR REPLACE )?(?:TEMPORARY )?\w+|DELETE FROM|INSERT INTO|UPDATE|MERGE INTO|COPY INTO|SELECT|DESCRIBE \w+|ALTER \w+|DROP \w+|SHOW \w+|\w+)/i

/** What a statement is for: its verb, the object without the table's own name, and what it sets, selects or alters. */
export const statementCall = (sql: string): Call => {
  const verb = verbs.exec(sql)?.[1]?.toUpperCase() ?? ""
  const object = /"RAW"\."\w+"(?:\."[^"]+")?/.exec(sql)?.[0] ?? ""
  const part = verb === "UPDATE"
    ? /SET "\w+" = (?:[^,]*, "\w+" = )?/.exec(sql)?.[0]
    : verb === "SELECT"
    ? /^SELECT .{0,24}/.exec(sql)?.[0]
    : verb.startsWith("ALTER T")
    ? /(?:ADD|DROP|ALTER|RENAME) .{0,12}/.exec(sql.slice(sql.indexOf(object) + object.length))?.[0]
    : undefined
  const pieces = verb === "SELECT" ? [part ?? "", object] : [verb, object, part ?? ""]
  // Values and names of one scenario stand for those of any.
  const general = (text: string): ReadonlyArray<string> => [
    text.replaceAll(/'[^']*'?/g, "'…'").replaceAll(new RegExp(name, "gi"), "…"),
    escaped(text).replaceAll(/'[^']*'?/g, "'[^']*'?").replaceAll(new RegExp(name, "gi"), name)
  ]
  const [labels, patterns] = [0, 1].map((side) =>
    pieces.filter((piece) => piece !== "").map((piece) => general(piece)[side])
  )
  return {
    label: labels?.join(" ") ?? verb,
    server: "driver",
    endpoint: "query",
    match: `^${patterns?.join(".*?") ?? verb}`
  }
}

export const statementCells = (call: Call): ReadonlyArray<Cell> => statementMishaps.map((mishap) => ({ call, mishap }))
