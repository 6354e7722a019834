/**
 * Draws a view in place at the bottom of a terminal, with log lines passing above it.
 *
 * The view is erased before a log line is printed and drawn again after it; the cursor is hidden meanwhile and comes back however the process ends.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { width } from "./TextWidth.ts"

/** The parts of a terminal's stream that drawing needs. */
export interface Terminal {
  readonly write: (text: string) => unknown
  readonly columns: number
  readonly rows: number
}

export interface Screen {
  /** Replaces the view. No line may be wider than the terminal. */
  readonly draw: (lines: ReadonlyArray<string>) => void
  /** Prints a line above the view, by `write` (of whatever stream it belongs to). */
  readonly print: (line: string, write: (text: string) => unknown) => void
}

const hideCursor = "\x1b[?25l"
const showCursor = "\x1b[?25h"
const clearToEnd = "\x1b[0J"
const colors = /\x1b\[\d+m/g
const clearLine = "\x1b[2K"

/** A screen on `terminal`; the last view stays on it when the scope closes. */
export const make = (terminal: Terminal): Effect.Effect<Screen, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      let shown: ReadonlyArray<string> = []
      /** Back to the view's first line; on a terminal that got narrower its lines take several rows. */
      const up = (): string => {
        const columns = Math.max(1, terminal.columns)
        const rows = shown.reduce(
          (sum, line) => sum + Math.max(1, Math.ceil(width(line.replace(colors, "")) / columns)),
          0
        )
        return rows === 0 ? "" : `\r\x1b[${rows}A`
      }
      const restore = (): void => {
        terminal.write(showCursor)
      }
      process.on("exit", restore)
      terminal.write(hideCursor)
      const screen: Screen = {
        draw: (lines) => {
          // Lines are overwritten rather than erased first, so that nothing flickers.
          terminal.write(`${up()}${lines.map((line) => `${clearLine}${line}\n`).join("")}${clearToEnd}`)
          shown = lines
        },
        print: (line, write) => {
          terminal.write(`${up()}${clearToEnd}`)
          write(`${line}\n`)
          terminal.write(shown.map((drawn) => `${drawn}\n`).join(""))
        }
      }
      return { screen, restore }
    }),
    ({ restore }) =>
      Effect.sync(() => {
        restore()
        process.off("exit", restore)
      })
  ).pipe(Effect.map(({ screen }) => screen))
