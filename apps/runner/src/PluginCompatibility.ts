/**
 * Whether a plugin package goes with this etl-stream, by its package.json alone: its manifest and the versions that it asks for. Nothing of it is run.
 *
 * A wrong version of the contracts, or of a peer, is refused with the side to upgrade. What works but shouldn't be left so is a warning.
 */
import { apiVersion } from "@etl-stream/core/Plugin"
import * as PluginManifest from "@etl-stream/core/PluginManifest"
import * as Effect from "effect/Effect"
import * as Decoding from "./Decoding.ts"
import type { OwningPackage } from "./OwningPackage.ts"
import { PluginError } from "./PluginError.ts"
import { formatPath } from "./Problem.ts"
import * as SharedModules from "./SharedModules.ts"
import * as VersionRange from "./VersionRange.ts"

/** What `plugin list` and `validate` tell about a plugin that can be used. */
export type Warnings = ReadonlyArray<string>

/** Fails for a plugin that was written for another version of the contracts. */
export const checkApiVersion = (name: string, version: number): Effect.Effect<void, PluginError> =>
  version === apiVersion
    ? Effect.void
    : Effect.fail(
      new PluginError({
        message:
          `The plugin ${name} was written for plugin API version ${version}; this etl-stream has version ${apiVersion}.`,
        hint: version > apiVersion
          ? "Upgrade etl-stream, or install an older version of the plugin."
          : "Install a newer version of the plugin."
      })
    )

const apiVersionIn = (manifest: unknown): unknown =>
  typeof manifest === "object" && manifest !== null && "apiVersion" in manifest ? manifest.apiVersion : undefined

const judgeManifest = Effect.fnUntraced(
  function*(name: string, owner: OwningPackage): Effect.fn.Return<Warnings, PluginError> {
    const manifest = owner.field(PluginManifest.key)
    if (manifest === undefined) {
      return [
        `${owner.file} has no manifest: add \`"${PluginManifest.key}": { "apiVersion": ${apiVersion} }\`, so that its version is known before it is run.`
      ]
    }
    // One of another version may say other things.
    const version = apiVersionIn(manifest)
    if (typeof version === "number" && Number.isInteger(version)) yield* checkApiVersion(name, version)
    const decoded = yield* Decoding.decode(PluginManifest.Manifest, manifest, [PluginManifest.key], [])
    const findings = decoded._tag === "Valid" ? [] : decoded.findings
    // An unknown key may be a later version's.
    const [wrong] = findings.filter(({ at }) => at === "value")
    if (wrong !== undefined) {
      return yield* new PluginError({
        message: `The manifest of the plugin ${name} is malformed: ${
          formatPath(wrong.path)
        } in ${owner.file}: ${wrong.message}`,
        hint: `${wrong.remedy} See docs/plugins/loading.md, or report it to the plugin's author.`
      })
    }
    return findings.map(({ message, path, remedy }) => `${formatPath(path)} in ${owner.file}: ${message} ${remedy}`)
  }
)

const judged = ["@etl-stream/core", "effect"] as const

const upgrade = (shared: SharedModules.Name, least: string): string =>
  // All packages of ours have the same version.
  shared === "@etl-stream/core"
    ? `Upgrade etl-stream to ${least} or later`
    : `Upgrade etl-stream to one with ${shared} ${least} or later`

/** What a package asks of the copies that it will be given. */
const judgeRanges = Effect.fnUntraced(
  function*(name: string, owner: OwningPackage): Effect.fn.Return<Warnings, PluginError> {
    const warnings: Array<string> = []
    for (const shared of judged) {
      const asked = owner.asks(shared)
      if (asked === undefined || asked.field === "devDependencies") {
        if (shared === "@etl-stream/core") {
          warnings.push(
            `${owner.file} has no range of ${shared} in peerDependencies: whether it goes with this etl-stream can't be told.`
          )
        }
        continue
      }
      const { field, range } = asked
      const isPeer = field === "peerDependencies"
      if (!isPeer) {
        warnings.push(
          `${owner.file} has ${shared} in ${field}: the plugin gets etl-stream's own copy whatever is installed with it. Move it to peerDependencies (and devDependencies).`
        )
      } else if (VersionRange.isAny(range)) {
        warnings.push(
          `${owner.file} takes any version of ${shared}: name the range that it was tried with, such as ^${
            SharedModules.versionOf(shared)
          }.`
        )
      }
      const version = SharedModules.versionOf(shared)
      const standing = VersionRange.judge(isPeer ? range : VersionRange.loosened(range), version)
      if (standing !== "older" && standing !== "newer") continue
      const least = VersionRange.least(range) ?? range
      return yield* new PluginError({
        message:
          `The plugin ${name} asks for ${shared} ${range} (${field} in ${owner.file}); this etl-stream has ${version}.`,
        hint: standing === "older"
          ? `${upgrade(shared, least)}, or install an older version of the plugin.`
          : `Install a newer version of the plugin, one that takes ${shared} ${version}.`
      })
    }
    return warnings
  }
)

/** Judges the plugin package `owner`, which a configuration names `name`. */
export const judge = Effect.fn("PluginCompatibility.judge")(
  function*(name: string, owner: OwningPackage): Effect.fn.Return<Warnings, PluginError> {
    const manifest = yield* judgeManifest(name, owner)
    const ranges = yield* judgeRanges(name, owner)
    return owner.keywords.includes(PluginManifest.keyword)
      ? [...manifest, ...ranges]
      : [
        ...manifest,
        ...ranges,
        `${owner.file} lacks the keyword \`${PluginManifest.keyword}\`, by which plugins are found.`
      ]
  }
)

/** Judges a plugin that is a file of the project `owner`: as a package if that says that it is one. */
export const judgeFile = (name: string, owner: OwningPackage): Effect.Effect<Warnings, PluginError> =>
  owner.field(PluginManifest.key) !== undefined ? judge(name, owner) : Effect.sync(() =>
    judged.flatMap((shared) => {
      const { range = "*" } = owner.asks(shared) ?? {}
      const version = SharedModules.versionOf(shared)
      const standing = VersionRange.judge(range, version)
      return standing === "within" || standing === "unknown"
        ? []
        : [`${owner.file} asks for ${shared} ${range}; a plugin in it gets etl-stream's own ${version}.`]
    })
  )
