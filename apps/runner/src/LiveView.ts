/**
 * The live view of a terminal: a line per pipeline and per table, with progress bars of snapshots, rates and lag.
 *
 * `render` is pure: from a `Model` to lines that fit the given width and height. `Screen.ts` draws them in place.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Raised } from "@etl-stream/core/Condition"
import type { TableView, View } from "@etl-stream/core/Progress"
import type { PipelineRates, TableRate } from "./Rates.ts"
import { clip, width } from "./TextWidth.ts"

export interface PipelineModel {
  readonly view: View
  readonly rates: PipelineRates
  /** When a failed pipeline runs again, milliseconds since 1970-01-01 UTC; undefined when it isn't waiting. */
  readonly retryAt: number | undefined
  /** What is to be shown in place of its phase: that it is paused, for example. */
  readonly activity?: string | undefined
}

export interface Model {
  /** Milliseconds since 1970-01-01 UTC. */
  readonly now: number
  readonly startedAt: number
  readonly memory: { readonly used: number; readonly capacity: number }
  readonly pipelines: ReadonlyArray<PipelineModel>
  /** What monitors have found; those with nothing to say aren't shown. */
  readonly monitors?: ReadonlyArray<{ readonly name: string; readonly conditions: ReadonlyArray<Raised> }>
  /** Whether a graceful stop is under way. */
  readonly draining: boolean
}

export interface Look {
  /** Columns and rows of the terminal. */
  readonly width: number
  readonly height: number
  readonly color: boolean
  /** Whether block characters can be shown; ASCII otherwise. */
  readonly unicode: boolean
}

type Paint = "dim" | "green" | "yellow" | "red" | "cyan" | "bold"
const codes: Readonly<Record<Paint, number>> = { dim: 90, green: 32, yellow: 33, red: 31, cyan: 36, bold: 1 }

/** A piece of a line. Pieces are dropped from the end of `optional` ones when a line is too long. */
interface Piece {
  readonly text: string
  readonly paint?: Paint
  /** Higher ones are dropped first when the line doesn't fit; undefined ones stay and are clipped. */
  readonly optional?: number
}

const piece = (text: string, paint?: Paint, optional?: number): Piece => ({
  text,
  ...(paint === undefined ? {} : { paint }),
  ...(optional === undefined ? {} : { optional })
})

/** Between the pieces of a line. */
const gap = "  "

/** `pieces` side by side, in at most `look.width` columns. */
const line = (pieces: ReadonlyArray<Piece>, look: Look): string => {
  let kept = pieces.filter(({ text }) => text !== "")
  const total = () => kept.reduce((sum, { text }) => sum + width(text) + gap.length, -gap.length)
  while (total() > look.width) {
    const least = Math.max(...kept.map(({ optional }) => optional ?? 0))
    if (least <= 0) break
    const at = kept.findLastIndex(({ optional }) => optional === least)
    kept = kept.filter((_, index) => index !== at)
  }
  let room = look.width
  const parts: Array<string> = []
  for (const { paint, text } of kept) {
    const fitting = clip(text, room)
    if (fitting === "") break
    parts.push(look.color && paint !== undefined ? `\x1b[${codes[paint]}m${fitting}\x1b[0m` : fitting)
    room -= width(fitting) + gap.length
    if (room <= 0) break
  }
  return parts.join(gap)
}

const grouped = (count: number): string => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ",")

