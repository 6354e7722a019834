import { assert, describe, it } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as ConnectionOptions from "../src/ConnectionOptions.ts"

const Options = Schema.Struct(ConnectionOptions.fields).check(Schema.makeFilter(ConnectionOptions.problem))

interface World {
  readonly environment?: Readonly<Record<string, string>>
  readonly home?: string
  readonly directory?: string
}

const load = (options: unknown, { directory = "/nowhere", environment = {}, home = "/nowhere" }: World = {}) =>
  Effect.orDie(Schema.decodeUnknownEffect(Options)(options, { errors: "all", onExcessProperty: "error" })).pipe(
    Effect.flatMap((decoded) => ConnectionOptions.load(decoded, directory)),
    Effect.provideService(ConnectionOptions.Surroundings, { environment, home }),
    Effect.provideService(References.MinimumLogLevel, "None")
  )

const loaded = (options: unknown, world?: World): ConnectionOptions.Connection => Effect.runSync(load(options, world))

const failure = (options: unknown, world?: World): ConnectorError => Effect.runSync(Effect.flip(load(options, world)))

const passwordOf = (
  { endpoint, password }: ConnectionOptions.Connection,
  host = endpoint.hosts[0]
): string | undefined => {
  const answer = Effect.runSync(password.get(endpoint, host))
  return answer.password === undefined ? undefined : Redacted.value(answer.password)
}

/** A folder with files, gone with the scope. */
const folder = (files: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const made = fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-options-"))
      for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(made, name), text, { mode: 0o600 })
      return made
    }),
    (made) => Effect.sync(() => fs.rmSync(made, { recursive: true, force: true }))
  )

