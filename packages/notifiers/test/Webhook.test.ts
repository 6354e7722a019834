import { assert, describe, it } from "@effect/vitest"
import * as HttpDelivery from "@etl-stream/notifiers/HttpDelivery"
import * as Signature from "@etl-stream/notifiers/Signature"
import { webhook } from "@etl-stream/notifiers/Webhook"
import * as Receiver from "@etl-stream/testkit/HttpReceiver"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Https from "node:https"
import * as Net from "node:net"
import { generate } from "selfsigned"
import { Webhook as Verifier } from "standardwebhooks"
import * as Fixture from "./Fixture.ts"

const secret = `whsec_${Buffer.from("a key of twenty-four bytes").toString("base64")}`

/** Milliseconds in which a request that was refused is sent again at the earliest. */
const firstWait = 400

/** Checks a request with the specification's own library; throws when it isn't genuine. */
const verify = (key: string, { body, headers }: Receiver.ReceivedRequest, changed = body): unknown =>
  new Verifier(key, key.startsWith("whsec_") ? {} : { format: "raw" }).verify(changed, {
    "webhook-id": String(headers["webhook-id"]),
    "webhook-timestamp": String(headers["webhook-timestamp"]),
    "webhook-signature": String(headers["webhook-signature"])
  })

const only = (receiver: Receiver.HttpReceiver): Receiver.ReceivedRequest => {
  const [first, ...others] = receiver.requests
  assert.strictEqual(others.length, 0)
  if (first === undefined) throw new Error("Nothing came")
  return first
}

