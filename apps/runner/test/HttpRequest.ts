/**
 * Requests over real HTTP, with any header, `Host` included.
 */
import * as Effect from "effect/Effect"
import * as Http from "node:http"

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
}

export interface RequestOptions {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export const request = (url: string, options: RequestOptions = {}): Effect.Effect<Answer, Error> =>
  Effect.callback<Answer, Error>((resume) => {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body)
    const outgoing = Http.request(url, {
      method: options.method ?? "GET",
      agent: false,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...options.headers }
    }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (part: string) => text += part)
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: parsed(text)
        })))
    })
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    outgoing.end(body)
    return Effect.sync(() => outgoing.destroy())
  })

/** The fields of a JSON object. */
export const fields = ({ json, text }: Answer): Readonly<Record<string, unknown>> => {
  if (typeof json !== "object" || json === null) throw new Error(`not a JSON object: ${text}`)
  return Object.fromEntries(Object.entries(json))
}

/** A stream of server-sent events, which is read only while `next` is asked. */
export interface Events {
  /** The data of the next event that the test accepts. */
  readonly next: (
    accept: (data: Readonly<Record<string, unknown>>) => boolean
  ) => Effect.Effect<Readonly<Record<string, unknown>>, Error>
  /** Everything read so far. */
  readonly text: () => string
  readonly ended: Effect.Effect<void>
  readonly pause: () => void
  readonly resume: () => void
}

export const events = (url: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly outgoing: Http.ClientRequest; readonly events: Events }, Error>((resume) => {
      const outgoing = Http.request(url, { agent: false, headers }, (response) => {
        let text = ""
        let waiting: (() => void) | undefined
        let over = false
        let rest = ""
        const queue: Array<Readonly<Record<string, unknown>>> = []
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part
          const blocks = (rest + part).split("\n\n")
          rest = blocks.pop() ?? ""
          for (const block of blocks) {
            const data = block.split("\n").find((line) => line.startsWith("data: "))
            // Our own server's events are objects.
            if (data !== undefined) queue.push(JSON.parse(data.slice(6)) as Record<string, unknown>)
          }
          waiting?.()
        })
        const end = () => {
          over = true
          waiting?.()
        }
        response.on("end", end).on("close", end).on("error", end)
        if (response.statusCode !== 200) {
          response.on("end", () => resume(Effect.fail(new Error(`${response.statusCode}: ${text}`))))
          return
        }
        const until = (condition: () => boolean): Effect.Effect<void> =>
          Effect.callback<void>((done) => {
            const look = () => {
              if (condition()) done(Effect.void)
            }
            waiting = look
            look()
          })
        resume(Effect.succeed({
          outgoing,
          events: {
            text: () => text,
            pause: () => {
              response.pause()
            },
            resume: () => {
              response.resume()
            },
            ended: until(() => over),
            next: (accept) =>
              Effect.gen(function*() {
                while (true) {
                  while (queue.length > 0) {
                    const data = queue.shift()
                    if (data !== undefined && accept(data)) return data
                  }
                  if (over) return yield* Effect.fail(new Error(`the stream ended: ${text.slice(-2000)}`))
                  yield* until(() => queue.length > 0 || over)
                }
              })
          }
        }))
      })
      outgoing.on("error", (error) => resume(Effect.fail(error)))
      outgoing.end()
    }),
    ({ outgoing }) => Effect.sync(() => outgoing.destroy())
  ).pipe(Effect.map(({ events }) => events))
