/**
 * Wrong code in `typetest/wrong` doesn't compile, for the reasons that stand in a comment (`// tsc: …`) above each wrong line, and right code in
 * `typetest/right` does.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { globSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const folder = new URL("../typetest/", import.meta.url).pathname

interface Diagnostic {
  readonly at: string
  readonly message: string
}

/** What the compiler says of all files, each diagnostic with its whole message. */
const diagnostics = async (): Promise<ReadonlyArray<Diagnostic>> => {
  const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc")
  const run = promisify(execFile)(process.execPath, [
    compiler,
    "-p",
    folder,
    "--pretty",
    "false",
    "--noErrorTruncation"
  ], {
    cwd: folder
  })
  const output = await run.then(({ stdout }) => stdout, (error: { readonly stdout: string }) => error.stdout)
  const found: Array<{ at: string; message: string }> = []
  for (const line of output.split("\n")) {
    const match = /^([^ (]\S*)\((\d+),\d+\): error (.*)$/.exec(line)
    const last = found.at(-1)
    if (match !== null) found.push({ at: `${match[1]}:${match[2]}`, message: match[3] ?? "" })
    else if (last !== undefined) last.message += `\n${line}`
  }
  return found
}

/** The comments of the wrong files: the line that comes next, and what the compiler is to say of it. */
const expectations = (): ReadonlyArray<Diagnostic> =>
  globSync("wrong/*.ts", { cwd: folder }).sort().flatMap((file) => {
    const lines = readFileSync(join(folder, file), "utf8").split("\n")
    return lines.flatMap((line, index) => {
      const message = /^\s*\/\/ tsc: (.*)$/.exec(line)?.[1]
      if (message === undefined) return []
      let next = index + 1
      while (/^\s*\/\/ tsc: /.test(lines[next] ?? "")) next++
      return [{ at: `${file}:${next + 1}`, message }]
    })
  })

describe("The compiler", () => {
  it("says in words what is wrong with a plugin, and nothing of one that is right", async () => {
    const found = await diagnostics()
    const expected = expectations()
    assert.isAtLeast(expected.length, 25)
    for (const { at, message } of expected) {
      const said = found.filter((one) => one.at === at).map((one) => one.message).join("\n")
      assert.include(said, message, at)
    }
    const places = new Set(expected.map(({ at }) => at))
    assert.deepStrictEqual(found.filter(({ at }) => !places.has(at)), [])
  })
})
