/**
 * Our packages as a user has them: built, packed, and installed from the tarballs in a folder outside of the checkout, where the clients and the runner are run.
 *
 * In the checkout they are TypeScript, which Node compiles at each start, in every thread: that takes processor time and some 25 MB that nobody who installs them has to give.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { copyFileSync, readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import * as Tarballs from "../test/Tarballs.ts"

export interface InstalledShape {
  /** File of one of `client/`, among the installed packages. */
  readonly client: (name: string) => string
  /** The launcher of `etl-stream`. */
  readonly runner: string
}

const decodeDependencies = Schema.decodeUnknownSync(Schema.fromJsonString(
  Schema.Struct({ dependencies: Schema.Record(Schema.String, Schema.String) })
))

const make = Effect.gen(function*() {
  const tarballs = yield* Tarballs.packed
  const folder = yield* Tarballs.temporaryFolder
  const { dependencies } = decodeDependencies(readFileSync(path.join(import.meta.dirname, "package.json"), "utf8"))
  yield* Tarballs.install(tarballs, folder, {
    // What is not published, the bench needs for itself.
    dependencies: Object.fromEntries(
      Object.entries(dependencies).filter(([name, version]) => version !== "workspace:*" || tarballs.has(name))
    )
  })
  const clients = path.join(import.meta.dirname, "client")
  for (const file of readdirSync(clients)) copyFileSync(path.join(clients, file), path.join(folder, file))
  return {
    client: (name: string) => path.join(folder, `${name}.ts`),
    runner: path.join(folder, "node_modules", "@etl-stream", "runner", "bin", "etl-stream.js")
  }
})

export class Installed extends Context.Service<Installed, InstalledShape>()("@etl-stream/bench/Installed") {
  /** Installs them, which takes a minute for each state of the sources; the folder goes with the layer. */
  static readonly layer: Layer.Layer<Installed, Tarballs.TarballsError> = Layer.effect(Installed, make)
}
