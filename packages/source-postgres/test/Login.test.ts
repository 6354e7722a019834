import { assert, describe, layer } from "@effect/vitest"
import { authority, encrypted } from "@etl-stream/testkit/Certificate"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import * as Config from "../src/Config.ts"
import { Surroundings } from "../src/ConnectionOptions.ts"
import * as Connections from "../src/Connections.ts"
import type * as PasswordProvider from "../src/PasswordProvider.ts"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import type * as SourceRun from "./SourceRun.ts"

const root = authority("test authority")
const password = "s3cret-päss"

/** A server with TLS that asks each role in another way. */
class Server extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("source-postgres/test/Login") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      const server = root.issue({ name: "server", host: "localhost" })
      yield* pg.query(`CREATE ROLE scram LOGIN REPLICATION PASSWORD '${password}'`)
      yield* pg.query(`CREATE ROLE changing LOGIN REPLICATION PASSWORD '${password}'`)
      yield* pg.query(`CREATE ROLE cleartext LOGIN PASSWORD '${password}'`)
      yield* pg.query("CREATE ROLE trusting LOGIN; CREATE ROLE certified LOGIN REPLICATION")
      yield* pg.query(`CREATE ROLE twofold LOGIN PASSWORD '${password}'`)
      yield* pg.query(
        `BEGIN; SET LOCAL password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD '${password}'; COMMIT`
      )
      yield* Effect.promise(async () => {
        const owner = await fs.stat(pg.dataDir)
        const write = async (name: string, content: string): Promise<void> => {
          const file = path.join(pg.dataDir, name)
          await fs.writeFile(file, content, { mode: 0o600 })
          await fs.chmod(file, 0o600)
          await fs.chown(file, owner.uid, owner.gid)
        }
        await write("server.crt", server.certificate)
        await write("server.key", server.key)
        await write("root.crt", root.certificate)
        await write(
          "pg_hba.conf",
          [
            "host all cleartext all password",
            "host all md5 all md5",
            "host all trusting all trust",
            "hostssl all certified all cert",
            "hostssl all twofold all scram-sha-256 clientcert=verify-full",
            "host all all all scram-sha-256",
            ""
          ].join("\n")
        )
      })
      yield* pg.restart({ ssl: "on", ssl_ca_file: "root.crt", listen_addresses: "127.0.0.1" })
      return pg
    }).pipe(Effect.orDie)
  )
}

const settings = (options: SourceRun.Options, directory = ".") =>
  Effect.flatMap(
    Effect.orDie(
      Schema.decodeUnknownEffect(Config.Config)(options, { errors: "all", onExcessProperty: "error" })
    ),
    (config) => Config.resolve(config, { pipeline: "login", directory })
  ).pipe(Effect.provideService(Surroundings, { environment: {}, home: "/nowhere" }))

const Session = Schema.Struct({ user: Schema.String, ssl: Schema.Boolean })

const whoami =
  "SELECT usename::text AS user, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()"

/** Logs in over the pool and for replication, and tells as whom. */
const logIn = Effect.fnUntraced(function*(options: SourceRun.Options, directory?: string) {
  const pg = yield* Server
  const connections = yield* Connections.make(
    yield* settings({ host: "localhost", port: pg.port, database: "postgres", ...options }, directory)
  )
  const [session] = yield* connections.query("asking who we are", Session, whoami)
  return session
}, Effect.scoped)

const replicate = Effect.fnUntraced(function*(options: SourceRun.Options) {
  const pg = yield* Server
  const connections = yield* Connections.make(
    yield* settings({ host: "localhost", port: pg.port, database: "postgres", ...options })
  )
  const { client } = yield* connections.open("replication", ReplicationConnection.connect)
  const { rows } = yield* Effect.promise(() => client.query<{ readonly user: string; readonly ssl: boolean }>(whoami))
  return rows[0]
}, Effect.scoped)

const tls = { mode: "verify-full", ca: root.certificate }

const refused = (options: SourceRun.Options, directory?: string) =>
  Effect.tap(Effect.flip(logIn(options, directory)), (error) =>
    Effect.sync(() => {
      assert.notInclude(JSON.stringify(error) + error.message + error.hint, password)
    }))

