import { assert, describe, it } from "@effect/vitest"
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Element } from "@etl-stream/core/Element"
import * as Guard from "@etl-stream/runner/api/Guard"
import * as Mailbox from "@etl-stream/runner/api/Mailbox"
import * as Server from "@etl-stream/runner/api/Server"
import * as Tap from "@etl-stream/runner/api/Tap"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { events, fields, request } from "./HttpRequest.ts"
import { type Double, double, elementsOf, scoped, start, stateStage } from "./SupervisorFixture.ts"

const noFailure: Effect.Effect<string | undefined> = Effect.undefined

/** The API over pipelines that the test holds in its hands, in this process. */
const serve = Effect.fnUntraced(function*(
  doubles: ReadonlyArray<Double>,
  lookEvery: Duration.Duration,
  stuck = noFailure
) {
  const supervisor = yield* start(doubles)
  let stopping = false
  const url = yield* Server.serve({
    host: "127.0.0.1",
    port: 0,
    token: undefined,
    hosts: [],
    tapValues: false,
    supervisor: { ...supervisor, stuck },
    redact: (text) => text.replaceAll("secret", "<redacted>"),
    state: stateStage,
    directory: "/",
    isStopping: () => stopping,
    lookEvery,
    monitors: () => [{
      name: "wal",
      status: { slots: 1 },
      conditions: [{ name: "late", severity: "warning", message: "a secret", hint: "Wait.", since: 0 }]
    }]
  })
  return { supervisor, url, beginStopping: () => stopping = true }
})

