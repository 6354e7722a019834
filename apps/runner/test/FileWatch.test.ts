import { assert, describe, it } from "@effect/vitest"
import * as FileWatch from "@etl-stream/runner/FileWatch"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import { join } from "node:path"
import { scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

/** Ways in which a file comes to say something else. */
const ways: Readonly<Record<string, (file: string, text: string) => void>> = {
  "written in place": (file, text) => Fs.writeFileSync(file, text),
  "replaced by a rename, as editors do": (file, text) => {
    Fs.writeFileSync(`${file}.new`, text)
    Fs.renameSync(`${file}.new`, file)
  },
  "moved away and written anew": (file, text) => {
    Fs.renameSync(file, `${file}~`)
    Fs.writeFileSync(file, text)
  }
}

const changedWithin = (change: Effect.Effect<void>) => Effect.timeoutOption(change, "10 seconds")

describe("a watched file", () => {
  for (const [name, way] of Object.entries(ways)) {
    for (const [how, poll] of [["notifications", "1 hour"], ["looking alone", "50 millis"]] as const) {
      it.live(`that is ${name} is found by ${how}, again and again`, () =>
        Effect.gen(function*() {
          const folder = yield* Fixture.folder
          const file = Fixture.write(folder, "c.yaml", "0")
          const change = yield* FileWatch.make(file, { poll, settled: "10 millis" })
          for (let round = 1; round <= 3; round++) {
            way(file, String(round))
            assert.isTrue((yield* changedWithin(change))._tag === "Some", `round ${round}`)
          }
        }))
    }
  }

  it.live("behind a symbolic link above it that is turned is found, as a mounted ConfigMap is", () =>
    Effect.gen(function*() {
      const folder = yield* Fixture.folder
      for (const version of ["1", "2"]) {
        Fs.mkdirSync(join(folder, version))
        Fixture.write(join(folder, version), "c.yaml", version)
      }
      Fs.symlinkSync("1", join(folder, "..data"))
      Fs.symlinkSync(join("..data", "c.yaml"), join(folder, "c.yaml"))
      const change = yield* FileWatch.make(join(folder, "c.yaml"), { poll: "1 hour", settled: "10 millis" })
      Fs.symlinkSync("2", join(folder, "..data_tmp"))
      Fs.renameSync(join(folder, "..data_tmp"), join(folder, "..data"))
      assert.isTrue((yield* changedWithin(change))._tag === "Some")
    }))

  it.live("that is touched or away is no change; that it came back with another text is one", () =>
    Effect.gen(function*() {
      const folder = yield* Fixture.folder
      const file = Fixture.write(folder, "c.yaml", "text")
      const change = yield* FileWatch.make(file, { poll: "20 millis", settled: "10 millis" })
      const waiting = yield* Effect.forkChild(change)
      Fs.utimesSync(file, new Date(), new Date())
      // Ten looks each time: that nothing comes of them has no other sign.
      yield* Effect.sleep(200)
      Fs.rmSync(file)
      yield* Effect.sleep(200)
      Fs.writeFileSync(file, "text")
      yield* Effect.sleep(200)
      assert.isUndefined(waiting.pollUnsafe())
      Fs.writeFileSync(file, "other")
      assert.isTrue((yield* changedWithin(Fiber.join(waiting)))._tag === "Some")
    }))

  it.live("that changed before the watching began is a change since it was read", () =>
    Effect.gen(function*() {
      const folder = yield* Fixture.folder
      const file = Fixture.write(folder, "c.yaml", "text")
      const since = FileWatch.digestOf(file)
      Fs.writeFileSync(file, "other")
      const change = yield* FileWatch.make(file, { poll: "1 hour", settled: "10 millis", since })
      assert.isTrue((yield* changedWithin(change))._tag === "Some")
    }))
})

describe("run --watch", () => {
  const text = (directory: string, source: string) =>
    Fixture.write(directory, "c.yaml", Fixture.onePipeline(`ends: false, changes: 100000, ${source}`))

  scenario(
    "takes a change of the file over; a bad file is told, and what runs goes on",
    (directory) =>
      Effect.gen(function*() {
        const file = text(directory, "tables: [numbers]")
        const running = yield* Fixture.start(["run", file, "--watch", "--json", "--progress-every", "50 millis"])
        yield* running.stderrHas("\"phase\":\"streaming\"")
        text(directory, "nonsense: 1")
        yield* running.stderrHas("Unknown key `nonsense`.")
        Fs.writeFileSync(`${file}.new`, Fs.readFileSync(text(directory, "tables: [numbers, letters]")))
        Fs.renameSync(`${file}.new`, file)
        yield* running.stderrHas("The reload is complete")
        yield* running.stderrHas("\"run\":2")
        running.child.kill("SIGTERM")
        assert.strictEqual((yield* running.ended).code, 0)
        const changes = Fixture.written(directory).filter(({ kind }) => kind === "change").map(({ n }) => Number(n))
        assert.deepStrictEqual(changes, changes.map((_, index) => 1002 + index))
      })
  )
})
