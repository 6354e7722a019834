/**
 * How a plugin declares its options so that people and editors see what decoding sees: defaults, secrets, examples, deprecations.
 *
 * A plugin's options are an `effect/Schema` struct. Of each key, the description, the default, the examples and a deprecation are annotations; whether it is required,
 * what it takes and whether it is a secret follow from the schema itself. From them come the errors of `etl-stream validate`, the JSON Schema for editors
 * (`etl-stream schema`), `etl-stream plugin docs` and the reference pages. Say a default with `withDefault`, not in the description: what is decoded and
 * what is told can't differ then.
 *
 * ```ts
 * const Config = Schema.Struct({
 *   url: ConfigOption.Secret.pipe(ConfigOption.describe("Address to post to")),
 *   batch: Schema.Int.check(Schema.isGreaterThan(0)).pipe(
 *     ConfigOption.withDefault(500),
 *     ConfigOption.describe("Rows of a request at most")
 *   ),
 *   size: Schema.optionalKey(Schema.Int).pipe(ConfigOption.deprecated("Use `batch`"))
 * })
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

declare module "effect/Schema" {
  namespace Annotations {
    interface Annotations {
      /** Of a key that still works and should not be used any more: what to do instead, a sentence in the imperative ("Use `slot.name`"). */
      readonly deprecated?: string | undefined
      /** What a value is, with its article (`a size`, `a path`), where the schema alone would say no more than `text`. On the encoded side. */
      readonly kind?: string | undefined
      /**
       * Keywords of JSON Schema (draft-07) that the value as written satisfies whenever it decodes, such as a `pattern`. On the encoded side. For editors: decoding goes
       * by the schema alone, so that these must never refuse what it takes.
       */
      readonly jsonSchema?: Json | undefined
    }
  }
}

/** Annotates a key as it is written, where `annotateKey` annotates it as it is decoded. */
const annotateEncodedKey =
  <S extends Schema.Top>(annotations: Schema.Annotations.Key<S["Encoded"]>) => (self: S): S["Rebuild"] =>
    Schema.flip(Schema.flip(self).annotateKey(annotations))

/** What the option means: one sentence or two, in Markdown, without its default. */
export const describe = <S extends Schema.Top>(description: string) => (self: S): S["Rebuild"] =>
  self.annotateKey({ description })

/** Makes a key optional. `value`, as it would be written, is decoded in its place, and shown wherever the option is. */
export const withDefault =
  <S extends Schema.Top>(value: S["Encoded"]) => (self: S): Schema.withDecodingDefaultKey<S>["Rebuild"] =>
    annotateEncodedKey<Schema.withDecodingDefaultKey<S>>({ default: value })(
      Schema.withDecodingDefaultKey<S>(Effect.succeed(value))(self)
    )

/** Values as one would write them, for errors, editors and the reference. Never a secret: a reference such as `${env:TOKEN}`. */
export const withExamples =
  <S extends Schema.Top>(first: S["Encoded"], ...more: ReadonlyArray<S["Encoded"]>) => (self: S): S["Rebuild"] =>
    annotateEncodedKey<S>({ examples: [first, ...more] })(self)

/** Whoever still writes the option is warned. `instead`: what to do, a sentence in the imperative (``Use `slot.name` ``). */
export const deprecated = <S extends Schema.Top>(instead: string) => (self: S): S["Rebuild"] =>
  self.annotateKey({ deprecated: instead })

/** Text that nobody may see: redacted from the moment it is decoded, in logs and errors too. Not empty. */
export const Secret = Schema.RedactedFromValue(Schema.NonEmptyString)

/** Path of a file or folder. Relative ones are relative to `PluginContext.directory`: resolve them when the plugin is made. */
export const Path = Schema.NonEmptyString.annotate({ kind: "a path" })

/** A duration above 0 and not infinite, written as a number and a unit: `30 seconds`, `1.5 hours`. */
export const Period = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0, {
    expected: "a duration above 0 (not infinite)"
  })
).pipe(
  Schema.annotateEncoded({
    jsonSchema: {
      pattern: "^(?=[^ ]*[1-9])[0-9]+(\\.[0-9]+)?\\s+(nanos?|micros?|millis?|seconds?|minutes?|hours?|days?|weeks?)$"
    }
  })
)

/** A size in bytes, above 0: `16MiB`, `1.5GB`, or a number. */
export { ByteSize } from "./ByteSize.ts"