describe("event streams", () => {
  it.live(
    "a client that doesn't read loses events and is told how many, and nothing grows for it",
    () =>
      scoped(Effect.gen(function*() {
        const doubles = Array.from({ length: 40 }, (_, index) => double(`p${index}`, { status: "paused" }))
        const { url } = yield* serve(doubles, Duration.millis(5))
        const slow = yield* events(`${url}/v1/events`)
        const quick = yield* events(`${url}/v1/pipelines/p0/events`)
        yield* slow.next(({ type }) => type === "progress")
        slow.pause()
        setFlagsFromString("--expose-gc")
        const collect: unknown = runInNewContext("gc")
        /** What is really held, garbage taken away. */
        const held = () => {
          // What the first finds to be garbage may hold more, until the second.
          if (typeof collect === "function") { for (let n = 0; n < 2; n++) collect() }
          const { arrayBuffers, heapUsed } = process.memoryUsage()
          return heapUsed + arrayBuffers
        }
        let bytes = 0
        /** So much passes, which another client gets all of. */
        const pass = Effect.fnUntraced(function*(more: number) {
          const end = bytes + more
          while (bytes < end) {
            const event = yield* quick.next(({ type }) => type === "progress")
            bytes += JSON.stringify(event).length * doubles.length
          }
        })
        // More than any buffers take: from then on nothing more may be held.
        yield* pass(16 * 1024 * 1024)
        const before = held()
        yield* pass(12 * 1024 * 1024)
        assert.isBelow(held() - before, 4 * 1024 * 1024)
        slow.resume()
        const lost = yield* slow.next(({ type }) => type === "lost")
        assert.isAbove(Number(lost["events"]), 1000)
        yield* slow.next(({ type }) => type === "progress")
      })),
    120_000
  )

  it.live("only so many are open at a time, and a closed one makes room", () =>
    scoped(Effect.gen(function*() {
      const { url } = yield* serve([double("one")], Duration.millis(20))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.forEach(Array.from({ length: 64 }), () => events(`${url}/v1/pipelines/one/tap`))
        const refused = yield* request(`${url}/v1/events`)
        assert.deepStrictEqual([refused.status, fields(refused)["code"]], [503, "TooManyStreams"])
      }))
      // The server sees a little later that the clients are gone.
      yield* Effect.retry(Effect.scoped(events(`${url}/v1/events`)), {
        times: 500,
        schedule: Schedule.spaced("20 millis")
      })
    })))

  it.live("dead letters are told without the values in them, so many at a time", () =>
    scoped(Effect.gen(function*() {
      const letters = Array.from({ length: 5 }, (_, index): DeadLetter => ({
        id: `letter-${index}`,
        pipeline: "one",
        table: index < 3 ? "public.a" : "public.b",
        sequence: "0/1",
        operation: "insert",
        commitTime: "2026-01-01T00:00:00.000000Z",
        row: "confidential row",
        identity: "Key",
        key: [],
        column: { name: "c", target: "C", type: "NUMBER" },
        reason: "is too large",
        values: { c: "confidential value" },
        unsent: [],
        at: "2026-01-01T00:00:00.000Z"
      }))
      const { url } = yield* serve([double("one", { letters })], Duration.millis(20))
      const ask = (query: string) => request(`${url}/v1/pipelines/one/dead-letters${query}`)
      const ids = (answer: unknown) =>
        (answer as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id.slice(-1)).join("") // as the API says
      const all = yield* ask("")
      assert.deepStrictEqual([ids(fields(all)["letters"]), fields(all)["more"]], ["01234", false])
      assert.notInclude(all.text, "confidential")
      const some = fields(yield* ask("?limit=2&table=public.a"))
      assert.deepStrictEqual([ids(some["letters"]), some["more"]], ["01", true])
      assert.strictEqual(ids(fields(yield* ask("?table=public.b"))["letters"]), "34")
      assert.strictEqual(fields(yield* ask("?table=b"))["code"], "InvalidTable")
    })))

  it.live("a process whose supervisor is stuck is neither alive nor ready, and says why", () =>
    scoped(Effect.gen(function*() {
      const { url } = yield* serve([double("one")], Duration.millis(20), Effect.succeed("it doesn't move"))
      assert.deepInclude(yield* request(`${url}/livez`), { status: 503, text: "stuck: it doesn't move\n" })
      const ready = yield* request(`${url}/readyz?verbose`)
      assert.strictEqual(ready.status, 503)
      assert.match(ready.text, /^\[-\] supervisor it doesn't move$/m)
    })))

  it.live("monitors are shown without secrets; a process that is being stopped isn't ready", () =>
    scoped(Effect.gen(function*() {
      const { beginStopping, url } = yield* serve([double("one")], Duration.millis(20))
      const monitors = yield* request(`${url}/v1/monitors`)
      assert.include(monitors.text, "a <redacted>")
      assert.deepInclude(fields(monitors)["monitors"], {
        name: "wal",
        status: { slots: 1 },
        conditions: [{
          name: "late",
          severity: "warning",
          table: null,
          message: "a <redacted>",
          hint: "Wait.",
          since: "1970-01-01T00:00:00.000Z"
        }]
      })
      assert.strictEqual((yield* request(`${url}/readyz`)).status, 200)
      beginStopping()
      assert.deepInclude(yield* request(`${url}/readyz`), { status: 503, text: "stopping\n" })
      assert.strictEqual((yield* request(`${url}/livez`)).status, 200)
    })))
})

describe("Mailbox", () => {
  it.effect("keeps the newest, says how many it gave up, and ends when it is closed", () =>
    Effect.gen(function*() {
      const mailbox = Mailbox.make<number>(3)
      for (let item = 1; item <= 8; item++) mailbox.offer(item)
      assert.strictEqual(mailbox.size(), 3)
      assert.deepStrictEqual(yield* mailbox.take, { lost: 5, items: [6, 7, 8] })
      const waiting = yield* Effect.forkChild(mailbox.take, { startImmediately: true })
      mailbox.offer(9)
      assert.deepStrictEqual(yield* Fiber.join(waiting), { lost: 0, items: [9] })
      mailbox.close()
      mailbox.offer(10)
      assert.isUndefined(yield* mailbox.take)
    }))
})

