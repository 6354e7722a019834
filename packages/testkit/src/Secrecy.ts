/**
 * Listens to what a plugin says, in its log and its errors, and finds what must not be in there: values of rows and secrets.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { inspect } from "node:util"

export interface Secrecy {
  /** Notes an error, to be looked through. */
  readonly heard: (error: unknown) => void
  /** Runs with a log that is looked through, at its finest level. */
  readonly listening: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Where one of the words was found, never with the word itself; empty: nowhere. */
  readonly found: () => ReadonlyArray<string>
}

/** How much of a line is kept for messages. */
const shown = 120

/** Looks for `words`, each by a name for messages. */
export const make = (words: ReadonlyMap<string, string>): Secrecy => {
  const places = new Map<string, string>()
  const look = (where: string, text: string): void => {
    for (const [name, word] of words) {
      const at = text.indexOf(word)
      if (at >= 0) places.set(`${name} in ${where}`, text.slice(Math.max(0, at - shown), at))
    }
  }
  const heard = (error: unknown): void =>
    look(
      "an error",
      `${error instanceof Error ? error.message : ""} ${
        inspect(error, { depth: 8, showHidden: true, maxStringLength: null })
      }`
    )
  const logger = Logger.make<unknown, void>(({ cause, fiber, message }) => {
    const annotations = inspect(fiber.getRef(References.CurrentLogAnnotations), { depth: 8, maxStringLength: null })
    const texts = Array.isArray(message) ? message : [message]
    for (const text of texts) {
      look("the log", typeof text === "string" ? text : inspect(text, { depth: 8, maxStringLength: null }))
    }
    look("the log's annotations", annotations)
    if (cause.reasons.length > 0) look("a cause in the log", Cause.pretty(cause))
  })
  return {
    heard,
    listening: (effect) =>
      effect.pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "Trace")
      ),
    found: () => [...places].map(([name, before]) => `${name}, after ${JSON.stringify(before)}`)
  }
}
