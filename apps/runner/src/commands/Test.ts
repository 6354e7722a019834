/**
 * `etl-stream test`: runs the tests of a configuration's transforms, which are written in YAML beside it (`shop.test.yaml` for `shop.yaml`).
 *
 * Nothing is connected to, and nothing of the configuration but the transforms is looked at.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { existsSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { closingWithin } from "../BoundedScope.ts"
import { type CommandError, invalidConfiguration, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import * as Decoding from "../Decoding.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import * as PipelineTransforms from "../PipelineTransforms.ts"
import * as StageTransform from "../StageTransform.ts"
import * as Terminal from "../Terminal.ts"
import { printable } from "../TextWidth.ts"
import * as Running from "../transformtests/Running.ts"
import { type Test, TestFile } from "../transformtests/TestFile.ts"
import * as YamlDocument from "../YamlDocument.ts"

export interface Options {
  /** A configuration, whose tests lie beside it, or a file of tests. */
  readonly file: string
  /** Only tests whose names hold this text; undefined: all. */
  readonly only: string | undefined
}

/** How long one test may take. */
const limit = Duration.minutes(1)

const closeLimit = Duration.seconds(2)

interface Tried {
  readonly name: string
  readonly pipeline: string
  readonly differences: ReadonlyArray<Running.Difference>
  readonly millis: number
}

const endings = [".yaml", ".yml"] as const

/** The file of tests that `file` means. */
const testFileOf = (file: string): string => {
  const ending = endings.find((ending) => file.endsWith(ending)) ?? ""
  const stem = ending === "" ? file : file.slice(0, -ending.length)
  return stem.endsWith(".test") ? file : `${stem}.test${ending}`
}

/** The configuration that a file of tests belongs to by its name. */
const configurationOf = (testFile: string): string => testFile.replace(/\.test(\.ya?ml)?$/, "$1")

const load = Effect.fnUntraced(function*(file: string) {
  if (!existsSync(file)) {
    return yield* usage(
      `There are no tests in ${file}`,
      "Write some: docs/transform-tests.md shows how. The tests of `shop.yaml` are in `shop.test.yaml`."
    )
  }
  const yaml = yield* Configuration.parse(file)
  const decoded = yield* Decoding.decode(TestFile, yaml.value, [], [])
  if (decoded._tag === "Invalid") {
    return yield* invalidConfiguration(file, decoded.findings.map((finding) => YamlDocument.problemAt(yaml, finding)))
  }
  return { yaml, tests: decoded.value }
})

/** What a test that throws instead of failing came to: the text is its author's own data at worst. */
const thrown = (cause: Cause.Cause<unknown>): ReadonlyArray<Running.Difference> => {
  const failure = Cause.squash(cause)
  const found = failure instanceof Error ? `${failure.name}: ${failure.message}` : String(failure)
  return [{ about: "the outcome", expected: "no defect of a transform", found }]
}

const attempt = Effect.fnUntraced(function*(
  test: Test,
  { directory, pipeline, redact, transforms }: PipelineTransforms.PipelineTransforms
) {
  const startedAt = yield* Clock.currentTimeMillis
  const exit = yield* Effect.gen(function*() {
    const made = yield* Effect.forEach(transforms, (stage) => StageTransform.make(stage, { pipeline, directory }))
    return yield* Running.run(test, made)
  }).pipe(
    closingWithin(closeLimit, "the transforms"),
    Effect.timeoutOrElse({
      duration: limit,
      orElse: () => Effect.die(new Error(`It was not over in ${Duration.format(limit)}`))
    }),
    Effect.catchTag("ConnectorError", (error) => Effect.die(new Error(`A transform can't be made: ${error.message}`))),
    Effect.exit
  )
  const mistake = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
  const differences = Exit.isSuccess(exit) ? exit.value : thrown(exit.cause)
  const tried: Tried = {
    name: test.name,
    pipeline,
    differences: differences.map(({ about, expected, found }) => ({
      about,
      expected: redact(expected),
      found: redact(found)
    })),
    millis: (yield* Clock.currentTimeMillis) - startedAt
  }
  return { mistake, tried }
})

/** The report as people read it; `color` for a terminal. */
const render = (tried: ReadonlyArray<Tried>, color: boolean): string => {
  const paint = (text: string, code: number): string => color ? `\x1b[${code}m${text}\x1b[0m` : text
  const failed = tried.filter(({ differences }) => differences.length > 0)
  const lines = tried.flatMap(({ differences, name, pipeline }) => [
    `${differences.length === 0 ? paint("ok    ", 32) : paint("failed", 31)} ${pipeline}: ${printable(name)}`,
    ...differences.flatMap(({ about, expected, found }) => [
      `         ${about}`,
      `           expected ${printable(expected)}`,
      `           found    ${printable(found)}`
    ])
  ])
  return [...lines, `${tried.length - failed.length} passed, ${failed.length} failed`].join("\n")
}

export const test = Effect.fn("Test.test")(
  function*({ file, only }: Options): Effect.fn.Return<Result, CommandError> {
    const testFile = testFileOf(file)
    const { tests: { configuration, environment, tests }, yaml } = yield* load(testFile)
    const configurationFile = configuration === undefined
      ? configurationOf(testFile)
      : resolve(dirname(testFile), configuration)
    const known = new Map<string | undefined, PipelineTransforms.PipelineTransforms>()
    const tried: Array<Tried> = []
    for (const [index, test] of tests.entries()) {
      if (only !== undefined && !test.name.includes(only)) continue
      const transforms = known.get(test.pipeline) ??
        (yield* PipelineTransforms.load(configurationFile, test.pipeline, { ...process.env, ...environment }))
      known.set(test.pipeline, transforms)
      const outcome = yield* attempt(test, transforms)
      if (outcome.mistake !== undefined) {
        const { message, path, remedy } = outcome.mistake
        const problem = YamlDocument.problemAt(yaml, { path: ["tests", index, ...path], at: "value", message, remedy })
        return yield* invalidConfiguration(testFile, [problem])
      }
      tried.push(outcome.tried)
    }
    if (tried.length === 0) {
      return yield* usage(`No test of ${testFile} has "${only}" in its name`, "Leave `--only` out, or shorten it.")
    }
    const exitCode = tried.some(({ differences }) => differences.length > 0) ? ExitCode.runtime : ExitCode.ok
    return {
      command: "test",
      exitCode,
      data: { file: testFile, configuration: configurationFile, tests: tried },
      text: render(tried, Terminal.wantsColor(process.stdout))
    }
  }
)
