/**
 * What plugins may rely on: these modules, and nothing else of this package.
 *
 * They are imported one by one (`import * as Sink from "@etl-stream/core/Sink"`), which starts faster than this list does. **What is promised:**
 *
 * - `Plugin.apiVersion` is the version of the contracts. It grows when a plugin that keeps to them would have to be changed. A runner refuses plugins of another
 *   version when it loads them, and says which side is to be upgraded; it never guesses.
 * - Within one version the package follows semantic versions: what is exported here stays, with its meaning. Something new is optional for whoever
 *   implements an interface (a field that may be left out), and must be expected by whoever gets a value: more fields than are known, and a new
 *   `Element` only together with a new version.
 * - Before 1.0.0 a minor version may break these promises; its changelog says how. A plugin declares `@etl-stream/core` and `effect` as peer dependencies, with the range
 *   that it was tested with.
 *
 * Everything else in this package is the engine's, and may change with any version.
 */

/** What a package exports, and what its `package.json` says. */
export * as Plugin from "./Plugin.ts"
export * as PluginManifest from "./PluginManifest.ts"

/** The contracts, one for each kind of plugin. */
export * as DeadLetterStore from "./DeadLetterStore.ts"
export * as Monitor from "./Monitor.ts"
export * as Notifier from "./Notifier.ts"
export * as Sink from "./Sink.ts"
export * as Source from "./Source.ts"
export * as StateStore from "./StateStore.ts"
export * as Transform from "./Transform.ts"

/** What passes between them. */
export * as ChangeBatch from "./ChangeBatch.ts"
export * as DeadLetter from "./DeadLetter.ts"
export * as Element from "./Element.ts"
export * as LogicalType from "./LogicalType.ts"
export * as Sequence from "./Sequence.ts"
export * as TableSchema from "./TableSchema.ts"

/** What they tell: errors, conditions, findings. */
export * as Check from "./Check.ts"
export * as Condition from "./Condition.ts"
export * as ConnectorError from "./ConnectorError.ts"
export * as Finding from "./Finding.ts"
export * as MetricDefinition from "./MetricDefinition.ts"
export * as Quarantine from "./Quarantine.ts"

/** Written row by row. */
export * as Column from "./Column.ts"
export * as RowChange from "./RowChange.ts"
export * as RowSink from "./RowSink.ts"
export * as RowSource from "./RowSource.ts"
export * as RowTable from "./RowTable.ts"
export * as RowTransform from "./RowTransform.ts"
export * as RowView from "./RowView.ts"

/** Written by columns. */
export * as BatchConcat from "./BatchConcat.ts"
export * as BatchSlice from "./BatchSlice.ts"
export * as ChangeBatchBuilder from "./ChangeBatchBuilder.ts"
export * as ColumnBuilder from "./ColumnBuilder.ts"

/** What options are made of. */
export * as ByteSize from "./ByteSize.ts"
export * as ConfigOption from "./ConfigOption.ts"
export * as LogicalTypeText from "./LogicalTypeText.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as TablePattern from "./TablePattern.ts"
