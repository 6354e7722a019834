/**
 * The options of the Snowflake sink, with their descriptions and defaults.
 *
 * Decoding is pure: files named here are read when the sink is made. Secrets are redacted from the moment they are decoded.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import { parseTableId, tableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { DeadLetterConfig } from "./DeadLetterConfig.ts"
import * as Identifier from "./Identifier.ts"
import * as SchemaPolicies from "./SchemaPolicies.ts"
import * as TypeOverride from "./TypeOverride.ts"

const secret = ConfigOption.Secret

const Auth = Schema.Struct({
  privateKey: Schema.optionalKey(secret).annotate({
    description: "RSA private key, PEM (PKCS#8), for key-pair authentication"
  }),
  privateKeyFile: Schema.optionalKey(ConfigOption.Path).annotate({
    description: "File of the RSA private key, PEM (PKCS#8); relative to the configuration file"
  }),
  passphrase: Schema.optionalKey(secret).annotate({ description: "Passphrase of an encrypted private key" }),
  token: Schema.optionalKey(secret).annotate({ description: "Programmatic access token (PAT)" }),
  oauthToken: Schema.optionalKey(secret).annotate({ description: "OAuth access token" }),
  password: Schema.optionalKey(secret).annotate({
    description:
      "Password; a programmatic access token works here too, a real password can't be used for Snowpipe Streaming"
  })
}).check(Schema.makeFilter((auth) => {
  const given = (["privateKey", "privateKeyFile", "token", "oauthToken", "password"] as const).filter((key) =>
    auth[key] !== undefined
  )
  return given.length === 1
    ? undefined
    : `exactly one of privateKey, privateKeyFile, token, oauthToken or password is needed, ${
      given.length === 0 ? "none is" : given.join(" and ") + " are"
    } given`
}))

const positive = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => Duration.toMillis(duration) > 0 ? undefined : "must be longer than zero")
)

/** Snowflake's shortest interval of a task. */
const taskMillis = 10_000

const Merge = Schema.Struct({
  every: positive.pipe(ConfigOption.withDefault("1 minute")).annotate({
    description:
      "How often changes of a table are merged into its target, when there are any; each merge uses the warehouse"
  }),
  immediateRows: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).pipe(
    ConfigOption.withDefault(10_000)
  ).annotate({
    description:
      "Changes of a table of which nothing was merged for `every` are merged as soon as they are committed, when there are no more than this many; the table's next merge comes `every` later. 0: all wait for `every`"
  }),
  parallel: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 }))).annotate({
    description:
      "How many tables are merged at a time (default: as many as `connections`, each of which runs one statement at a time)"
  }),
  by: Schema.Literals(["runner", "task"]).pipe(ConfigOption.withDefault("runner"))
    .annotate({
      description:
        "Who merges: the runner, or for each table with a key a task in Snowflake, which the sink makes and keeps (`every` is then 10 seconds at least, and `minRows` doesn't count)"
    }),
  taskWarehouse: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Warehouse of the tasks; when absent they are serverless"
  }),
  minRows: Schema.Int.check(Schema.isGreaterThan(0)).pipe(ConfigOption.withDefault(1)).annotate({
    description: "A merge waits for this many changes of a table, but not longer than ten times `every`"
  }),
  keyRanges: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotate({
    description:
      "Merges name the smallest and the greatest key of their changes, so that Snowflake reads only the micro-partitions between; false where keys must not be in its query history"
  })
}).check(Schema.makeFilter(({ by, every }) =>
  by === "task" && Duration.toMillis(every) < taskMillis
    ? { path: ["every"], issue: "must be 10 seconds or more when `by` is task" }
    : undefined
))

const Journal = Schema.Struct({
  retention: Schema.DurationFromString.pipe(ConfigOption.withDefault("1 day")).annotate({
    description:
      "How long merged changes stay in the journal tables at least; they go after a later merge (`Infinity`: never)"
  }),
  errorLogging: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotate({
    description:
      "Have Snowflake keep rows that it skips, values included, in an error table of the journal (ERROR_LOGGING), so that the error names the column"
  })
})

const Copy = Schema.Struct({
  every: Schema.DurationFromString.pipe(ConfigOption.withDefault("30 seconds")).annotate({
    description:
      "How long chunks of a table's copy that have ended may wait for others, to be loaded with them; after a crash only chunks that were not loaded are copied again"
  }),
  fileBytes: ByteSize.pipe(ConfigOption.withDefault("128MB")).annotate({
    description:
      "Size, compressed, at which a file for the stage is ended and uploaded; Snowflake loads files of 100 to 250 MB best. A file also ends with its chunk (`snapshot.chunkBytes` of the source)"
  }),
  memory: ByteSize.pipe(ConfigOption.withDefault("256MiB")).annotate({
    description:
      "Memory for files on their way to the stage, over all tables that are copied at a time: half for files that grow (which end earlier when it is used up), half for uploads"
  })
})

