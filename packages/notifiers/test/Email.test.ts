import { assert, describe, it } from "@effect/vitest"
import { email, message } from "@etl-stream/notifiers/Email"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { generate } from "selfsigned"
import { SMTPServer, type SMTPServerOptions } from "smtp-server"
import * as Fixture from "./Fixture.ts"

interface Mail {
  readonly from: string | undefined
  readonly to: ReadonlyArray<string>
  readonly user: string | undefined
  readonly secure: boolean
  readonly text: string
}

interface Server {
  readonly port: number
  readonly mails: ReadonlyArray<Mail>
  /** Folder with `ca.pem`, the authority of the server's certificate. */
  readonly directory: string
}

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "notifiers-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const user = "etl"
const password = "a secret password"

const refusing = (code: number): Error => Object.assign(new Error("secret-reason"), { responseCode: code })

/** A real SMTP server with a certificate of its own for localhost. `refuse` gives an answer's code for the n-th message. */
const start = (
  options: SMTPServerOptions = {},
  refuse: (message: number) => number | undefined = () => undefined
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    const directory = yield* folder
    const { cert, private: key } = yield* Effect.promise(() =>
      generate([{ name: "commonName", value: "localhost" }], {
        algorithm: "sha256",
        keySize: 2048,
        extensions: [
          { name: "basicConstraints", cA: true },
          { name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }
        ]
      })
    )
    Fs.writeFileSync(join(directory, "ca.pem"), cert)
    const mails: Array<Mail> = []
    let came = 0
    const server = new SMTPServer({
      cert,
      key,
      authOptional: true,
      logger: false,
      onAuth: (auth, _, done) =>
        auth.username === user && auth.password === password
          ? done(null, { user })
          : done(Object.assign(new Error("no"), { responseCode: 535 })),
      onRcptTo: ({ address }, _, done) => done(address.startsWith("nobody@") ? refusing(550) : null),
      onData: (stream, session, done) => {
        let text = ""
        stream.setEncoding("utf8").on("data", (part: string) => text += part).on("end", () => {
          const code = refuse(came++)
          if (code !== undefined) return done(refusing(code))
          const { mailFrom, rcptTo } = session.envelope
          mails.push({
            from: mailFrom === false ? undefined : mailFrom.address,
            to: rcptTo.map(({ address }) => address),
            user: session.user,
            secure: session.secure,
            text
          })
          done()
        })
      },
      ...options
    })
    server.on("error", () => {})
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
        })
    )
    const { port } = server.server.address() as Net.AddressInfo // it listens on a port
    return { port, mails, directory }
  })

const options = (server: Server, more: Readonly<Record<string, unknown>> = {}) => ({
  host: "localhost",
  port: server.port,
  caFile: "ca.pem",
  from: "Orders ETL <etl@example.com>",
  to: ["ops@example.com", "boss@example.com"],
  retryFor: "200 millis",
  ...more
})

const notifierOf = (server: Server, more: Readonly<Record<string, unknown>> = {}) =>
  Fixture.make(email, options(server, more), server.directory)

const failureOf = (server: Server, more: Readonly<Record<string, unknown>> = {}) =>
  Effect.gen(function*() {
    const notifier = yield* notifierOf(server, more)
    const error = yield* Effect.flip(notifier.notify(Fixture.firing))
    assert.notMatch(JSON.stringify(error), /secret|example\.com|localhost/)
    assert.isUndefined(error.cause)
    return error
  })