describe("Tap", () => {
  const tapped = (options: { readonly table?: string; readonly values?: boolean } = {}) => {
    let now = 0
    const tap = Tap.make({ table: options.table, values: options.values ?? false, now: () => now, capacity: 1000 })
    return { ...tap, at: (millis: number) => now = millis }
  }

  it.effect("shows what elements are about, and no value of any", () =>
    Effect.gen(function*() {
      const { mailbox, see } = tapped()
      const all: ReadonlyArray<Element> = elementsOf(4711)
      for (const element of all) see(element)
      const taken = yield* mailbox.take
      assert.deepStrictEqual(taken?.items.map((item) => item.type === "element" ? item.element : item.type), [
        "SnapshotBegin",
        "SnapshotEnd",
        "Rows",
        "Watermark",
        "Message"
      ])
      const text = JSON.stringify(taken)
      assert.include(text, "\"columns\":[\"n\"]")
      assert.include(text, "\"operations\":{\"insert\":1}")
      // The commit of the row is its value, too, and is in its sequence as hexadecimal.
      assert.notInclude(text, "4711")
      assert.notInclude(text, "told in confidence")
      const open = tapped({ values: true })
      for (const element of all) open.see(element)
      assert.include(JSON.stringify(yield* open.mailbox.take), "\"values\":[{\"n\":\"4711\"}]")
    }))

  it.effect("takes so many a second and counts the rest; other tables don't count", () =>
    Effect.gen(function*() {
      const { at, mailbox, see } = tapped({ table: "public.numbers" })
      const [rows, watermark] = [elementsOf(1)[2], elementsOf(1)[3]]
      if (rows === undefined || watermark === undefined) throw new Error("there are such elements")
      for (let n = 0; n < 100; n++) {
        see(rows)
        see(watermark)
      }
      at(1000)
      see(rows)
      const items = (yield* mailbox.take)?.items ?? []
      assert.strictEqual(items.length, 22)
      assert.deepInclude(items[20], { type: "lost", events: 80 })
      assert.isTrue(items.every((item) => item.type === "lost" || item.element === "Rows"))
    }))
})

describe("Guard", () => {
  const token = Redacted.make("a-token-of-more-than-24-characters")
  const status = (headers: Record<string, string>, url = "/v1/pipelines", loopback = true) =>
    Guard.refusal({ token, loopback, hosts: [] }, { headers, url })?.status

  it("compares tokens of any length, and nothing but bearer tokens", () => {
    const good = { host: "localhost", authorization: `Bearer ${Redacted.value(token)}` }
    assert.isUndefined(status(good))
    assert.isUndefined(status({ ...good, authorization: good.authorization.replace("Bearer", "bearer ") }))
    for (
      const authorization of [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        `Bearer ${"x".repeat(100_000)}`,
        Redacted.value(token)
      ]
    ) {
      assert.strictEqual(status({ ...good, authorization }), 401, authorization.slice(0, 50))
    }
  })

  it("doesn't let a path look like an open one", () => {
    for (
      const url of ["/livez/", "/livez/../v1/pipelines", "//livez", "/readyz?verbose", "/livez?x", "/LIVEZ", "/%6civez"]
    ) {
      assert.strictEqual(status({ host: "localhost" }, url), 401, url)
    }
    assert.isUndefined(status({ host: "localhost" }, "/livez"))
  })

  it("asks for no host of its own when it can be reached from elsewhere, but for a token always", () => {
    const authorization = `Bearer ${Redacted.value(token)}`
    assert.isUndefined(status({ host: "etl.example", authorization }, "/v1/pipelines", false))
    assert.strictEqual(status({ host: "etl.example" }, "/v1/pipelines", false), 401)
    assert.strictEqual(
      status({ host: "etl.example", authorization, origin: "http://other.example" }, "/v1/pipelines", false),
      403
    )
  })
})