const Changelog = Schema.Struct({
  currentSuffix: Schema.String.pipe(ConfigOption.withDefault("_CURRENT")).annotate({
    description:
      "Beside each changelog of a table with a key there is a view of the table's current state: the table's name with this at its end. Empty: no views"
  })
})

const Streaming = Schema.Struct({
  client: Schema.Literals(["rest", "sdk", "auto"]).pipe(
    ConfigOption.withDefault("rest")
  ).annotate({
    description:
      "rest: the REST API; sdk: the official npm package `snowpipe-streaming`, which you install beside the configuration file; auto: the package when it is installed"
  }),
  compression: Schema.Literals(["auto", "zstd", "gzip"]).pipe(
    ConfigOption.withDefault("auto")
  ).annotate({
    description: "Compression of requests; auto: zstd, and gzip once zstd was refused (by a proxy, for example)"
  })
})

const Mode = Schema.Literals(["mirror", "changelog", "history"])

const Deletes = Schema.Literals(["hard", "soft"])

const Keyless = Schema.Literals(["identity", "append"])

/** A name for one of our columns. Those that begin with _ETL_ are taken, but for its own. */
const metadataName = (own: string, description: string) =>
  Schema.NonEmptyString.check(
    Schema.isMaxLength(255),
    Schema.makeFilter((text) => {
      const name = Identifier.fromConfig(text)
      return name === own || !name.toUpperCase().startsWith("_ETL_")
        ? undefined
        : `must not begin with _ETL_, which other columns do (but for ${own})`
    })
  ).pipe(ConfigOption.withDefault(own)).annotate({ description })

const MetadataNames = Schema.Struct({
  deleted: metadataName("_ETL_DELETED", "Of mirrors with soft deletes: whether the row was deleted at the source"),
  syncedAt: metadataName("_ETL_SYNCED_AT", "Of mirrors: when the row was last written"),
  validFrom: metadataName("_ETL_VALID_FROM", "Of histories: when the version began"),
  validTo: metadataName("_ETL_VALID_TO", "Of histories: when the version ended")
}).check(Schema.makeFilter((names) => {
  const folded = Object.values(names).map((text) => Identifier.fromConfig(text).toUpperCase())
  return new Set(folded).size === folded.length ? undefined : "the names must differ, in more than case"
}))

const Column = Schema.Struct({
  type: Schema.optionalKey(
    Schema.String.check(
      Schema.makeFilter((text) => TypeOverride.parse(text) !== undefined, { expected: TypeOverride.expected })
    )
  ).annotate({
    description:
      "The column's type in Snowflake instead of the one that fits the source's, such as `NUMBER(20,4)` or `VARCHAR(134217728)`; see types.md for what can be kept as what. A value that would be rounded or cut is refused"
  })
})

/** Options that one table may have of its own; absent ones are the sink's. */
export const Table = Schema.Struct({
  mode: Schema.optionalKey(Mode).annotate({ description: "The table's own `mode`" }),
  channels: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 }))).annotate({
    description:
      "How many channels the table's changes are streamed through, spread by key (default 1); each carries up to 20 MB and 10 requests a second"
  }),
  deletes: Schema.optionalKey(Deletes).annotate({ description: "The table's own `deletes`" }),
  keyless: Schema.optionalKey(Keyless).annotate({ description: "The table's own `keyless`" }),
  merge: Schema.optionalKey(Schema.Struct({
    every: Schema.optionalKey(positive).annotate({ description: "The table's own `merge.every`" })
  })).annotate({ description: "When the table's changes are merged; what is absent is the sink's" }),
  schemaEvolution: Schema.optionalKey(SchemaPolicies.Own).annotate({
    description: "The table's own `schemaEvolution`; what is absent is the sink's"
  }),
  columns: Schema.optionalKey(Schema.Record(Schema.NonEmptyString, Column)).annotate({
    description: "Options of single columns, by their names as the source (after transforms) has them"
  })
})
export type Table = typeof Table.Type

/** A table's name as everything else writes it, so that no entry can miss its table by its spelling. */
const TableKey = Schema.String.check(
  Schema.makeFilter((key) => {
    const name = parseTableId(key)
    return name !== undefined && tableId(name) === key
  }, { expected: "a table as schema.table, either part in double quotes only if it holds a dot or a quote" })
)

const noTables: Readonly<Record<string, never>> = {}