describe("email", () => {
  it.live("sends over STARTTLS with a login, to everybody", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const notifier = yield* notifierOf(server, { auth: { user, password } })
      yield* notifier.notify(Fixture.quarantined)
      const [mail, ...others] = server.mails
      assert.strictEqual(others.length, 0)
      assert.deepInclude(mail, {
        from: "etl@example.com",
        to: ["ops@example.com", "boss@example.com"],
        user,
        secure: true
      })
      assert.match(mail?.text ?? "", /^From: Orders ETL <etl@example\.com>\r$/m)
      assert.match(
        mail?.text ?? "",
        /^Subject: \[etl-stream\] Critical: shop: the table public\.orders is in\r\n quarantine\r$/m
      )
      assert.match(mail?.text ?? "", /^Auto-Submitted: auto-generated\r$/m)
      assert.match(mail?.text ?? "", /^Table: public\.orders\r$/m)
    }))

  it.live("sends over TLS from the beginning", () =>
    Effect.gen(function*() {
      const server = yield* start({ secure: true })
      const notifier = yield* notifierOf(server, { tls: "implicit" })
      yield* notifier.notify(Fixture.firing)
      assert.deepStrictEqual(server.mails.map(({ secure }) => secure), [true])
    }))

  it.live("sends nothing to a server whose certificate isn't trusted, unless told to", () =>
    Effect.gen(function*() {
      for (const [secure, tls] of [[false, "starttls"], [true, "implicit"]] as const) {
        const server = yield* start({ secure })
        const { caFile: _, ...untrusting } = options(server, { tls, auth: { user, password } })
        const notifier = yield* Fixture.make(email, untrusting)
        assert.strictEqual((yield* Effect.flip(notifier.notify(Fixture.firing))).reason, "Misconfigured")
        assert.strictEqual(server.mails.length, 0)
        yield* (yield* Fixture.make(email, { ...untrusting, verify: false })).notify(Fixture.firing)
        assert.strictEqual(server.mails.length, 1)
      }
    }))

  it.live("sends nothing in the clear to a server without STARTTLS, unless told to", () =>
    Effect.gen(function*() {
      const server = yield* start({ disabledCommands: ["STARTTLS"] })
      assert.strictEqual((yield* failureOf(server)).reason, "Misconfigured")
      assert.strictEqual(server.mails.length, 0)
      yield* (yield* notifierOf(server, { tls: "none" })).notify(Fixture.firing)
      assert.deepStrictEqual(server.mails.map(({ secure }) => secure), [false])
    }))

  it.live("tries again what the server puts off, and not what it refuses", () =>
    Effect.gen(function*() {
      const server = yield* start({}, (message) => message === 0 ? 451 : undefined)
      yield* (yield* notifierOf(server, { retryFor: "10 seconds" })).notify(Fixture.firing)
      assert.strictEqual(server.mails.length, 1)
      let asked = 0
      const refusing = yield* start({}, () => {
        asked++
        return 554
      })
      assert.strictEqual((yield* failureOf(refusing, { retryFor: "10 seconds" })).reason, "Rejected")
      assert.strictEqual(asked, 1)
    }))

  it.live("says what is wrong with login, recipients, port and network", () =>
    Effect.gen(function*() {
      const server = yield* start()
      assert.strictEqual(
        (yield* failureOf(server, { auth: { user, password: "secret-wrong" } })).reason,
        "Unauthorized"
      )
      assert.strictEqual((yield* failureOf(server, { to: ["nobody@example.com"] })).reason, "Rejected")
      assert.strictEqual((yield* failureOf(server, { tls: "implicit" })).reason, "Misconfigured")
      // Nothing listens at port 1.
      assert.strictEqual((yield* failureOf(server, { port: 1 })).reason, "Unreachable")
      const missing = yield* Effect.flip(notifierOf(server, { caFile: "missing.pem" }))
      assert.include(missing.message, "caFile")
      assert.strictEqual(server.mails.length, 0)
    }))

  it.live("delivers to those that the server takes when it refuses others", () =>
    Effect.gen(function*() {
      const server = yield* start()
      yield* (yield* notifierOf(server, { to: ["ops@example.com", "nobody@example.com"] })).notify(Fixture.firing)
      assert.deepStrictEqual(server.mails.map(({ to }) => to), [["ops@example.com"]])
    }))

  it.live("gives up on a server that says nothing, and closes its connection then and when it is interrupted", () =>
    Effect.gen(function*() {
      let open = 0
      const changed = new Set<() => void>()
      const silent = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((socket) => {
            open++
            changed.forEach((look) => look())
            socket.on("error", () => {}).on("close", () => {
              open--
              changed.forEach((look) => look())
            }).resume()
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const connections = (count: number) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (open === count) resume(Effect.void)
          }
          changed.add(look)
          look()
          return Effect.sync(() => changed.delete(look))
        })
      const { port } = silent.address() as Net.AddressInfo // it listens on a port
      const settings = { host: "127.0.0.1", port, from: "etl@example.com", to: ["ops@example.com"] }
      const hasty = yield* Fixture.make(email, { ...settings, timeout: "200 millis", retryFor: "100 millis" })
      assert.strictEqual((yield* Effect.flip(hasty.notify(Fixture.firing))).reason, "Unreachable")
      yield* connections(0)
      const patient = yield* Fixture.make(email, { ...settings, timeout: "2 minutes" })
      const fiber = yield* Effect.forkChild(patient.notify(Fixture.firing))
      yield* connections(1)
      yield* Fiber.interrupt(fiber).pipe(Effect.timeout("5 seconds"))
      yield* connections(0)
    }))

  it("keeps subject and headers in one line, and an alert's mails in one conversation", () => {
    const { subject } = message([Fixture.hostile])
    assert.notMatch(subject, /[\r\n]/)
    assert.isAtMost(subject.length, 250)
    const [first, second, other] = [Fixture.firing, Fixture.resolved, Fixture.quarantined].map((told) =>
      message([told]).references
    )
    assert.strictEqual(first, second)
    assert.notStrictEqual(first, other)
  })

  it.effect("refuses options that can't work or aren't safe", () =>
    Effect.gen(function*() {
      const good = { host: "mail.example.com", from: "etl@example.com", to: ["ops@example.com"] }
      const cases: ReadonlyArray<readonly [Record<string, unknown>, RegExp]> = [
        [{ ...good, tls: "none", auth: { user, password: "secret-1" } }, /in the clear/],
        [{ ...good, to: [] }, /to/],
        [{ ...good, to: ["ops@example.com, secret-1@example.com"] }, /address/],
        [{ ...good, to: ["ops@example.com\r\nBcc: secret-1@example.com"] }, /address/],
        [{ ...good, from: "etl@example.com\r\nBcc: secret-1@example.com" }, /address/],
        [{ ...good, port: 70_000 }, /port/]
      ]
      for (const [options, says] of cases) {
        const message = yield* Fixture.refusal(email, options)
        assert.match(message, says)
        assert.notInclude(message, "secret-1")
      }
    }))
})