describe("webhook", () => {
  it.live("posts everything that is known as JSON, with the user's headers", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(webhook, {
        url: `${receiver.url}/hooks/etl?team=a`,
        headers: { Authorization: "Bearer the-token", "X-Team": "orders" }
      })
      yield* notifier.notify(Fixture.firing)
      const { body, headers, method, path } = only(receiver)
      assert.deepStrictEqual([method, path], ["POST", "/hooks/etl?team=a"])
      assert.include(headers, {
        "content-type": "application/json",
        authorization: "Bearer the-token",
        "x-team": "orders"
      })
      assert.isUndefined(headers["webhook-signature"])
      assert.deepStrictEqual(JSON.parse(body), {
        version: 1,
        id: headers["webhook-id"],
        type: "freshness",
        key: "etl-stream/pipeline/shop/freshness/0123456789ab",
        status: "firing",
        severity: "warning",
        title: "shop: the sink's data is older than allowed",
        body: "Look at the pipeline's log.",
        source: "shop",
        pipeline: "shop",
        table: null,
        size: { value: 360_000, unit: "ms" },
        threshold: { value: 300_000, unit: "ms" },
        duration: { value: 120_000, unit: "ms" },
        reminder: false,
        timestamp: "2026-01-02T03:04:05.000Z"
      })
    }))

  for (const key of [secret, "any text of sixteen bytes or more"]) {
    it.live(`signs so that the specification's own library accepts it, and nothing changed (${key.slice(0, 6)}…)`, () =>
      Effect.gen(function*() {
        const receiver = yield* Receiver.start
        const notifier = yield* Fixture.make(webhook, { url: receiver.url, secret: key })
        yield* notifier.notify(Fixture.quarantined)
        const request = only(receiver)
        assert.deepStrictEqual(verify(key, request), JSON.parse(request.body))
        assert.throws(() => verify(key, request, request.body.replace("critical", "info")))
        assert.throws(() => verify(`whsec_${Buffer.from("another key of 24 bytes!").toString("base64")}`, request))
      }))
  }

  it.live("is verified by what the documentation shows, which refuses what was changed or is old", () =>
    Effect.gen(function*() {
      const page = Fs.readFileSync(new URL("../../../docs/alerts.md", import.meta.url), "utf8")
      const code = /```js\n(.*?)```/s.exec(page)?.[1] ?? ""
      const shown: unknown = yield* Effect.promise(() =>
        import(`data:text/javascript;base64,${Buffer.from(code).toString("base64")}`)
      )
      // The page's own function; a wrong one fails below.
      const { isGenuine } = shown as { readonly isGenuine: (secret: string, headers: object, body: string) => boolean }
      const receiver = yield* Receiver.start
      for (const key of [secret, "any text of sixteen bytes or more"]) {
        yield* (yield* Fixture.make(webhook, { url: receiver.url, secret: key })).notify(Fixture.firing)
        const request = receiver.requests.at(-1)
        if (request === undefined) return assert.fail("a request")
        const { body, headers } = request
        assert.isTrue(isGenuine(key, headers, body))
        assert.isFalse(isGenuine(key, headers, body.replace("firing", "resolved")))
        assert.isFalse(isGenuine(`${key.slice(0, -4)}wxyz`, headers, body))
        const old = String(Math.floor(Date.now() / 1000) - 600)
        const replayed = Signature.headers(Signature.keyOf(key), String(headers["webhook-id"]), Number(old), body)
        assert.isFalse(isGenuine(key, replayed, body))
      }
    }))

  it.live("tries again after 429 and 500, not before Retry-After, with the same id and a signature of its own", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      receiver.script({ status: 429, headers: { "retry-after": "1" } }, { status: 500 })
      const notifier = yield* Fixture.make(webhook, { url: receiver.url, secret })
      yield* notifier.notify(Fixture.firing)
      const [first, second, third, ...others] = receiver.requests
      if (first === undefined || second === undefined || third === undefined) return assert.fail("three requests")
      assert.strictEqual(others.length, 0)
      assert.isAtLeast(second.at - first.at, 1000)
      assert.isAtLeast(third.at - second.at, firstWait)
      assert.strictEqual(new Set(receiver.requests.map(({ headers }) => headers["webhook-id"])).size, 1)
      for (const request of receiver.requests) verify(secret, request)
      assert.notStrictEqual(first.headers["webhook-signature"], second.headers["webhook-signature"])
    }))

  it.live("gives up at once when the other side asks for more patience than there is", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      receiver.script({ status: 429, headers: { "retry-after": "3600" } })
      const notifier = yield* Fixture.make(webhook, { url: receiver.url })
      const error = yield* Effect.flip(notifier.notify(Fixture.firing))
      assert.deepInclude(error, { reason: "Throttled", plugin: "@etl-stream/notifiers:webhook" })
      assert.strictEqual(receiver.requests.length, 1)
    }))

  it.live("gives up on a receiver that hangs or fails, after the time that the user allows", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      receiver.script(...Array.from({ length: 30 }, () => "hang" as const))
      const notifier = yield* Fixture.make(webhook, {
        url: receiver.url,
        timeout: "200 millis",
        retryFor: "3 seconds"
      })
      const began = Date.now()
      const error = yield* Effect.flip(notifier.notify(Fixture.firing))
      assert.deepInclude(error, { reason: "Unreachable", message: "The webhook's receiver gave no answer (ETIMEDOUT)" })
      assert.isAtLeast(receiver.requests.length, 2)
      assert.isBelow(Date.now() - began, 20_000)
    }))

  it.live("is interrupted at once while it waits for an answer", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      receiver.script("hang")
      const notifier = yield* Fixture.make(webhook, { url: receiver.url, timeout: "2 minutes" })
      const fiber = yield* Effect.forkChild(notifier.notify(Fixture.firing))
      yield* receiver.has(1)
      yield* Fiber.interrupt(fiber).pipe(Effect.timeout("5 seconds"))
    }))

  it.live("sends neither body nor headers to where it is redirected", () =>
    Effect.gen(function*() {
      const [receiver, other] = [yield* Receiver.start, yield* Receiver.start]
      receiver.script({ status: 307, headers: { location: `${other.url}/elsewhere` } })
      const notifier = yield* Fixture.make(webhook, { url: receiver.url, headers: { Authorization: "Bearer x" } })
      assert.strictEqual((yield* Effect.flip(notifier.notify(Fixture.firing))).reason, "Misconfigured")
      assert.strictEqual(other.requests.length, 0)
    }))

  it.live("says by the status what is wrong, and never what the answer or the URL says", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(webhook, {
        url: `${receiver.url}/secret-path?token=secret-token`,
        secret: "secret-signing-key",
        headers: { Authorization: "Bearer secret-header" }
      })
      for (
        const [status, reason] of [
          [400, "Rejected"],
          [401, "Unauthorized"],
          [403, "Forbidden"],
          [404, "Missing"],
          [410, "Missing"],
          [418, "Rejected"],
          [301, "Misconfigured"]
        ] as const
      ) {
        receiver.script({ status, body: "you sent secret-body" })
        const error = yield* Effect.flip(notifier.notify(Fixture.firing))
        assert.strictEqual(error.reason, reason, String(status))
        assert.notEqual(error.hint, "")
        assert.isUndefined(error.cause)
        assert.notMatch(JSON.stringify(error), /secret-|127\.0\.0\.1/)
      }
      assert.strictEqual(receiver.requests.length, 7)
    }))

  it.live("names neither host nor URL when nobody answers", () =>
    Effect.gen(function*() {
      // It has stopped listening when its scope ends.
      const { url } = yield* Effect.scoped(Receiver.start)
      const nobody = yield* Fixture.make(webhook, { url: `${url}/secret-path`, retryFor: "100 millis" })
      const refused = yield* Effect.flip(nobody.notify(Fixture.firing))
      assert.deepInclude(refused, {
        reason: "Unreachable",
        message: "The webhook's receiver gave no answer (ECONNREFUSED)"
      })
      const nowhere = yield* Fixture.make(webhook, { url: "https://secret-host.invalid/x", retryFor: "100 millis" })
      const unknown = yield* Effect.flip(nowhere.notify(Fixture.firing))
      for (const error of [refused, unknown]) {
        assert.strictEqual(error.reason, "Unreachable")
        assert.notMatch(JSON.stringify(error), /secret-/)
      }
    }))

  it.live("sends nothing to a server whose certificate isn't trusted", () =>
    Effect.gen(function*() {
      const { cert, private: key } = yield* Effect.promise(() => generate([{ name: "commonName", value: "localhost" }]))
      let requests = 0
      const server = yield* Effect.acquireRelease(
        Effect.callback<Https.Server>((resume) => {
          const server = Https.createServer({ cert, key }, (_, response) => {
            requests++
            response.end()
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = server.address() as Net.AddressInfo // it listens on a port
      const notifier = yield* Fixture.make(webhook, { url: `https://localhost:${port}/secret-path` })
      const error = yield* Effect.flip(notifier.notify(Fixture.firing))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.hint, "NODE_EXTRA_CA_CERTS")
      assert.notMatch(JSON.stringify(error), /secret-|localhost/)
      assert.strictEqual(requests, 0)
    }))

  it.live("fails when the connection is cut in the middle of an answer", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((socket) => {
            socket.on("error", () => {})
            socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"))
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = server.address() as Net.AddressInfo // it listens on a port
      const notifier = yield* Fixture.make(webhook, { url: `http://127.0.0.1:${port}`, retryFor: "100 millis" })
      assert.strictEqual((yield* Effect.flip(notifier.notify(Fixture.firing))).reason, "Unreachable")
    }))

  it.live("sends what exceeds the rate as one summary with all of it, signed too", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(webhook, { url: receiver.url, rate: "1 per second", secret })
      yield* Effect.forEach(
        [Fixture.firing, Fixture.quarantined, Fixture.resolved],
        (notification) => notifier.notify(notification),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(receiver.requests.length, 2)
      const [, summary] = receiver.requests
      if (summary === undefined) return assert.fail("a summary")
      const body = verify(secret, summary) as Record<string, unknown> // an object, by the next assertion
      assert.deepInclude(body, {
        type: "summary",
        status: "firing",
        severity: "critical",
        title: "2 notifications: 1 firing, 1 resolved"
      })
      assert.deepInclude((body["notifications"] as ReadonlyArray<unknown>)[0], { // a list, or this fails
        type: "table-quarantined",
        table: "public.orders"
      })
    }))

  it.effect("refuses options that can't work, without quoting them", () =>
    Effect.gen(function*() {
      const url = "https://hooks.example.com/x"
      const cases: ReadonlyArray<readonly [options: Record<string, unknown>, says: RegExp]> = [
        [{ url: "not a url secret-1" }, /expected a URL/i],
        [{ url: "ftp://secret-1.example.com" }, /expected a URL/i],
        [{ url: "https://user:secret-1@example.com" }, /without user and password/i],
        [{ url, secret: "secret-1" }, /at least 16 bytes/i],
        [{ url, secret: "whsec_not base64 secret-1" }, /base64/i],
        [{ url, headers: { "X-A": "secret-1\r\nX-B: c" } }, /printable ASCII/i],
        [{ url, headers: { "Webhook-Id": "secret-1" } }, /headers/i],
        [{ url, headers: { "bad name": "secret-1" } }, /headers/i],
        [{ url, rate: "10 an hour" }, /a rate such as/i],
        [{ url, timeout: "1 hour" }, /at most 2 minutes/i],
        [{ url, retryFor: "0 seconds" }, /above 0/i],
        [{ url, retires: 3 }, /retires/i]
      ]
      for (const [options, says] of cases) {
        const message = yield* Fixture.refusal(webhook, options)
        assert.match(message, says)
        assert.notInclude(message, "secret-1")
      }
    }))
})

describe("Retry-After", () => {
  it("is seconds or a date, and nothing else", () => {
    const now = Date.UTC(2026, 0, 1)
    assert.strictEqual(HttpDelivery.retryAfter("120", now), 120_000)
    assert.strictEqual(HttpDelivery.retryAfter("Thu, 01 Jan 2026 00:01:00 GMT", now), 60_000)
    assert.strictEqual(HttpDelivery.retryAfter("Wed, 31 Dec 2025 00:00:00 GMT", now), 0)
    for (const header of [null, "", "-1", "1.5", "soon", "99999999999999"]) {
      assert.isUndefined(HttpDelivery.retryAfter(header, now), String(header))
    }
  })
})