export const Config = Schema.Struct({
  account: Schema.NonEmptyString.pipe(ConfigOption.withExamples("EXAMPLE-ACCOUNT")).annotate({
    description: "Account identifier, ORGANIZATION-ACCOUNT"
  }),
  url: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^https?:\/\/[^/]+\/?$/u, {
    expected: "a URL of http or https without a path"
  }))).annotate({
    description: "Base URL instead of https://ACCOUNT.snowflakecomputing.com (private link, local server)"
  }),
  user: Schema.NonEmptyString.annotate({ description: "User to log in as" }),
  auth: Auth.annotate({ description: "How to log in: one of privateKey, privateKeyFile, token, oauthToken, password" }),
  role: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Role to use; the user's default role when absent"
  }),
  warehouse: Schema.NonEmptyString.annotate({ description: "Warehouse for copies and merges" }),
  database: Schema.NonEmptyString.annotate({ description: "Database of the tables; must exist" }),
  schema: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Schema of all tables; when absent, each table goes to a schema named as at the source"
  }),
  journalSchema: Schema.NonEmptyString.pipe(ConfigOption.withDefault("ETL_STREAM")).annotate({
    description: "Schema of the journal tables, the state table and the stage"
  }),
  mode: Mode.pipe(ConfigOption.withDefault("mirror")).annotate({
    description:
      "mirror: tables as they are now at the source; changelog: every change as a row, append only; history: every version of each row, with the times that it was valid from and to"
  }),
  deletes: Deletes.pipe(ConfigOption.withDefault("hard")).annotate({
    description:
      "What a delete at the source does in mode mirror. hard: the row goes; soft: it stays with its last values, and `_ETL_DELETED` is true"
  }),
  keyless: Keyless.pipe(ConfigOption.withDefault("identity")).annotate({
    description:
      "How mode mirror keeps tables without a key whose replica identity is FULL. identity: updates and deletes take away as many equal rows as they did at the source, found by a hash over the whole row; append: rows are only added, without hash or comparison, and an update or delete stops the table"
  }),
  metadata: MetadataNames.pipe(ConfigOption.withDefault({})).annotate({
    description:
      "Names of columns that tables get beside their own, read as SQL reads identifiers (`_deleted` is `_DELETED`). When one is changed, the columns are renamed at the next start"
  }),
  tables: Schema.Record(TableKey, Table).pipe(
    ConfigOption.withDefault(noTables)
  ).annotate({
    description: "Options of single tables, by `schema.table` as the source (after transforms) names it"
  }),
  copy: Copy.pipe(ConfigOption.withDefault({})).annotate({
    description: "How the rows that tables begin with are loaded"
  }),
  merge: Merge.pipe(ConfigOption.withDefault({})).annotate({
    description: "When changes are merged (modes mirror and history)"
  }),
  journal: Journal.pipe(ConfigOption.withDefault({})).annotate({
    description: "Journal tables (modes mirror and history)"
  }),
  schemaEvolution: SchemaPolicies.SchemaPolicies.pipe(ConfigOption.withDefault({})).annotate({
    description: "What happens when a table's columns change, by kind of change"
  }),
  changelog: Changelog.pipe(ConfigOption.withDefault({})).annotate({
    description: "Changelogs (mode changelog)"
  }),
  streaming: Streaming.pipe(ConfigOption.withDefault({})).annotate({
    description: "How changes are streamed to Snowflake"
  }),
  outOfRange: Schema.Literals(["fail", "null", "clamp"]).pipe(
    ConfigOption.withDefault("fail")
  ).annotate({
    description:
      "Values that Snowflake's type can't hold (infinite or BC dates, years above 9999, 24:00, NaN in NUMBER): fail, write NULL, or the nearest value (NULL where there is none). In key columns they always fail"
  }),
  deadLetters: Schema.optionalKey(DeadLetterConfig).annotate({
    description:
      "Where values are kept that can't be written (out of range, too long, would be rounded), their rows being written with NULL instead: a store of the sink's own, instead of the pipeline's `deadLetters`. Without either such a value stops its table. See dead-letters.md"
  }),
  connections: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 })).pipe(
    ConfigOption.withDefault(2)
  ).annotate({ description: "Sessions for copies, merges and DDL" })
}).check(Schema.makeFilter(({ merge, tables }) => {
  if (merge.by !== "task") return undefined
  return Object.entries(tables).filter(([, { merge: own }]) =>
    own?.every !== undefined && Duration.toMillis(own.every) < taskMillis
  ).map(([id]) => ({
    path: ["tables", id, "merge", "every"],
    issue: "must be 10 seconds or more when `merge.by` is task"
  }))
}))

export type Config = typeof Config.Type
export type OutOfRange = Config["outOfRange"]