describe("Options about the connection", () => {
  it("what is written nearer comes first: options, connection string, service, environment, defaults", () =>
    Effect.runSync(Effect.scoped(Effect.gen(function*() {
      const home = yield* folder({
        ".pg_service.conf": "[shop]\nhost=service-host\nport=3\ndbname=service-db\napplication_name=service-app\n"
      })
      const environment = {
        PGHOST: "e",
        PGPORT: "4",
        PGDATABASE: "e",
        PGAPPNAME: "e",
        PGUSER: "env-user",
        PGCONNECT_TIMEOUT: "7"
      }
      const all = loaded(
        { host: "option-host", url: "postgresql://@/?port=2&service=shop", environment: true },
        { home, environment }
      )
      assert.deepStrictEqual(all.endpoint, {
        hosts: [{ name: "option-host", address: undefined, port: 2 }],
        user: "env-user",
        database: "service-db"
      })
      assert.strictEqual(all.applicationName, "service-app")
      assert.strictEqual(Duration.toSeconds(all.connectTimeout), 7)
      const plain = loaded({ user: "me" }, { environment })
      assert.deepStrictEqual(plain.endpoint, {
        hosts: [{ name: "localhost", address: undefined, port: 5432 }],
        user: "me",
        database: "me"
      })
      assert.strictEqual(Duration.toSeconds(plain.connectTimeout), 10)
    }))))

  it("the environment counts only when it is asked for", () => {
    const environment = {
      PGHOST: "h",
      PGUSER: "u",
      PGPASSWORD: "p",
      PGSSLMODE: "require",
      PGTARGETSESSIONATTRS: "primary"
    }
    const without = loaded({ user: "me" }, { environment })
    assert.strictEqual(without.endpoint.hosts[0].name, "localhost")
    assert.isUndefined(passwordOf(without))
    const withIt = loaded({ environment: true }, { environment })
    assert.strictEqual(passwordOf(withIt), "p")
    assert.strictEqual(withIt.tls.mode, "require")
    assert.strictEqual(withIt.targetSession, "primary")
    assert.match(failure({ environment: true }).message, /there is no user: neither in the options nor in PGUSER/)
    const wrong = failure({ environment: true }, { environment: { PGUSER: "u", PGSSLMODE: "prefer" } })
    assert.match(wrong.message, /variable PGSSLMODE can't be prefer/)
  })

  it("the server's certificate is checked unless it is on this machine or the user says otherwise", () => {
    const mode = (options: unknown): string => loaded(options).tls.mode
    const url = "postgresql://u@db.example.com/d"
    assert.strictEqual(mode({ url }), "verify-full")
    for (const host of ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"]) {
      assert.strictEqual(mode({ url: `postgres://u@${host}/d` }), "disable")
    }
    assert.strictEqual(mode({ host: "/var/run/postgresql", user: "u" }), "disable")
    for (const host of ["127.0.0.1.example.com", "localhost,db.example.com", "db.example.com,localhost"]) {
      assert.strictEqual(mode({ url: `postgres://u@${host}/d` }), "verify-full")
    }
    assert.strictEqual(mode({ url: "postgres://u@localhost/d?hostaddr=10.0.0.1" }), "verify-full")
    assert.strictEqual(mode({ url: `${url}?sslmode=require` }), "require")
    assert.strictEqual(mode({ url: `${url}?sslmode=require`, tls: { ca: "x" } }), "verify-ca")
    assert.strictEqual(mode({ url: `${url}?sslmode=verify-ca`, tls: { ca: "x" } }), "verify-ca")
    assert.strictEqual(mode({ url: `${url}?sslmode=require`, tls: { mode: "disable" } }), "disable")
    assert.strictEqual(mode({ url: "postgres://u@localhost/d?sslrootcert=system" }), "verify-full")
    for (const sslmode of ["verify-ca", "require&sslrootcert=system"]) {
      assert.match(failure({ url: `${url}?sslmode=${sslmode}` }).message, /would accept anybody's certificate/)
    }
  })

  it("files are read beside the configuration, and a missing one is named", () =>
    Effect.runSync(Effect.scoped(Effect.gen(function*() {
      const directory = yield* folder({ "ca.pem": "CA", "me.crt": "CERT", "me.key": "KEY", "gone.crl": "CRL" })
      const url =
        "postgres://u@h/d?sslrootcert=ca.pem&sslcert=./me.crt&sslkey=me.key&sslpassword=s3cret&sslcrl=gone.crl"
      const { tls } = loaded({ url }, { directory })
      assert.deepInclude(tls, { mode: "verify-full", ca: "CA", cert: "CERT", crl: "CRL", negotiation: "postgres" })
      assert.strictEqual(tls.key === undefined ? "" : Redacted.value(tls.key), "KEY")
      assert.strictEqual(tls.keyPassword === undefined ? "" : Redacted.value(tls.keyPassword), "s3cret")
      assert.isUndefined(loaded({ url: `${url}&sslcertmode=disable` }, { directory }).tls.cert)
      const missing = failure({ url: "postgres://u:s3cret@h/d?sslrootcert=nowhere.pem" }, { directory })
      assert.strictEqual(missing.reason, "Misconfigured")
      assert.include(missing.message, `${path.join(directory, "nowhere.pem")} can't be read: ENOENT`)
      assert.match(failure({ url: "postgres://u@h/d?sslcert=me.crt" }, { directory }).message, /but not its key/)
    }))))

  it("a service is looked for in its file, then in the system's", () =>
    Effect.runSync(Effect.scoped(Effect.gen(function*() {
      const home = yield* folder({ ".pg_service.conf": "[mine]\nuser=a\nhost=h1\n", "other.conf": "[mine]\nuser=b\n" })
      const system = yield* folder({ "pg_service.conf": "[ours]\nuser=c\nhost=h3\n[mine]\nuser=d\n" })
      const user = (options: unknown, environment: Readonly<Record<string, string>> = {}): string =>
        loaded(options, { home, directory: home, environment }).endpoint.user
      assert.strictEqual(user({ service: "mine" }), "a")
      assert.strictEqual(user({ service: "mine", serviceFile: "other.conf" }), "b")
      assert.strictEqual(user({ service: "mine" }, { PGSERVICEFILE: path.join(home, "other.conf") }), "b")
      assert.strictEqual(user({ service: "ours" }, { PGSYSCONFDIR: system }), "c")
      assert.strictEqual(user({ url: "service=mine user=z" }), "z")
      assert.strictEqual(user({ environment: true }, { PGSERVICE: "mine", PGUSER: "z" }), "a")
      const missing = failure({ service: "ours" }, { home })
      assert.match(missing.message, /service ours is defined nowhere; looked in .*\.pg_service\.conf/)
      const unnamed = failure({ service: "mine", serviceFile: "nowhere.conf" }, { home, directory: home })
      assert.match(unnamed.message, /nowhere\.conf can't be read: ENOENT/)
      const broken = yield* folder({
        "a": "[x]\nuser=u\ns3cret\n",
        "b": "[x]\nuser=u\ns3cret=1\n",
        "c": "[x]\nservice=y\n"
      })
      for (
        const [serviceFile, text] of [["a", /line 3 is not/], ["b", /not one of libpq's/], [
          "c",
          /refer to another/
        ]] as const
      ) {
        const error = failure({ service: "x", serviceFile }, { directory: broken })
        assert.match(error.message, text)
        assert.notInclude(error.message, "s3cret")
      }
    }))))

  it("a password file gives the password of its server, unless others may read it", () =>
    Effect.runSync(Effect.scoped(Effect.gen(function*() {
      const home = yield* folder({
        ".pgpass": "db1:*:*:u:one\n*:5433:*:u:two\nlocalhost:5432:*:u:socket\n",
        "other": "*:*:*:*:three\n"
      })
      const password = (options: unknown, environment: Readonly<Record<string, string>> = {}): string | undefined =>
        passwordOf(loaded(options, { home, directory: home, environment }))
      assert.strictEqual(password({ url: "postgres://u@db1/d" }), "one")
      assert.strictEqual(password({ url: "postgres://u@db2:5433/d" }), "two")
      assert.strictEqual(password({ url: "postgres://u@/d?host=/run/pg" }), "socket")
      assert.isUndefined(password({ url: "postgres://u@db2/d" }))
      assert.strictEqual(password({ url: "postgres://u@db2/d", passwordFile: "other" }), "three")
      assert.strictEqual(password({ url: "postgres://u@db2/d" }, { PGPASSFILE: path.join(home, "other") }), "three")
      assert.strictEqual(password({ url: "postgres://u:given@db1/d" }), "given")
      const several = loaded({ url: "postgres://u@db1,db2:5433/d" }, { home })
      assert.deepStrictEqual(several.endpoint.hosts.map((host) => passwordOf(several, host)), ["one", "two"])
      if (process.platform === "win32") return
      fs.chmodSync(path.join(home, ".pgpass"), 0o640)
      assert.isUndefined(password({ url: "postgres://u@db1/d" }))
      const error = failure({ url: "postgres://u@db1/d", passwordFile: ".pgpass" }, { directory: home })
      assert.match(error.message, /may be read by others/)
      assert.match(error.hint, /chmod 0600/)
    }))))

  it("contradictions are refused", () => {
    for (
      const [options, text] of [
        [{ user: "u", tls: { negotiation: "direct" } }, /direct TLS negotiation is asked for while TLS is off/],
        [{ user: "u", channelBinding: "require" }, /required while TLS is off/],
        [{ host: "a,b,c", url: "postgres://u@x:1,y:2/d" }, /neither one port nor as many as hosts/]
      ] as const
    ) {
      const error = failure(options)
      assert.strictEqual(error.reason, "Misconfigured")
      assert.match(error.message, text)
    }
  })
})
