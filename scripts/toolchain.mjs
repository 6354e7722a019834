// Runs a command under the project's own toolchain (Node 24, pnpm and the locked dependencies), installing what is missing.
// Plain JavaScript for Node >= 20: it has to run before anything is installed. Usage: node scripts/toolchain.mjs <command> [args...]
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const toolchain = join(root, ".toolchain")
const bin = join(toolchain, "node_modules", ".bin")
const tools = ["node@24.21.0", "pnpm@12.21.0"]
const npm = process.platform === "win32" ? "npm.cmd" : "npm"

const run = (command, args, options = {}) => {
  const result = spawnSync(command, args, { cwd: root, stdio: ["inherit", 2, "inherit"], ...options })
  if (result.error) {
    console.error(`Could not run ${command}: ${result.error.message}`)
    process.exit(3)
  }
  if (result.status !== 0) {
    console.error(`\n${command} ${args.join(" ")} failed with exit code ${result.status ?? result.signal}`)
    process.exit(3)
  }
}

/** Runs `install` unless the stamp file says that exactly these inputs were installed before. */
const once = (name, inputs, install) => {
  const wanted = createHash("sha256").update(inputs).digest("hex")
  const stamp = join(toolchain, `${name}.sha256`)
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return
  install()
  mkdirSync(toolchain, { recursive: true })
  writeFileSync(stamp, wanted)
}

const env = { ...process.env, PATH: [bin, join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter) }

once("tools", tools.join(), () => {
  console.error(`Installing ${tools.join(" and ")} into .toolchain (once) ...`)
  mkdirSync(toolchain, { recursive: true })
  writeFileSync(join(toolchain, "package.json"), "{ \"private\": true }\n")
  run(npm, ["install", "--prefix", toolchain, "--no-audit", "--no-fund", "--loglevel=error", "--save-exact", ...tools])
  if (spawnSync(join(bin, "node"), ["--version"]).status !== 0) {
    console.error(
      "npm installed the package `node` without running its install script, which fetches the binary. " +
        "Allow install scripts (npm config set ignore-scripts false), delete .toolchain and try again."
    )
    process.exit(3)
  }
})
once("dependencies", readFileSync(join(root, "pnpm-lock.yaml")), () => {
  console.error("Installing dependencies (once per lock file) ...")
  // Older versions of PostgreSQL are installed by the tests that run on them (scripts/test.ts): nothing else needs them.
  const filter = "--filter=!@etl-stream/postgres-versions"
  run(join(bin, "pnpm"), ["install", "--frozen-lockfile", filter, "--reporter=append-only"], { env })
})

const [command, ...args] = process.argv.slice(2)
if (command !== undefined) {
  // The child gets the terminal's signals itself; the wrapper only waits and passes its result on.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {})
  const { spawn } = await import("node:child_process")
  const child = spawn(command, args, { stdio: "inherit", env })
  process.on("SIGTERM", () => child.kill("SIGTERM"))
  child.on("error", (error) => {
    console.error(`Could not run ${command}: ${error.message}`)
    process.exit(3)
  })
  child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 143)))
}