/** A count in at most five characters: `950`, `12.3k`, `4.56M`. */
export const compact = (count: number): string => {
  const scaled = [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const
  for (const [unit, suffix] of scaled) {
    if (count >= unit) return `${(count / unit).toPrecision(3)}${suffix}`
  }
  return count > 0 && count < 10 ? count.toFixed(1) : String(Math.round(count))
}

/** A span of time: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 10 m`. */
export const span = (millis: number): string => {
  const seconds = Math.max(0, millis) / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  const pad = (part: number): string => String(Math.floor(part)).padStart(2, "0")
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${pad(seconds % 60)} s`
  return `${Math.floor(seconds / 3600)} h ${pad((seconds % 3600) / 60)} m`
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]

/** A bar of `columns` columns, `fraction` (0 to 1) of it full. */
export const bar = (fraction: number, columns: number, unicode: boolean): string => {
  const filled = Math.min(1, Math.max(0, fraction)) * columns
  const whole = Math.floor(filled)
  if (!unicode) return "#".repeat(whole).padEnd(columns, "-")
  const part = eighths[Math.floor((filled - whole) * 8)] ?? ""
  return `${"█".repeat(whole)}${part}`.padEnd(columns, "░")
}

/** Share of the copy that is done; undefined when there is no estimate to compare with. Estimates may be low: never quite 1 before the end. */
const fractionOf = ({ estimatedRows, phase, snapshotRows }: TableView): number | undefined =>
  phase === "streaming"
    ? 1
    : estimatedRows === undefined || estimatedRows <= 0
    ? undefined
    : Math.min(0.99, snapshotRows / estimatedRows)

const barColumns = (look: Look): number => look.width >= 110 ? 24 : look.width >= 80 ? 16 : 10

const copyingPieces = (table: TableView, rate: TableRate | undefined, look: Look): ReadonlyArray<Piece> => {
  const fraction = fractionOf(table)
  const rowsPerSecond = rate?.snapshot ?? 0
  const left = table.estimatedRows === undefined ? undefined : table.estimatedRows - table.snapshotRows
  const rows = fraction === undefined
    ? grouped(table.snapshotRows)
    : `${grouped(table.snapshotRows)}/~${grouped(table.estimatedRows ?? 0)}`
  return [
    fraction === undefined ? piece("") : piece(bar(fraction, barColumns(look), look.unicode), "cyan", 4),
    fraction === undefined ? piece("copying", "cyan") : piece(`${Math.floor(fraction * 100)}%`.padStart(4), "cyan"),
    piece(`${rows} rows`, undefined, 1),
    piece(`${compact(rowsPerSecond)}/s`, undefined, 2),
    left !== undefined && left > 0 && rowsPerSecond > 0
      ? piece(`ETA ${span(left / rowsPerSecond * 1000)}`, "dim", 3)
      : piece("")
  ]
}

const tableLine = (table: TableView, rate: TableRate | undefined, nameColumns: number, look: Look): string => {
  const name = clip(table.table, nameColumns)
  const head = piece(`  ${name}${" ".repeat(Math.max(0, nameColumns - width(name)))}`)
  switch (table.phase) {
    case "opening":
      return line([head, piece("opening", "dim")], look)
    case "waiting":
      return line([head, piece("waiting to be copied", "dim")], look)
    case "copying":
      return line([head, ...copyingPieces(table, rate, look)], look)
    case "quarantined":
      return line([head, piece("in quarantine", "red"), piece(table.quarantine?.message ?? "")], look)
    case "left":
      return line([head, piece("no longer read", "dim")], look)
    case "streaming":
      return line([
        head,
        piece("in step", "green"),
        piece(`${grouped(table.changes)} changes`, undefined, 1),
        piece(`${compact(rate?.changes ?? 0)}/s`, undefined, 2),
        table.copiedAt !== undefined && table.startedAt !== undefined
          ? piece(`copied ${grouped(table.snapshotRows)} rows in ${span(table.copiedAt - table.startedAt)}`, "dim", 3)
          : piece("")
      ], look)
  }
}

const phasePaint: Readonly<Record<View["phase"], Paint>> = {
  starting: "yellow",
  snapshot: "cyan",
  streaming: "green",
  draining: "yellow",
  stopped: "dim",
  failed: "red"
}

const conditionLines = (conditions: ReadonlyArray<Raised>, look: Look): ReadonlyArray<string> =>
  conditions.map(({ message, severity }) =>
    line([piece(`  ${message}`, severity === "critical" ? "red" : "yellow")], look)
  )

const pipelineLines = (
  { activity, rates, retryAt, view }: PipelineModel,
  now: number,
  look: Look
): ReadonlyArray<string> => {
  const copied = view.tables.filter(({ phase }) => phase === "streaming").length
  const lag = view.receivedPosition - view.acknowledgedPosition
  const waiting = retryAt !== undefined
  const head = line([
    piece(view.pipeline, "bold"),
    waiting
      ? piece(`retrying in ${span(retryAt - now)}`, "yellow")
      : piece(activity ?? view.phase, activity === undefined ? phasePaint[view.phase] : "yellow"),
    view.tables.length === 0 ? piece("") : piece(`${copied}/${view.tables.length} tables in step`, undefined, 1),
    view.phase === "snapshot" && rates.snapshot > 0
      ? piece(`copy ${compact(rates.snapshot)} rows/s`, undefined, 2)
      : piece(""),
    view.phase === "streaming" || rates.changes > 0
      ? piece(`${compact(rates.changes)} changes/s`, undefined, 2)
      : piece(""),
    view.freshness === undefined
      ? piece("")
      : piece(`lag ${span(view.freshness)}`, view.freshness > 60_000 ? "yellow" : undefined, 1),
    lag > 0n ? piece(`${ByteSize.format(Number(lag))} behind`, "dim", 4) : piece(""),
    view.run > 1 ? piece(`run ${view.run}`, "dim", 5) : piece("")
  ], look)
  const error = view.lastError !== undefined && (waiting || view.phase === "failed")
    ? [line([piece(`  ${view.lastError.message}`, "red")], look)]
    : []
  const conditions = conditionLines(view.conditions, look)
  const nameColumns = Math.min(
    Math.max(8, ...view.tables.map(({ table }) => width(table))),
    Math.max(8, Math.floor(look.width * (look.width < 60 ? 0.5 : 0.35)))
  )
  const order = { quarantined: 0, copying: 1, opening: 2, waiting: 2, streaming: 3, left: 4 }
  const tables = [...view.tables].sort((a, b) => order[a.phase] - order[b.phase])
  return [
    head,
    ...error,
    ...conditions,
    ...tables.map((table) => tableLine(table, rates.tables.get(table.table), nameColumns, look))
  ]
}

/** The view's lines: at most `look.height - 1`, each at most `look.width` columns wide. */
export const render = (model: Model, look: Look): ReadonlyArray<string> => {
  const head = line([
    piece("etl-stream", "bold"),
    piece(`up ${span(model.now - model.startedAt)}`, "dim", 1),
    piece(`memory ${ByteSize.format(model.memory.used)} of ${ByteSize.format(model.memory.capacity)}`, "dim", 2),
    model.draining
      ? piece("stopping: bringing everything read to its place, Ctrl-C again to quit at once", "yellow")
      : piece("")
  ], look)
  const room = Math.max(1, look.height - 2)
  const blocks = [
    ...model.pipelines.map((pipeline) => pipelineLines(pipeline, model.now, look)),
    ...(model.monitors ?? []).filter(({ conditions }) => conditions.length > 0).map(({ conditions, name }) => [
      line([piece(name, "bold"), piece("monitor", "dim")], look),
      ...conditionLines(conditions, look)
    ])
  ]
  // Every pipeline shows its own line; what room is left is shared among tables, and what doesn't fit is counted.
  const share = Math.max(1, Math.floor(room / Math.max(1, blocks.length)))
  const body = blocks.flatMap((lines) => {
    if (lines.length <= share) return lines
    const shown = lines.slice(0, Math.max(1, share - 1))
    return share < 2 ? shown : [...shown, line([piece(`  and ${lines.length - shown.length} more`, "dim")], look)]
  })
  return [head, ...body].slice(0, Math.max(1, look.height - 1))
}