layer(Server.layer, { excludeTestServices: true })("Logging in", (it) => {
  describe("with a password", () => {
    it.effect("SCRAM works with and without TLS, and bound to the TLS connection", () =>
      Effect.gen(function*() {
        const plain = { user: "scram", password }
        assert.deepStrictEqual(yield* logIn(plain), { user: "scram", ssl: false })
        assert.deepStrictEqual(yield* logIn({ ...plain, requireAuth: "scram-sha-256" }), { user: "scram", ssl: false })
        for (const channelBinding of ["require", "prefer", "disable"]) {
          const options = { ...plain, tls, channelBinding }
          assert.deepStrictEqual(yield* logIn(options), { user: "scram", ssl: true })
          assert.deepStrictEqual(yield* replicate(options), { user: "scram", ssl: true })
        }
      }))

    it.effect("a wrong or missing password is an error that says so", () =>
      Effect.gen(function*() {
        for (const user of ["scram", "cleartext", "md5"]) {
          const wrong = yield* refused({ user, password: "wrong" })
          assert.strictEqual(wrong.reason, "Unauthorized")
          assert.match(wrong.message, /password authentication failed.*28P01/)
          const missing = yield* refused({ user })
          assert.strictEqual(missing.reason, "Unauthorized")
          assert.match(missing.message, /asks for a password, and there is none for user/)
        }
      }))

    it.effect("a login that can't be bound is refused where binding is required", () =>
      Effect.gen(function*() {
        const error = yield* refused({ user: "scram", password, channelBinding: "require" })
        assert.match(error.message, /channel binding is required while TLS is off/)
        for (const user of ["cleartext", "md5", "trusting"]) {
          const refusal = yield* refused({ user, password, tls, channelBinding: "require" })
          assert.strictEqual(refusal.reason, "Misconfigured")
          assert.match(refusal.message, /can't be bound to the TLS connection/)
        }
      }))

    it.effect("a password is never given away over a plain connection to another machine", () =>
      Effect.gen(function*() {
        // An address that leads here, but not one of those that are known to.
        const remote = { host: "0.0.0.0", tls: { mode: "disable" }, password }
        for (const user of ["cleartext", "md5"]) {
          const error = yield* refused({ ...remote, user })
          assert.strictEqual(error.reason, "Misconfigured")
          assert.match(error.message, /over a connection that anybody in between can read/)
          assert.match(error.hint, /tls\.mode to verify-full/)
          const allowed = user === "md5" ? "md5" : "password"
          assert.deepStrictEqual(yield* logIn({ ...remote, user, requireAuth: allowed }), { user, ssl: false })
          assert.deepStrictEqual(yield* logIn({ user, password }), { user, ssl: false })
          assert.deepStrictEqual(yield* logIn({ user, password, tls }), { user, ssl: true })
        }
        assert.deepStrictEqual(yield* logIn({ ...remote, user: "scram" }), { user: "scram", ssl: false })
      }))

    it.effect("only the ways that requireAuth allows are answered", () =>
      Effect.gen(function*() {
        for (
          const [user, requireAuth] of [
            ["trusting", "scram-sha-256"],
            ["trusting", "!none"],
            ["cleartext", "scram-sha-256,md5"],
            ["md5", "!md5"],
            ["scram", "none"]
          ]
        ) {
          const error = yield* refused({ user, password, requireAuth })
          assert.match(error.message, /which requireAuth doesn't allow/)
        }
        assert.deepStrictEqual(yield* logIn({ user: "trusting", requireAuth: "none" }), {
          user: "trusting",
          ssl: false
        })
        assert.deepStrictEqual(yield* logIn({ user: "md5", password, requireAuth: "!password" }), {
          user: "md5",
          ssl: false
        })
      }))
  })

  describe("with a client certificate", () => {
    it.effect("the certificate is given for the pool and for replication, and its key may be encrypted", () =>
      Effect.gen(function*() {
        const { certificate, key } = root.issue({ name: "certified" })
        const options = { user: "certified", tls: { ...tls, cert: certificate, key } }
        assert.deepStrictEqual(yield* logIn(options), { user: "certified", ssl: true })
        assert.deepStrictEqual(yield* replicate(options), { user: "certified", ssl: true })
        const locked = { ...tls, cert: certificate, key: encrypted(key, password), keyPassword: password }
        assert.deepStrictEqual(yield* logIn({ user: "certified", tls: locked }), { user: "certified", ssl: true })
        const both = root.issue({ name: "twofold" })
        assert.deepStrictEqual(
          yield* logIn({ user: "twofold", password, tls: { ...tls, cert: both.certificate, key: both.key } }),
          { user: "twofold", ssl: true }
        )
      }))

    it.effect("a missing, foreign, expired or unusable certificate is an error that says what is wrong", () =>
      Effect.gen(function*() {
        const good = root.issue({ name: "certified" })
        const missing = yield* refused({ user: "certified", tls })
        assert.strictEqual(missing.reason, "Unauthorized")
        assert.match(missing.message, /requires a valid client certificate/)
        const other = root.issue({ name: "somebody" })
        const mismatch = yield* refused({ user: "certified", tls: { ...tls, cert: other.certificate, key: other.key } })
        assert.strictEqual(mismatch.reason, "Unauthorized")
        for (
          const { certificate, key } of [
            authority("another").issue({ name: "certified" }),
            root.issue({ name: "certified", expired: true })
          ]
        ) {
          const error = yield* refused({ user: "certified", tls: { ...tls, cert: certificate, key } })
          assert.strictEqual(error.reason, "Misconfigured", error.message)
          assert.match(error.message, /the server refuses the client certificate/)
          assert.match(error.hint, /ssl_ca_file/)
        }
        for (
          const files of [
            { cert: good.certificate, key: other.key },
            { cert: good.certificate, key: encrypted(good.key, "x"), keyPassword: password },
            { cert: good.certificate, key: "no key" }
          ]
        ) {
          const error = yield* refused({ user: "certified", tls: { ...tls, ...files } })
          assert.strictEqual(error.reason, "Misconfigured", error.message)
          assert.match(error.message, /can't be used/)
        }
        const keyless = yield* refused({ user: "certified", tls: { ...tls, cert: good.certificate } })
        assert.match(keyless.message, /not its key/)
      }))
  })

  describe("with a password that changes", () => {
    const folder = Effect.acquireRelease(
      Effect.promise(() => fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-login-"))),
      (made) => Effect.promise(() => fs.rm(made, { recursive: true, force: true }))
    )

    const token = (text: string) =>
      Effect.flatMap(Server, (pg) => Effect.orDie(pg.query(`ALTER ROLE changing PASSWORD '${text}'`)))

    it.effect("a command is asked for each connection", () =>
      Effect.gen(function*() {
        const directory = yield* folder
        const write = (text: string) => Effect.promise(() => fs.writeFile(path.join(directory, "token"), `${text}\n`))
        const script = "process.stdout.write(require('fs').readFileSync('token', 'utf8'))"
        const options = { user: "changing", password: { command: [process.execPath, "-e", script] } }
        const pg = yield* Server
        const connections = yield* Connections.make(
          yield* settings({ host: "localhost", port: pg.port, database: "postgres", ...options }, directory)
        )
        for (const text of ["first", "second"]) {
          yield* write(text)
          yield* token(text)
          for (const purpose of ["copy", "replication"] as const) {
            yield* Effect.scoped(connections.client(purpose))
            yield* Effect.scoped(connections.open(purpose, ReplicationConnection.connect))
          }
        }
        yield* token("third")
        const error = yield* Effect.flip(Effect.scoped(connections.client("copy")))
        assert.strictEqual(error.reason, "Unauthorized")
        assert.notInclude(error.message + error.hint, "second")
      }))

    it.effect("a kept password that the server refuses is asked for anew, and one that has expired isn't used", () =>
      Effect.gen(function*() {
        const directory = yield* folder
        const pg = yield* Server
        yield* Effect.promise(() =>
          fs.writeFile(
            path.join(directory, "token.mjs"),
            "export const calls = []\n" +
              "export const state = { token: '', expires: undefined }\n" +
              "export const give = async (request) => {\n" +
              "  calls.push(request)\n" +
              "  return { password: state.token, expires: state.expires }\n" +
              "}\n"
          )
        )
        interface Shared {
          readonly calls: ReadonlyArray<PasswordProvider.Request>
          readonly state: { token: string; expires: number | undefined }
        }
        const shared: Shared = yield* Effect.promise(() => import(path.join(directory, "token.mjs")))
        const connections = yield* Connections.make(
          yield* settings({
            host: "localhost",
            port: pg.port,
            database: "postgres",
            user: "changing",
            password: { module: "./token.mjs", export: "give" }
          }, directory)
        )
        const connect = Effect.scoped(connections.client("copy"))
        shared.state.token = "fourth"
        shared.state.expires = Date.now() + 3_600_000
        yield* token("fourth")
        yield* connect
        yield* connect
        assert.lengthOf(shared.calls, 1)
        const { signal, ...request } = shared.calls[0] ?? assert.fail("it was not called")
        assert.isFalse(signal.aborted)
        assert.deepStrictEqual(request, { host: "localhost", port: pg.port, user: "changing", database: "postgres" })
        // It is revoked before its time.
        shared.state.token = "fifth"
        yield* token("fifth")
        yield* connect
        assert.lengthOf(shared.calls, 2)
        // From now on they have expired when they come.
        shared.state.expires = Date.now() - 1
        shared.state.token = "sixth"
        yield* token("sixth")
        yield* connect
        yield* connect
        yield* connect
        assert.lengthOf(shared.calls, 5)
      }))

    it.effect(
      "a command or module that fails, hangs or gives nothing is an error without what it wrote",
      () =>
        Effect.gen(function*() {
          const directory = yield* folder
          const node = (script: string) => ({ command: [process.execPath, "-e", script], timeout: "2 seconds" })
          const modules = {
            "throws.mjs": `export default () => { throw new Error("${password}") }`,
            "hangs.mjs": "export default () => new Promise(() => {})",
            "empty.mjs": "export default async () => ''",
            "none.mjs": "export const other = 1",
            "broken.mjs": `export default ${password}`
          }
          for (const [name, text] of Object.entries(modules)) {
            yield* Effect.promise(() => fs.writeFile(path.join(directory, name), text))
          }
          for (
            const [provider, reason, text] of [
              [node(`console.error("${password}"); process.exit(3)`), "Unreachable", /ended with exit code 3/],
              [
                node("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 60000)"),
                "Unreachable",
                /ended with SIGTERM/
              ],
              [node(""), "Unreachable", /printed nothing/],
              [node(`console.log("${password}\\n${password}")`), "Unreachable", /more than one line/],
              [node(`process.stdout.write("${password}".repeat(100000))`), "Unreachable", /printed more than/],
              [{ command: ["./missing"] }, "Misconfigured", /can't be run: ENOENT/],
              [
                { ...node("setTimeout(() => {}, 60000)"), timeout: "200 millis" },
                "Unreachable",
                /no password within 200ms/
              ],
              [{ module: "./throws.mjs" }, "Unreachable", /throws\.mjs failed: Error/],
              [{ module: "./hangs.mjs", timeout: "200 millis" }, "Unreachable", /no password within 200ms/],
              [{ module: "./empty.mjs" }, "Misconfigured", /gave no password/],
              [{ module: "./none.mjs" }, "Misconfigured", /exports no function default/],
              [{ module: "./broken.mjs" }, "Misconfigured", /can't be loaded: /],
              [{ module: "./missing.mjs" }, "Misconfigured", /can't be loaded: ERR_MODULE_NOT_FOUND/]
            ] as const
          ) {
            const error = yield* refused({ user: "changing", password: provider }, directory)
            assert.strictEqual(error.reason, reason, error.message)
            assert.match(error.message, text)
          }
        }),
      30_000
    )
  })
})
