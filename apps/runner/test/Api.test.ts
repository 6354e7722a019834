import { assert, describe } from "@effect/vitest"
import { Validator } from "@seriousme/openapi-schema-validator"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Http from "node:http"
import * as Net from "node:net"
import { errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"
import { events, fields, request, type RequestOptions } from "./HttpRequest.ts"

const configure = (
  directory: string,
  options: { readonly http?: string; readonly pipelines?: ReadonlyArray<string>; readonly sink?: string } = {}
) => {
  const { http = "port: 0", pipelines = ["numbers"], sink = "" } = options
  const stages = pipelines.map((name) =>
    `  ${name}:
    source: {plugin: "./plugins.ts:counter", options: {ends: false, changes: 1000000, tables: [numbers, letters]}}
    sink: {plugin: "./plugins.ts:lines", options: {file: ${name}.jsonl, ${sink}}, batch: {every: 5 millis}}
`
  )
  return Fixture.write(
    directory,
    "c.yaml",
    `apiVersion: 1
state: {plugin: "@etl-stream/state-sqlite", options: {file: ./state.sqlite}}
http: {${http}}
pipelines:
${stages.join("")}`
  )
}

interface Served {
  readonly running: Fixture.Running
  readonly url: string
  readonly ask: (path: string, options?: RequestOptions) => ReturnType<typeof request>
}

/** Starts the command and waits until its API is served and its pipelines stream. */
const serve = Effect.fnUntraced(function*(file: string, ...args: ReadonlyArray<string>) {
  const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis", ...args])
  const line = yield* running.stderrLine("The HTTP API is served")
  const { url } = JSON.parse(line) as { readonly url: string } // our own log line
  const served: Served = { running, url, ask: (path, options) => request(`${url}${path}`, options) }
  return served
})

const stop = Effect.fnUntraced(function*({ running }: Served) {
  running.child.kill("SIGTERM")
  const ended = yield* running.ended
  assert.strictEqual(ended.code, 0, ended.stderr)
  return ended
})

const untilActivity = ({ ask }: Served, name: string, activity: string) =>
  Effect.gen(function*() {
    while (fields(yield* ask(`/v1/pipelines/${name}`))["activity"] !== activity) yield* Effect.sleep(20)
  }).pipe(Effect.timeout("30 seconds"))

const assertWhole = (directory: string, name: string) => {
  const changes = Fixture.written(directory, `${name}.jsonl`).filter(({ kind }) => kind === "change")
  assert.isAbove(changes.length, 0)
  assert.deepStrictEqual(changes.map(({ n }) => Number(n)), changes.map((_, index) => 1002 + index))
  return changes.length
}

describe("the HTTP API of a running process", () => {
  scenario(
    "tells how pipelines and their tables are, and what it doesn't know as problem JSON",
    (directory) =>
      Effect.gen(function*() {
        const served = yield* serve(configure(directory, { pipelines: ["numbers", "others"] }))
        yield* untilActivity(served, "numbers", "streaming")
        const list = fields(yield* served.ask("/v1/pipelines"))["pipelines"]
        assert.deepStrictEqual(
          (list as ReadonlyArray<Record<string, unknown>>).map(({ name, desired }) => [name, desired]), // as the API says
          [["numbers", "running"], ["others", "running"]]
        )
        const numbers = yield* served.ask("/v1/pipelines/numbers")
        assert.strictEqual(numbers.headers["content-type"], "application/json")
        const tables = fields(numbers)["tables"] as ReadonlyArray<Record<string, unknown>> // as the API says
        assert.deepStrictEqual(tables.map(({ phase, table }) => [table, phase]), [
          ["public.numbers", "streaming"],
          ["public.letters", "streaming"]
        ])
        assert.deepInclude(fields(numbers), {
          circuit: { state: "closed", nextProbeAt: null },
          lastError: null,
          waitsFor: []
        })
        const offsets = fields(yield* served.ask("/v1/pipelines/numbers/offsets"))
        assert.match(String(offsets["received"]), /^\d+$/)
        assert.include(JSON.stringify(offsets), "\"table\":\"public.letters\"")
        const plugins = JSON.stringify(fields(yield* served.ask("/v1/plugins")))
        assert.include(plugins, "\"name\":\"./plugins.ts:counter\",\"kind\":\"source\"")
        assert.include(plugins, "\"stability\":\"stable\",\"summary\":\"Counts\"")
        assert.match(plugins, /"path":"[^"]+plugins\.ts","origin":"file"/)
        assert.deepStrictEqual(fields(yield* served.ask("/v1/monitors")), { monitors: [] })
        assert.match((yield* served.ask("/metrics")).text, /^etl_stream_sink_circuit\{.*state="closed".*\} 1$/m)

        for (
          const [path, options, status, code] of [
            ["/v1/pipelines/number", {}, 404, "UnknownPipeline"],
            ["/v1/pipelines/nope/pause", { method: "PUT" }, 404, "UnknownPipeline"],
            ["/v1/pipelines/numbers/resync", { method: "POST", body: { tables: ["numbers"] } }, 400, "InvalidTable"],
            ["/v1/pipelines/numbers/resync", { method: "POST", body: { tables: [] } }, 400, "InvalidRequest"],
            ["/v1/pipelines/numbers/resync", { method: "POST", body: { rows: 1 } }, 400, "InvalidRequest"],
            ["/v1/pipelines/numbers/dead-letters", {}, 404, "NoDeadLetters"],
            ["/v1/pipelines/numbers/dead-letters?limit=0", {}, 400, "InvalidRequest"],
            ["/v1/pipelines/numbers/tap?values=true", {}, 403, "ValuesNotAllowed"],
            ["/v1/pipelines/numbers/pause?wait=perhaps", { method: "PUT" }, 400, "InvalidRequest"],
            ["/nothing", {}, 404, "UnknownPath"]
          ] as const
        ) {
          const answer = yield* served.ask(path, options)
          assert.strictEqual(answer.status, status, path)
          assert.strictEqual(answer.headers["content-type"], "application/problem+json", path)
          assert.deepInclude(fields(answer), { code, status })
          assert.isNotEmpty(fields(answer)["detail"])
          assert.isNotEmpty(fields(answer)["hint"])
        }
        assert.strictEqual(fields(yield* served.ask("/v1/pipelines/number"))["hint"], "Did you mean `numbers`?")
        yield* stop(served)
      })
  )

  scenario(
    "describes itself by a valid OpenAPI document and a page that loads nothing from elsewhere",
    (directory) =>
      Effect.gen(function*() {
        const served = yield* serve(configure(directory))
        const document = yield* served.ask("/openapi.json")
        const validated = yield* Effect.promise(() => new Validator().validate(fields(document)))
        assert.isTrue(validated.valid, JSON.stringify(validated.errors, undefined, 1))
        const paths = Object.keys(fields(document)["paths"] as object) // as OpenAPI says
        assert.includeMembers(paths, [
          "/v1/pipelines",
          "/v1/pipelines/{name}/pause",
          "/v1/pipelines/{name}/tap",
          "/v1/events"
        ])
        const { status, text } = yield* served.ask("/docs")
        assert.strictEqual(status, 200)
        assert.notMatch(text, /<(script|link)[^>]+(src|href)="(https?:)?\/\//)
        yield* stop(served)
      })
  )

  scenario(
    "pauses, resumes and stops, however often and by however many it is asked, losing nothing",
    (directory) =>
      Effect.gen(function*() {
        const served = yield* serve(configure(directory, { sink: "slow: 2 millis" }))
        yield* untilActivity(served, "numbers", "streaming")
        const put = (verb: string, wait = false) =>
          served.ask(`/v1/pipelines/numbers/${verb}${wait ? "?wait=true" : ""}`, { method: "PUT" })
        const first = yield* put("pause", true)
        assert.strictEqual(first.status, 200)
        assert.deepInclude(fields(first), { changed: true, kept: true })
        assert.include(first.text, "\"activity\":\"paused\"")
        assert.deepInclude(fields(yield* put("pause", true)), { changed: false, kept: true })
        const paused = assertWhole(directory, "numbers")
        const verbs = ["resume", "pause", "stop", "resume", "stop", "pause", "resume"]
        for (let round = 0; round < 3; round++) {
          const answers = yield* Effect.forEach([...verbs, ...verbs], (verb) => put(verb), { concurrency: "unbounded" })
          assert.deepStrictEqual([...new Set(answers.map(({ status }) => status))], [200])
        }
        yield* put("stop", true)
        assert.strictEqual(fields(yield* served.ask("/v1/pipelines/numbers"))["activity"], "stopped")
        const refused = yield* served.ask("/v1/pipelines/numbers/resync", {
          method: "POST",
          body: { tables: ["public.numbers"] }
        })
        assert.deepStrictEqual([refused.status, fields(refused)["code"]], [409, "PipelineStopped"])
        yield* put("resume", true)
        yield* untilActivity(served, "numbers", "streaming")
        const asked = yield* served.ask("/v1/pipelines/numbers/resync", {
          method: "POST",
          body: { tables: ["public.letters"] }
        })
        assert.strictEqual(asked.status, 202)
        const begun = () =>
          Fixture.written(directory, "numbers.jsonl").filter(({ kind, table }) =>
            kind === "begin" && table === "letters"
          )
        while (begun().length < 2) yield* Effect.sleep(20)
        yield* stop(served)
        assert.isAtLeast(assertWhole(directory, "numbers"), paused)
      })
  )

  scenario(
    "a process that is killed while a pipeline drains for a pause finds it paused, and loses nothing",
    (directory) =>
      Effect.gen(function*() {
        const file = configure(directory, { sink: "slow: 50 millis" })
        const before = yield* serve(file)
        yield* untilActivity(before, "numbers", "streaming")
        while (Fixture.written(directory, "numbers.jsonl").every(({ kind }) => kind !== "change")) {
          yield* Effect.sleep(10)
        }
        assert.deepInclude(fields(yield* before.ask("/v1/pipelines/numbers/pause", { method: "PUT" })), { kept: true })
        before.running.child.kill("SIGKILL")
        yield* before.running.ended
        const held = assertWhole(directory, "numbers")
        const after = yield* serve(file)
        yield* untilActivity(after, "numbers", "paused")
        assert.strictEqual(assertWhole(directory, "numbers"), held)
        yield* after.ask("/v1/pipelines/numbers/resume", { method: "PUT" })
        while (assertWhole(directory, "numbers") === held) yield* Effect.sleep(20)
        yield* stop(after)
        assertWhole(directory, "numbers")
      })
  )

  scenario(
    "probes: alive and ready, with degraded pipelines listed; with an event stream open it ends at once",
    (directory) =>
      Effect.gen(function*() {
        const served = yield* serve(configure(directory, {
          pipelines: ["numbers", "tripping"],
          sink: "trips: {file: tripped, reason: Rejected}"
        }))
        // Of two pipelines with one file the first to write trips.
        const states = [/^\[!\] \w+ failed, degraded: failed$/m, /^\[\+\] \w+ streaming$/m]
        const verbose = yield* served.ask("/readyz?verbose").pipe(
          Effect.repeat({
            until: ({ text }) => states.every((state) => state.test(text)),
            schedule: Schedule.spaced(20)
          })
        )
        assert.strictEqual(verbose.status, 200)
        assert.match(verbose.text, /^\[\+\] supervisor ok$/m)
        assert.deepInclude(yield* served.ask("/livez"), { status: 200, text: "ok\n" })
        const stream = yield* events(`${served.url}/v1/events`)
        yield* stream.next(({ type }) => type === "progress")
        const since = Date.now()
        served.running.child.kill("SIGTERM")
        yield* stream.ended
        const ended = yield* served.running.ended
        assert.strictEqual(errorOf(ended)["code"], "Rejected")
        assert.isBelow(Date.now() - since, 20_000)
      })
  )

  scenario("with a token it answers to nobody else, and shows it nowhere", (directory) =>
    Effect.gen(function*() {
      const token = "a-token-of-more-than-24-characters"
      const served = yield* serve(configure(directory, { http: `port: 0, token: "${token}"` }))
      const bearer = (given: string) => ({ headers: { authorization: `Bearer ${given}` } })
      for (const path of ["/v1/pipelines", "/v1/events", "/metrics", "/readyz?verbose", "/nothing"]) {
        for (
          const options of [{}, bearer(`${token}x`), bearer(token.slice(1)), { headers: { authorization: token } }]
        ) {
          const answer = yield* served.ask(path, options)
          assert.strictEqual(answer.status, 401, path)
          assert.strictEqual(answer.headers["www-authenticate"], "Bearer")
          assert.strictEqual(fields(answer)["code"], "Unauthorized")
        }
      }
      assert.strictEqual((yield* served.ask("/v1/pipelines", bearer(token))).status, 200)
      for (const path of ["/livez", "/readyz", "/openapi.json"]) {
        assert.strictEqual((yield* served.ask(path)).status, 200)
      }
      const ended = yield* stop(served)
      assert.notInclude(ended.stderr + ended.stdout, token)
    }))

  scenario(
    "on loopback it refuses other hosts, other sites and requests that are too large",
    (directory) =>
      Effect.gen(function*() {
        const served = yield* serve(configure(directory, { http: "port: 0, hosts: [etl.internal]" }))
        const status = (headers: Record<string, string>) =>
          Effect.map(served.ask("/v1/pipelines", { headers }), ({ status }) => status)
        for (const host of ["evil.example", "127.0.0.1.evil.example", "a b", "user@127.0.0.1", "10.0.0.1:80"]) {
          assert.include([400, 421], yield* status({ host }), host)
        }
        for (const host of ["localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.1", "etl.internal:443"]) {
          assert.strictEqual(yield* status({ host }), 200, host)
        }
        assert.strictEqual(yield* status({ origin: "http://evil.example" }), 403)
        assert.strictEqual(yield* status({ origin: "null" }), 403)
        assert.strictEqual(yield* status({ host: "localhost:9", origin: "http://localhost:9" }), 200)
        const large = yield* served.ask("/v1/pipelines/numbers/resync", {
          method: "POST",
          body: { tables: Array.from({ length: 100_000 }, (_, index) => `public.table_${index}`) }
        }).pipe(Effect.map(({ status }) => status), Effect.orElseSucceed(() => 413))
        assert.strictEqual(large, 413)
        yield* stop(served)
      })
  )

  scenario(
    "a port that is taken, and an open address without a token, end the start with a clear error",
    (directory) =>
      Effect.gen(function*() {
        const taken = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer()
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const address = taken.address()
        const port = typeof address === "object" ? address?.port : 0
        const ended = yield* Fixture.run(["run", configure(directory, { http: `port: ${port}` }), "--json"])
        assert.strictEqual(ended.code, 3, ended.stderr)
        assert.include(String(errorOf(ended)["message"]), `can't listen on 127.0.0.1, port ${port} (EADDRINUSE)`)
        const without = yield* Fixture.start([
          "run",
          configure(directory, { http: `port: ${port}` }),
          "--no-http",
          "--json",
          "--progress-every",
          "50 millis"
        ])
        yield* without.stderrHas("\"phase\":\"streaming\"")
        for (
          const [http, problem] of [["host: 0.0.0.0", "or else a `token`"], [
            "token: short",
            "at least 24 characters"
          ]] as const
        ) {
          const invalid = yield* Fixture.run(["validate", configure(directory, { http })])
          assert.strictEqual(invalid.code, 2)
          assert.include(invalid.stderr, problem)
        }
      })
  )

  scenario("streams events as they happen, and samples without values", (directory) =>
    Effect.gen(function*() {
      const served = yield* serve(configure(directory, { pipelines: ["numbers", "others"] }))
      yield* untilActivity(served, "numbers", "streaming")
      const all = yield* events(`${served.url}/v1/events`)
      const one = yield* events(`${served.url}/v1/pipelines/numbers/events`)
      yield* served.ask("/v1/pipelines/others/pause", { method: "PUT" })
      yield* served.ask("/v1/pipelines/numbers/pause", { method: "PUT" })
      const paused = (data: Readonly<Record<string, unknown>>) => data["type"] === "activity" && data["to"] === "paused"
      const seen = [(yield* all.next(paused))["pipeline"], (yield* all.next(paused))["pipeline"]]
      assert.sameMembers(seen, ["numbers", "others"])
      assert.deepInclude(yield* one.next(paused), { pipeline: "numbers" })
      assert.notInclude(one.text(), "others")
      yield* served.ask("/v1/pipelines/numbers/resume", { method: "PUT" })
      const tap = yield* events(`${served.url}/v1/pipelines/numbers/tap?table=public.numbers`)
      const sample = yield* tap.next(({ element }) => element === "Rows")
      assert.deepInclude(sample, { table: "public.numbers", operations: { insert: 1 }, columns: ["n"] })
      assert.notProperty(sample, "values")
      yield* stop(served)
    }))

  scenario("shows values of rows in samples only when that is allowed", (directory) =>
    Effect.gen(function*() {
      const served = yield* serve(configure(directory, { http: "port: 0, tapValues: true" }))
      yield* untilActivity(served, "numbers", "streaming")
      const tap = yield* events(`${served.url}/v1/pipelines/numbers/tap?values=true`)
      const { values } = yield* tap.next(({ element }) => element === "Rows")
      assert.match(JSON.stringify(values), /^\[\{"n":"\d+"\}\]$/)
      const plain = yield* events(`${served.url}/v1/pipelines/numbers/tap`)
      assert.notProperty(yield* plain.next(({ element }) => element === "Rows"), "values")
      yield* stop(served)
    }))

  scenario(
    "requests leave no trace, least of all of their token, at the collector",
    (directory) =>
      Effect.gen(function*() {
        let received = ""
        const collector = yield* Effect.acquireRelease(
          Effect.callback<Http.Server>((resume) => {
            const server = Http.createServer((request, response) => {
              request.setEncoding("utf8").on("data", (text: string) => received += text).on(
                "end",
                () => response.end("{}")
              )
            })
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const address = collector.address()
        const port = typeof address === "object" ? address?.port : 0
        const token = "a-token-of-more-than-24-characters"
        const served = yield* serve(configure(directory, {
          http: `port: 0, token: "${token}"}\ntelemetry: {otlp: {endpoint: "http://127.0.0.1:${port}"}`
        }))
        const answer = yield* served.ask("/v1/pipelines?x=y", { headers: { authorization: `Bearer ${token}` } })
        assert.strictEqual(answer.status, 200)
        // By then the copy was written, which has a span.
        yield* served.running.stderrHas("\"phase\":\"streaming\"")
        yield* stop(served)
        assert.include(received, "etl_stream.sink.write")
        assert.notInclude(received, "/v1/pipelines")
        assert.notInclude(received, token)
      })
  )
})
